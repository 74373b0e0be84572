"""Proxies as the contract's ``gloo.solo.io.Proxy`` messages, for whoever asks for them: computed, never stored."""

from typing import Final

from gloo_nomad.api.gen import proxy_pb2
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.proxies import HttpGroup, Listener, Proxy, TcpGroup

LABELS: Final = {"created_by": "gloo-gateway"}


def build_proxy(proxy: Proxy) -> proxy_pb2.Proxy:
    """The proxy with all its listeners."""
    message = proxy_pb2.Proxy(listeners=[build_listener(listener) for listener in proxy.listeners])
    message.metadata.name, message.metadata.namespace = proxy.ref.name, proxy.ref.namespace
    message.metadata.labels.update(LABELS)
    return message


def build_listener(listener: Listener) -> proxy_pb2.Listener:
    """A listener: plain HTTP or TCP where it has one group without a matcher, hybrid otherwise."""
    message = proxy_pb2.Listener(
        name=listener.name,
        bind_address=listener.bind_address,
        bind_port=listener.bind_port,
        options=listener.options,
        route_options=listener.route_options,
    )
    if listener.use_proxy_proto:
        message.use_proxy_proto.value = True
    message.metadata_static.sources.append(_source(listener.source))
    groups: tuple[HttpGroup | TcpGroup, ...] = (*listener.http, *listener.tcp)
    if len(groups) == 1 and groups[0].matcher is None:
        _apply_only_group(groups[0], message)
    else:
        for group in groups:
            _apply_matched_group(group, message.hybrid_listener.matched_listeners.add())
    return message


def _apply_only_group(group: HttpGroup | TcpGroup, out: proxy_pb2.Listener) -> None:
    if isinstance(group, HttpGroup):
        _apply_http(group, out.http_listener)
        out.ssl_configurations.extend(config for config, _ in group.ssl)
    else:
        _apply_tcp(group, out.tcp_listener)


def _apply_matched_group(group: HttpGroup | TcpGroup, out: proxy_pb2.MatchedListener) -> None:
    if group.matcher is not None:
        out.matcher.CopyFrom(group.matcher)
    if isinstance(group, HttpGroup):
        _apply_http(group, out.http_listener)
        out.ssl_configurations.extend(config for config, _ in group.ssl)
    else:
        _apply_tcp(group, out.tcp_listener)


def _apply_http(group: HttpGroup, out: proxy_pb2.HttpListener) -> None:
    out.options.CopyFrom(group.options)
    out.stat_prefix = group.stat_prefix
    out.virtual_hosts.extend(host.message for host in group.virtual_hosts)


def _apply_tcp(group: TcpGroup, out: proxy_pb2.TcpListener) -> None:
    out.options.CopyFrom(group.options)
    out.stat_prefix = group.stat_prefix
    out.tcp_hosts.extend(group.hosts)


def _source(ref: ObjectRef) -> proxy_pb2.SourceMetadata.SourceRef:
    source = proxy_pb2.SourceMetadata.SourceRef(resource_kind=f"*v1.{ref.kind}")
    source.resource_ref.name, source.resource_ref.namespace = ref.name, ref.namespace
    return source
