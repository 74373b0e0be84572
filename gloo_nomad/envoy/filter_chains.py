"""One filter chain: which connections it takes, their TLS, and what becomes of them."""

import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from envoy.config.listener.v3 import listener_components_pb2

from gloo_nomad.acceptance.names import range_fault
from gloo_nomad.acceptance.values import duration_fault
from gloo_nomad.api.gen import proxy_pb2, ssl_pb2
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.envoy.tls import TlsScope, TlsSocket, build_downstream_socket
from gloo_nomad.messages import to_bytes
from gloo_nomad.options.hooks import Claims
from gloo_nomad.reports import Finding, Problem, Problems, error, is_rejected, warning
from gloo_nomad.resources import Resource

READS: Claims = {
    "gloo.solo.io.Matcher": ("ssl_config", "source_prefix_ranges", "prefix_ranges", "destination_port"),
    "solo.io.envoy.config.core.v3.CidrRange": ("address_prefix", "prefix_len"),
}

ANY_SERVER_NAME: Final = "*"
MAX_PLACES: Final = 10_000
Place = tuple[int, str, str]
"""A destination port, a range of destination addresses and one of source addresses; 0 and "" for any."""


@dataclass(frozen=True, slots=True, eq=False)
class FilterChain:
    """A filter chain as bytes, and by what Envoy would tell it from others."""

    body: bytes
    """Empty if it must not be sent."""
    server_names: tuple[str, ...]
    """Empty for any."""
    places: tuple[Place, ...]
    """All combinations of the other conditions of its match."""
    owners: tuple[ObjectRef, ...]
    path: str
    """What its owners call it, empty for a virtual service as a whole."""
    secure: bool
    """Whether Envoy has to look at the TLS handshake to choose it, or to serve it."""
    secrets: tuple[Resource, ...]
    problems: Problems
    quic: Any | None = None
    """Envoy's QuicDownstreamTransport, without TLS, if it is offered by HTTP/3 as well."""


@dataclass(frozen=True, slots=True)
class ChainPlan:
    """What a filter chain is made from."""

    filters: Sequence[Any]
    matcher: proxy_pb2.Matcher | None
    ssl: ssl_pb2.SslConfig | None
    owners: tuple[ObjectRef, ...]
    """The objects to which problems of its TLS are said."""
    without: frozenset[str] = frozenset()
    """Server names that an older chain has."""
    path: str = ""
    """Where the TLS stands in its owners, empty for the object as a whole."""
    matcher_place: tuple[ObjectRef, str] | None = None
    """The object that has the matcher, and what stands around it there."""
    passthrough: bool = False
    """Whether ``ssl`` only says for which server names the chain is, and TLS goes on to the destination."""
    needs_server_name: bool = False
    """Whether the filters read the server name of the handshake."""
    quic: Any | None = None


def matcher_place(source: ObjectRef, path: str) -> tuple[ObjectRef, str]:
    """The object and the path in it that a gateway's matcher stands in; *path* is that of the gateway."""
    return source, path.rpartition(".")[0]


def build_filter_chain(plan: ChainPlan, scope: TlsScope) -> FilterChain:
    """The chain of a plan."""
    out = listener_components_pb2.FilterChain(filters=plan.filters)
    of_matcher = [*_apply_addresses(plan.matcher, out.filter_chain_match)]
    places = _places(out.filter_chain_match) if not of_matcher else ()
    if len(places) > MAX_PLACES:
        of_matcher.append(error("matcher", f"has more than {MAX_PLACES} combinations of address ranges"))
    findings: list[Finding] = [*_apply_server_names(plan, out.filter_chain_match)]
    socket = _apply_socket(plan, scope, out, findings)
    too_old = [*_check_quic(plan)]
    findings += too_old
    lost = bool(plan.without) and not out.filter_chain_match.server_names
    served = not is_rejected((*findings, *of_matcher)) and not lost and (socket is None or socket.usable)
    return FilterChain(
        to_bytes(out) if served else b"",
        tuple(out.filter_chain_match.server_names),
        places,
        plan.owners,
        plan.path,
        socket is not None or plan.needs_server_name or bool(out.filter_chain_match.server_names),
        socket.secrets if served and socket is not None else (),
        (*_matcher_problems(plan, of_matcher), *_problems(plan, findings)),
        None if too_old else plan.quic,
    )


def _apply_socket(plan: ChainPlan, scope: TlsScope, out: Any, findings: list[Finding]) -> TlsSocket | None:
    """The end of TLS, unless the chain has none; *findings* grows by what is wrong with it."""
    if plan.ssl is None or plan.passthrough:
        return None
    socket = build_downstream_socket(plan.ssl, scope)
    findings += [finding.under("sslConfig") for finding in socket.findings]
    out.transport_socket.CopyFrom(socket.socket)
    findings += _apply_connect_timeout(plan.ssl, out)
    return socket


def _problems(plan: ChainPlan, findings: Iterable[Finding]) -> Iterator[Problem]:
    for owner in plan.owners:
        yield from (finding.on(owner, plan.path) for finding in findings)


def _matcher_problems(plan: ChainPlan, findings: Iterable[Finding]) -> Iterator[Problem]:
    """What is wrong with the matcher, said to the gateway that has it."""
    places = [plan.matcher_place] if plan.matcher_place is not None else [(owner, "") for owner in plan.owners]
    for owner, path in places:
        yield from (finding.on(owner, path) for finding in findings)


def _apply_addresses(matcher: proxy_pb2.Matcher | None, out: Any) -> Iterator[Finding]:
    if matcher is None:
        return
    for ranges, added, field in (
        (matcher.source_prefix_ranges, out.source_prefix_ranges, "sourcePrefixRanges"),
        (matcher.prefix_ranges, out.prefix_ranges, "prefixRanges"),
    ):
        for index, cidr in enumerate(ranges):
            entry = added.add(address_prefix=cidr.address_prefix)
            entry.prefix_len.value = cidr.prefix_len.value
            if fault := range_fault(cidr.address_prefix, cidr.prefix_len.value):
                yield error(f"matcher.{field}[{index}]", fault)
    if matcher.HasField("destination_port"):
        out.destination_port.value = matcher.destination_port.value
        if not 1 <= matcher.destination_port.value <= 65535:
            yield error("matcher.destinationPort", f"{matcher.destination_port.value} is no port")


def _places(match: Any) -> tuple[Place, ...]:
    """What Envoy would compare with other chains: it refuses two that share one combination."""
    targets = sorted({_network(cidr) for cidr in match.prefix_ranges}) or [""]
    sources = sorted({_network(cidr) for cidr in match.source_prefix_ranges}) or [""]
    product = itertools.product([match.destination_port.value], targets, sources)
    return tuple(itertools.islice(product, MAX_PLACES + 1))


def _network(cidr: Any) -> str:
    return str(ipaddress.ip_network(f"{cidr.address_prefix}/{cidr.prefix_len.value}", strict=False))


def _apply_server_names(plan: ChainPlan, out: Any) -> Iterator[Finding]:
    """``sniDomains``; Envoy knows exact names and ``*.`` in front of one, and ``*`` alone means any."""
    names = [name.lower() for name in plan.ssl.sni_domains] if plan.ssl is not None else []
    if ANY_SERVER_NAME in names:
        return
    for index, name in enumerate(names):
        if fault := _server_name_fault(name):
            yield error(f"sslConfig.sniDomains[{index}]", fault)
        elif name not in plan.without and name not in out.server_names:
            out.server_names.append(name)


def _server_name_fault(name: str) -> str:
    bare = name.removeprefix("*.")
    if not bare or "*" in bare or not bare.isprintable() or " " in bare:
        return f"{name[:80]!r} is no server name; write a host name, with *. in front for all below it"
    return ""


def _check_quic(plan: ChainPlan) -> Iterator[Finding]:
    most = plan.ssl.parameters.maximum_protocol_version if plan.ssl is not None else 0
    if plan.quic is not None and most and most < ssl_pb2.SslParameters.TLSv1_3:
        yield warning("sslConfig.parameters.maximumProtocolVersion", "HTTP/3 needs TLS 1.3; it is not offered here")


def _apply_connect_timeout(config: ssl_pb2.SslConfig, out: Any) -> Iterator[Finding]:
    if not config.HasField("transport_socket_connect_timeout"):
        return
    out.transport_socket_connect_timeout.CopyFrom(config.transport_socket_connect_timeout)
    if fault := duration_fault(config.transport_socket_connect_timeout):
        yield error("sslConfig.transportSocketConnectTimeout", fault)
