"""Proxy objects as they are stored, in place of Gateways: for ``gateway.enableGatewayController: false``.

Whoever writes them is not asked here: every Proxy in the write namespace is served as it stands, compressed or not.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from google.protobuf import json_format

from gloo_nomad.api.gen import proxy_pb2, ssl_pb2
from gloo_nomad.api.kinds import PROXY
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.gateway.names import route_config_name
from gloo_nomad.options.hooks import NO_LISTENER, Claims
from gloo_nomad.proxies import HttpGroup, Listener, Proxy, RouteOrigin, TcpGroup, VirtualHost
from gloo_nomad.reports import Problem, Problems, error
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot

READS: Claims = {
    "gloo.solo.io.Proxy": ("listeners", "compressedSpec", "metadata", "namespaced_statuses"),
    "gloo.solo.io.Listener": (
        "name",
        "bind_address",
        "bind_port",
        "http_listener",
        "tcp_listener",
        "hybrid_listener",
        "aggregate_listener",
        "ssl_configurations",
        "use_proxy_proto",
        "options",
        "metadata",
        "metadata_static",
        "route_options",
    ),
    "gloo.solo.io.HttpListener": ("virtual_hosts", "options", "stat_prefix", "metadata", "metadata_static"),
    "gloo.solo.io.TcpListener": ("tcp_hosts", "options", "stat_prefix"),
    "gloo.solo.io.AggregateListener.HttpFilterChain": ("matcher", "http_options_ref", "virtual_host_refs"),
}
_CUSTOM: Final = "Kubernetes only: the Gateway API"
WARNED: Final = {
    "gloo.solo.io.HttpListener": {
        "custom_http_filters": _CUSTOM,
        "custom_network_filters": _CUSTOM,
    },
    "gloo.solo.io.TcpListener": {"custom_network_filters": _CUSTOM},
    "gloo.solo.io.AggregateListener.HttpFilterChain": {
        "custom_http_filters": _CUSTOM,
        "custom_network_filters": _CUSTOM,
    },
}
MAX_UNPACKED: Final = 64 * 1024 * 1024
"""Bytes of a compressed Proxy's text."""


def translate_stored(snapshot: ConfigSnapshot, namespace: str, memo: Memo) -> tuple[tuple[Proxy, ...], Problems]:
    """The proxies stored there, sorted by name, and what is wrong with them; an unchanged one is the same object."""
    found = [
        memo.get(("stored proxy", ref), (message,), partial(_translate, ref, message))
        for ref, message in snapshot.of(PROXY.name).items()
        if ref.namespace == namespace
    ]
    memo.sweep()
    return tuple(proxy for proxy, _ in found), tuple(problem for _, problems in found for problem in problems)


def _translate(ref: Ref, message: proxy_pb2.Proxy) -> tuple[Proxy, Problems]:
    source = PROXY.object_ref(ref)
    try:
        listeners = unpack(message)
    except ValueError as fault:
        return Proxy(ref), (error("compressedSpec", str(fault)).on(source),)
    built, problems, names = [], list[Problem](), set[str]()
    for index, listener in enumerate(listeners):
        if listener.name in names:
            text = f"is called {listener.name[:80]!r} like another one, which is served"
            problems.append(error(f"listeners[{index}].name", text).on(source))
            continue
        names.add(listener.name)
        built.append(_build_listener(listener, source, f"listeners[{index}]"))
    return Proxy(ref, tuple(sorted(built, key=lambda listener: listener.name))), tuple(problems)


def unpack(message: proxy_pb2.Proxy) -> Sequence[proxy_pb2.Listener]:
    """The listeners; ``ValueError`` if they are packed, and cannot be unpacked."""
    if not message.compressedSpec:
        return message.listeners
    try:
        document = json.loads(_unzip(base64.b64decode(message.compressedSpec, validate=True)))
        return json_format.ParseDict(document, proxy_pb2.Proxy()).listeners
    except (ValueError, zlib.error, json_format.ParseError, RecursionError) as fault:
        raise ValueError(f"is not JSON packed by zlib and base64: {str(fault)[:160]}") from fault


def _unzip(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(packed, MAX_UNPACKED)
    if not unpacker.eof:
        raise ValueError(f"is cut off, or has more than {MAX_UNPACKED} bytes")
    return text


def pack(message: proxy_pb2.Proxy) -> str:
    """What ``unpack`` undoes, of its listeners."""
    listeners = proxy_pb2.Proxy(listeners=message.listeners)
    text = json.dumps(json_format.MessageToDict(listeners), separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(zlib.compress(text.encode())).decode()


def _build_listener(message: proxy_pb2.Listener, source: ObjectRef, path: str) -> Listener:
    groups = [*_groups(message, source, path)]
    return Listener(
        source,
        message.name,
        message.bind_address,
        message.bind_port,
        message.options,
        message.route_options,
        message.use_proxy_proto.value,
        tuple(group for group in groups if isinstance(group, HttpGroup)),
        tuple(group for group in groups if isinstance(group, TcpGroup)),
    )


def _groups(message: proxy_pb2.Listener, source: ObjectRef, path: str) -> Iterator[HttpGroup | TcpGroup]:
    routes = route_config_name(message.name)
    match message.WhichOneof("ListenerType"):
        case "http_listener":
            http, here = message.http_listener, f"{path}.httpListener"
            hosts = _build_hosts(http.virtual_hosts, source, here)
            ssl = _owned(message.ssl_configurations, source)
            yield HttpGroup(source, routes, http.options, hosts, ssl, None, here, http.stat_prefix)
        case "tcp_listener":
            yield _build_tcp(message.tcp_listener, None, source, f"{path}.tcpListener")
        case "hybrid_listener":
            yield from _hybrid_groups(message, source, f"{path}.hybridListener")
        case "aggregate_listener":
            yield from _aggregate_groups(message, source, f"{path}.aggregateListener")


def _hybrid_groups(message: proxy_pb2.Listener, source: ObjectRef, path: str) -> Iterator[HttpGroup | TcpGroup]:
    for index, matched in enumerate(message.hybrid_listener.matched_listeners):
        here = f"{path}.matchedListeners[{index}]"
        if matched.WhichOneof("ListenerType") == "tcp_listener":
            yield _build_tcp(matched.tcp_listener, matched.matcher, source, f"{here}.tcpListener")
            continue
        here = f"{here}.httpListener"
        http, ssl = matched.http_listener, _owned(matched.ssl_configurations, source)
        routes = route_config_name(message.name, matched.matcher)
        hosts = _build_hosts(http.virtual_hosts, source, here)
        yield HttpGroup(source, routes, http.options, hosts, ssl, matched.matcher, here, http.stat_prefix)


def _aggregate_groups(message: proxy_pb2.Listener, source: ObjectRef, path: str) -> Iterator[HttpGroup | TcpGroup]:
    listener = message.aggregate_listener
    resources = listener.http_resources
    for index, chain in enumerate(listener.http_filter_chains):
        hosts = [resources.virtual_hosts[name] for name in chain.virtual_host_refs if name in resources.virtual_hosts]
        ssl = _owned([chain.matcher.ssl_config] if chain.matcher.HasField("ssl_config") else [], source)
        here = f"{path}.httpFilterChains[{index}]"
        yield HttpGroup(
            source,
            route_config_name(message.name, chain.matcher),
            resources.http_options.get(chain.http_options_ref, NO_LISTENER),
            _build_hosts(hosts, source, here),
            ssl,
            chain.matcher,
            here,
        )
    for index, matched in enumerate(listener.tcp_listeners):
        yield _build_tcp(matched.tcp_listener, matched.matcher, source, f"{path}.tcpListeners[{index}].tcpListener")


def _build_tcp(
    message: proxy_pb2.TcpListener, matcher: proxy_pb2.Matcher | None, source: ObjectRef, path: str
) -> TcpGroup:
    hosts = tuple(message.tcp_hosts)
    return TcpGroup(source, hosts, message.options, matcher, path, tuple(range(len(hosts))), message.stat_prefix)


def _build_hosts(hosts: Sequence[proxy_pb2.VirtualHost], source: ObjectRef, path: str) -> tuple[VirtualHost, ...]:
    return tuple(_build_host(host, source, f"{path}.virtualHosts[{index}]") for index, host in enumerate(hosts))


def _build_host(message: proxy_pb2.VirtualHost, source: ObjectRef, path: str) -> VirtualHost:
    paths = tuple(f"{path}.routes[{index}]" for index in range(len(message.routes)))
    return VirtualHost.of(source, message, paths=paths, origins=tuple(RouteOrigin(source, here) for here in paths))


def _owned(configs: Sequence[Any], source: ObjectRef) -> tuple[tuple[ssl_pb2.SslConfig, tuple[ObjectRef, ...]], ...]:
    return tuple((config, (source,)) for config in configs)
