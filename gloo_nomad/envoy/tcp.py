"""TCP gateways: for each host a filter chain that passes connections on, by Envoy's TCP proxy.

https://docs.solo.io/gloo-edge/latest/guides/traffic_management/listener_configuration/tcp_proxy/. A host with an
``sslConfig`` that names no certificate passes TLS through, chosen by the server name of its handshake; with a
certificate Envoy ends the TLS itself. A destination that does not exist is a warning: its connections are closed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.network.sni_cluster.v3 import sni_cluster_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from gloo_nomad.acceptance.rules import broken_rules
from gloo_nomad.api.gen import destination_pb2, proxy_pb2, settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.clusters import find_cluster
from gloo_nomad.envoy.connection_managers import sorted_filters
from gloo_nomad.envoy.destinations import (
    ANY_UPSTREAM,
    Destinations,
    Reached,
    apply_single,
    apply_weighted,
    find_group,
)
from gloo_nomad.envoy.filter_chains import ChainPlan, matcher_place
from gloo_nomad.envoy.names import SNI_CLUSTER, TCP_PROXY, cluster_name
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import refuse_breaches
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.registry import hooks
from gloo_nomad.proxies import Listener, TcpGroup
from gloo_nomad.reports import Finding, Problems, error, is_rejected, warning
from gloo_nomad.store.memo import Reads

READS: Claims = {"gloo.solo.io.TcpHost.TcpAction": EVERY}

STAT_PREFIX: Final = "tcp"
CLOSED: Final = "connections are closed"
"""What becomes of connections to a destination that does not exist."""


@dataclass(frozen=True, slots=True, eq=False)
class TranslatedTcp:
    """The filter chains of one TCP gateway, and what the rest of the pipeline has to know of it."""

    plans: tuple[ChainPlan, ...]
    upstreams: frozenset[Ref]
    consul_services: frozenset[str]
    problems: Problems


class _Draft(NamedTuple):
    """What the chains of one TCP gateway are made with."""

    group: TcpGroup
    context: ListenerContext
    lookup: Destinations
    reached: Reached


def translate_tcp(group: TcpGroup, listener: Listener, settings: settings_pb2.Settings, reads: Reads) -> TranslatedTcp:
    """The chains of a TCP gateway on a listener."""
    draft = _build_draft(group, listener, settings, reads)
    findings: list[Finding] = []
    before = sorted_filters((item for hook in hooks("network_filters") for item in hook(draft.context)), findings)
    options = tcp_proxy_pb2.TcpProxy(stat_prefix=group.stat_prefix or STAT_PREFIX, cluster="")
    for hook in hooks("apply_tcp_proxy"):
        findings.extend(hook(group.options, options, draft.context))
    if not is_rejected(findings):
        findings += [error(breach.path, f"Envoy refuses it: {breach.reason}") for breach in broken_rules(options)]
    problems = [finding.on(group.source, f"{group.path}.options") for finding in findings]
    plans = []
    for place, host in zip(group.places, group.hosts, strict=True) if not is_rejected(findings) else ():
        path = f"{group.path}.tcpHosts[{place}]"
        last, said = _build_last(host, options, draft)
        problems += [finding.on(group.source, path) for finding in said]
        if not is_rejected(said):
            plans.append(_plan_chain(host, (*before, *last), path, group))
    upstreams, services = frozenset(draft.reached.upstreams), frozenset(draft.reached.consul_services)
    return TranslatedTcp(tuple(plans), upstreams, services, tuple(dict.fromkeys(problems)))


def _build_draft(group: TcpGroup, listener: Listener, settings: settings_pb2.Settings, reads: Reads) -> _Draft:
    reached = Reached()

    def find(ref: Ref) -> str:
        reached.upstreams.add(ref)
        return find_cluster(ref, settings, reads)

    context = ListenerContext(
        settings,
        reads,
        group.source,
        find_cluster=find,
        listener=listener.options,
        tcp_options=group.options,
    )
    lookup = Destinations(reads, settings, group.source.namespace, outcome=CLOSED)
    return _Draft(group, context, lookup, reached)


def _plan_chain(host: proxy_pb2.TcpHost, filters: tuple[Any, ...], path: str, group: TcpGroup) -> ChainPlan:
    return ChainPlan(
        filters,
        group.matcher,
        host.ssl_config if host.HasField("ssl_config") else None,
        (group.source,),
        path=path,
        matcher_place=matcher_place(group.source, group.path),
        passthrough=_has_no_certificate(host),
        needs_server_name=host.destination.HasField("forward_sni_cluster_name"),
    )


def _has_no_certificate(host: proxy_pb2.TcpHost) -> bool:
    return host.ssl_config.WhichOneof("ssl_secrets") is None


def _build_last(
    host: proxy_pb2.TcpHost, options: tcp_proxy_pb2.TcpProxy, draft: _Draft
) -> tuple[tuple[Any, ...], list[Finding]]:
    """The TCP proxy of a host, and what has to stand right before it."""
    out = tcp_proxy_pb2.TcpProxy()
    out.CopyFrom(options)
    findings = [finding.under("destination") for finding in _apply_destination(host, out, draft)]
    if not is_rejected(findings):
        findings += refuse_breaches(out, "destination")
    last = listener_components_pb2.Filter(name=TCP_PROXY, typed_config=typed_config(out))
    if not host.destination.HasField("forward_sni_cluster_name"):
        return (last,), findings
    chooser = typed_config(sni_cluster_pb2.SniCluster())
    return (listener_components_pb2.Filter(name=SNI_CLUSTER, typed_config=chooser), last), findings


def _apply_destination(host: proxy_pb2.TcpHost, out: Any, draft: _Draft) -> Iterator[Finding]:
    action = host.destination
    match action.WhichOneof("destination"):
        case "single":
            for finding in apply_single(action.single, out, draft.lookup, draft.reached):
                yield finding.under("single")
        case "multi":
            for finding in _apply_multi(action.multi.destinations, out, draft.lookup, draft.reached):
                yield finding.under("multi")
        case "upstream_group":
            ref = Ref(action.upstream_group.namespace, action.upstream_group.name)
            for finding in _apply_group(ref, out, draft):
                yield finding.under("upstreamGroup")
        case "forward_sni_cluster_name":
            draft.reached.upstreams.add(ANY_UPSTREAM)
            if not host.ssl_config.sni_domains:
                yield error("forwardSniClusterName", "needs sslConfig.sniDomains; write ['*'] for every name")


def _apply_group(ref: Ref, out: Any, draft: _Draft) -> Iterator[Finding]:
    namespace = ref.namespace or draft.lookup.namespace
    group, inside, findings = find_group(Ref(namespace, ref.name), draft.lookup)
    yield from findings
    if group is None:
        out.cluster = cluster_name(ref)
        return
    for finding in _apply_multi(group.destinations, out, inside, draft.reached):
        yield warning("", f"upstream group {ref}: {finding.path}: {finding.message}")


def _apply_multi(
    destinations: Iterable[destination_pb2.WeightedDestination], out: Any, lookup: Destinations, reached: Reached
) -> Iterator[Finding]:
    """Weighted destinations onto a TcpProxy, which has no place for one that weighs nothing."""
    weighted = route_components_pb2.WeightedCluster()
    yield from apply_weighted(destinations, weighted, lookup, reached)
    for entry in weighted.clusters:
        if entry.weight.value:
            added = out.weighted_clusters.clusters.add(name=entry.name, weight=entry.weight.value)
            if entry.HasField("metadata_match"):
                added.metadata_match.CopyFrom(entry.metadata_match)
    for index, destination in enumerate(destinations):
        if destination.HasField("options"):
            yield warning(f"destinations[{index}].options", "has no effect on TCP connections; remove it")
