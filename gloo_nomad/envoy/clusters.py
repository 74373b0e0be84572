"""Upstreams to clusters, one for each, and one for each Consul service that a route names.

A cluster that Envoy would refuse is left out with an error on its Upstream; all others are served.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from types import MappingProxyType, ModuleType
from typing import Any, Final, NamedTuple

from envoy.config.cluster.v3 import cluster_pb2

from gloo_nomad.api.gen import settings_pb2, ssl_pb2, upstream_pb2
from gloo_nomad.api.kinds import UPSTREAM, UPSTREAM_GROUP
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.chunks import Steps, translate_chunks
from gloo_nomad.envoy.destinations import ANY_UPSTREAM, Destinations, group_findings
from gloo_nomad.envoy.mesh import apply_mesh, mesh_identity
from gloo_nomad.envoy.names import cluster_name, nomad_twin_name, parse_consul_service_key
from gloo_nomad.envoy.protocols import apply_protocol
from gloo_nomad.envoy.resources import pack_resource
from gloo_nomad.envoy.rest_endpoints import apply_rest_endpoints
from gloo_nomad.envoy.tagged_tls import apply_tagged_tls
from gloo_nomad.envoy.tls import TlsScope, build_upstream_socket
from gloo_nomad.envoy.tunnels import Tunnel, split_tunnel, tunnel_server_names
from gloo_nomad.messages import duration, seconds
from gloo_nomad.options.guards import refuse_breaches
from gloo_nomad.options.hooks import EVERY, Claims, ClusterContext
from gloo_nomad.options.registry import hooks
from gloo_nomad.reports import Finding, Problem, Problems, error, is_rejected
from gloo_nomad.resources import CLUSTER, LISTENER, NO_RESOURCES, Resource, Resources
from gloo_nomad.store.memo import Memo, Reads
from gloo_nomad.store.snapshot import ConfigSnapshot
from gloo_nomad.upstreams import nomad
from gloo_nomad.upstreams.consul import TWIN_PREFIX, build_twin
from gloo_nomad.upstreams.hooks import (
    ServiceKey,
    is_meshed,
    server_names,
    services,
    type_of,
    upstream_types,
    wants_tls,
)
from gloo_nomad.upstreams.tls_tags import tls_tag, without_tls

FIELDS: Claims = {
    "gloo.solo.io.Upstream": (
        "metadata",
        "discovery_metadata",
        "ssl_config",
        "circuit_breakers",
        "connection_config",
    ),
    "gloo.solo.io.ConnectionConfig": ("connect_timeout",),
}
READS: Claims = {
    "gloo.solo.io.CircuitBreakerConfig": EVERY,
}
_UNANSWERED: Final = "requests that lead there are answered with 503"
WARNED: Final = {
    "gloo.solo.io.Upstream": {
        "kube": f"Kubernetes only; {_UNANSWERED}",
        "aws": f"functions of AWS are not called; {_UNANSWERED}",
        "aws_ec2": f"EC2 is not asked for instances; {_UNANSWERED}",
        "azure": f"functions of Azure are not called; {_UNANSWERED}",
        "gcp": f"functions of Google Cloud are not called; {_UNANSWERED}",
        "ai": f"models are not called; {_UNANSWERED}",
    }
}
"""Types that have no cluster."""

CONNECT_SECONDS: Final = 5
BUFFER_BYTES: Final = 32_768
"""How much Envoy buffers for a connection, by its best practices for the edge."""
_LIMITS: Final = ("max_connections", "max_pending_requests", "max_requests", "max_retries")


@dataclass(frozen=True, slots=True, eq=False)
class ServedUpstream:
    """An upstream and its cluster."""

    ref: Ref
    cluster: str
    upstream: upstream_pb2.Upstream
    module: ModuleType | None
    services: tuple[ServiceKey, ...]
    """The services whose instances are its endpoints; empty if the cluster has its endpoints in it."""
    resource: Resource | None
    """None if it must not be sent."""
    secrets: tuple[Resource, ...] = ()
    problems: Problems = ()
    hidden: Resource | None = None
    """The cluster behind its tunnel, if it has one."""
    listener: Resource | None = None
    """The listener that opens the tunnel."""
    identity: frozenset[ServiceKey] = frozenset()
    """Who we have to be towards it, in Consul's mesh."""


@dataclass(frozen=True, slots=True, eq=False)
class ClusterSet:
    """All clusters; every proxy is served the same ones."""

    clusters: Resources = field(default_factory=lambda: NO_RESOURCES)
    listeners: Resources = field(default_factory=lambda: NO_RESOURCES)
    """Those of tunnels."""
    secrets: Resources = field(default_factory=lambda: NO_RESOURCES)
    problems: Problems = ()
    upstreams: Mapping[str, ServedUpstream] = field(default_factory=lambda: MappingProxyType({}))
    """What is behind each cluster, by its name."""
    dynamic: tuple[ServedUpstream, ...] = ()
    """Those whose endpoints are served apart."""
    identities: frozenset[ServiceKey] = frozenset()
    """Who we have to be in Consul's mesh."""

    def services(self, reachable: frozenset[Ref]) -> frozenset[ServiceKey]:
        """The services to watch if routes lead to these upstreams; those of ``consul`` destinations always.

        Identities are needed for the translation itself, whether a route leads there or not.
        """
        everything = ANY_UPSTREAM in reachable
        return self.identities | frozenset(
            key
            for served in self.dynamic
            if everything or served.ref in reachable or served.ref.name.startswith(TWIN_PREFIX)
            for key in served.services
        )


def translate_clusters(
    snapshot: ConfigSnapshot, settings: settings_pb2.Settings, memo: Memo, consul_services: frozenset[str]
) -> ClusterSet:
    """Clusters of all Upstreams and of the Consul services that routes name."""

    def translate(part: Sequence[upstream_pb2.Upstream]) -> tuple[ServedUpstream, ...]:
        return tuple(_keep_upstream(upstream, snapshot, settings, memo) for upstream in part)

    upstreams = [*snapshot.of(UPSTREAM.name).values(), *_twins(consul_services, settings, memo)]
    steps = Steps(translate, _flatten)
    chunks = translate_chunks(("clusters",), upstreams, snapshot, memo, steps, shared=(settings,))
    groups = [
        memo.track(("upstream group", ref), (group, settings), snapshot, partial(_check_group, ref, group, settings))
        for ref, group in snapshot.of(UPSTREAM_GROUP.name).items()
    ]
    return memo.get(
        ("cluster set", len(chunks)),
        (settings, *chunks, *groups),
        lambda: _assemble([served for chunk in chunks for served in chunk], groups),
    )


def _flatten(parts: Sequence[tuple[ServedUpstream, ...]]) -> tuple[ServedUpstream, ...]:
    return tuple(chain.from_iterable(parts))


def _keep_upstream(
    upstream: upstream_pb2.Upstream, snapshot: ConfigSnapshot, settings: settings_pb2.Settings, memo: Memo
) -> ServedUpstream:
    ref = Ref(upstream.metadata.namespace, upstream.metadata.name)
    compute = partial(_translate_upstream, ref, upstream, settings, memo)
    return memo.track(("cluster", ref), (upstream, settings), snapshot, compute)


def _twins(
    consul_services: frozenset[str], settings: settings_pb2.Settings, memo: Memo
) -> Iterator[upstream_pb2.Upstream]:
    """The upstreams behind ``consul`` destinations, without a datacenter in those of the settings, and Nomad's."""
    usual = tuple(settings.consul.service_discovery.data_centers) or ("",)
    wanted: dict[str, set[str]] = defaultdict(set)
    for key in sorted(consul_services):
        if name := nomad_twin_name(key):
            yield memo.get(("twin", name), (), partial(nomad.build_twin, name))
            continue
        service, datacenter = parse_consul_service_key(key)
        wanted[service].update((datacenter,) if datacenter else usual)
    for service in sorted(wanted):
        datacenters = tuple(sorted(wanted[service]))
        compute = partial(build_twin, service, datacenters, settings)
        yield memo.get(("twin", service, datacenters), (settings,), compute)


def _check_group(
    ref: Ref, group: upstream_pb2.UpstreamGroup, settings: settings_pb2.Settings, reads: Reads
) -> Problems:
    target = UPSTREAM_GROUP.object_ref(ref)
    return tuple(finding.on(target) for finding in group_findings(group, Destinations(reads, settings)))


def _assemble(served: Sequence[ServedUpstream], groups: Iterable[Problems]) -> ClusterSet:
    by_cluster: dict[str, ServedUpstream] = {}
    problems: list[Problem] = []
    for upstream in served:
        problems += upstream.problems
        if upstream.resource is None:
            continue
        other = by_cluster.setdefault(upstream.cluster, upstream)
        if other is not upstream:
            text = f"its cluster would be named {upstream.cluster} like that of {other.ref}; rename one of them"
            problems.append(error("metadata.name", text).on(UPSTREAM.object_ref(upstream.ref)))
    sent = [by_cluster[name] for name in sorted(by_cluster)]
    secrets = {secret.name: secret for upstream in sent for secret in upstream.secrets}
    hidden = {upstream.hidden.name: upstream.hidden for upstream in sent if upstream.hidden is not None}
    clusters = {upstream.cluster: upstream.resource for upstream in sent if upstream.resource is not None}
    listeners = {upstream.listener.name: upstream.listener for upstream in sent if upstream.listener is not None}
    return ClusterSet(
        MappingProxyType({**hidden, **clusters}),
        MappingProxyType(listeners),
        MappingProxyType({name: secrets[name] for name in sorted(secrets)}),
        tuple(problems) + tuple(problem for found in groups for problem in found),
        MappingProxyType(
            {upstream.hidden.name: upstream for upstream in sent if upstream.hidden is not None}
            | {upstream.cluster: upstream for upstream in sent}
        ),
        tuple(upstream for upstream in sent if upstream.services),
        frozenset().union(*(upstream.identity for upstream in served)),
    )


def _translate_upstream(
    ref: Ref, upstream: upstream_pb2.Upstream, settings: settings_pb2.Settings, memo: Memo, reads: Reads
) -> ServedUpstream:
    name, module = cluster_name(ref), type_of(upstream)
    scope = TlsScope(reads, settings, memo)
    out = cluster_pb2.Cluster(name=name)
    built = build_cluster(upstream, out, scope)
    problems = tuple(finding.on(UPSTREAM.object_ref(ref)) for finding in built.findings)
    meshed = module is not None and is_meshed(module, upstream, settings)
    identity = mesh_identity(settings) if meshed else frozenset[ServiceKey]()
    if module is None or built.waits or is_rejected(built.findings):
        return ServedUpstream(ref, name, upstream, module, (), None, (), problems, identity=identity)
    resource = pack_resource(memo, CLUSTER, name, out)
    hidden = listener = None
    if built.tunnel is not None:
        hidden = pack_resource(memo, CLUSTER, built.tunnel.cluster.name, built.tunnel.cluster)
        listener = pack_resource(memo, LISTENER, built.tunnel.listener.name, built.tunnel.listener)
    found = services(module, upstream, settings)
    if tls_tag(upstream) and not meshed and not out.transport_socket_matches:
        upstream = without_tls(upstream)
    return ServedUpstream(
        ref,
        name,
        upstream,
        module,
        found,
        resource,
        built.secrets,
        problems,
        hidden,
        listener,
        identity,
    )


class BuiltCluster(NamedTuple):
    """What belongs to a cluster: the secrets that it names, what is wrong with it, and what is behind its tunnel."""

    secrets: tuple[Resource, ...]
    findings: list[Finding]
    tunnel: Tunnel | None = None
    waits: bool = False
    """Whether it must not be sent (yet), though nothing is wrong with its upstream."""


def build_cluster(upstream: upstream_pb2.Upstream, out: Any, scope: TlsScope) -> BuiltCluster:
    """An upstream onto a Cluster that has its name already."""
    module = type_of(upstream)
    if module is None:
        return BuiltCluster((), _untyped(upstream), waits=True)
    secrets: list[Resource] = []
    source = UPSTREAM.object_ref(Ref(*_name(upstream)))
    context = ClusterContext(scope.settings, scope.reads, source, partial(_build_socket, scope, secrets))
    findings = [*_apply_core(upstream, scope.settings, out), *module.apply_type(upstream, out, context)]
    apply_rest_endpoints(scope.settings, out)
    findings += apply_protocol(upstream, out)
    meshed = is_meshed(module, upstream, scope.settings)
    if meshed:
        findings += apply_mesh(upstream, services(module, upstream, scope.settings), scope, secrets, out)
    else:
        findings += _apply_tls(upstream, module, context, out)
    for hook in hooks("apply_cluster"):
        findings += hook(upstream, out, context)
    tunnel, said = split_tunnel(upstream, out, context)
    findings += said
    if not is_rejected(findings):
        findings += refuse_breaches(out, "")
    waits = meshed and not out.HasField("transport_socket")
    return BuiltCluster(tuple(dict.fromkeys(secrets)), findings, tunnel, waits)


def _build_socket(
    scope: TlsScope, secrets: list[Resource], config: ssl_pb2.UpstreamSslConfig, server_name: str
) -> tuple[Any, list[Finding]]:
    """A transport socket; *secrets* grows by those that it names."""
    socket = build_upstream_socket(config, server_name, scope)
    secrets.extend(socket.secrets)
    findings = list(socket.findings)
    if not socket.usable and not is_rejected(findings):
        findings.append(error("", "is left out until its secret is there"))
    return socket.socket, findings


def find_cluster(ref: Ref, settings: settings_pb2.Settings, reads: Reads) -> str:
    """The name of an Upstream's cluster; "" if it does not exist, is rejected or has to wait."""
    upstream = reads.get(UPSTREAM.name, ref)
    if upstream is None:
        return ""
    out = cluster_pb2.Cluster(name=cluster_name(ref))
    built = build_cluster(upstream, out, TlsScope(reads, settings, Memo()))
    return "" if built.waits or is_rejected(built.findings) else str(out.name)


def _name(upstream: upstream_pb2.Upstream) -> tuple[str, str]:
    return upstream.metadata.namespace, upstream.metadata.name


def _untyped(upstream: upstream_pb2.Upstream) -> list[Finding]:
    """What is wrong with an upstream that no module builds; the types of ``WARNED`` are said as such."""
    if upstream.WhichOneof("upstream_type") is not None:
        return []
    return [error("", f"has no upstream type; give it one of {', '.join(sorted(upstream_types()))}")]


def _apply_core(upstream: upstream_pb2.Upstream, settings: settings_pb2.Settings, out: Any) -> Iterator[Finding]:
    out.per_connection_buffer_limit_bytes.value = BUFFER_BYTES
    out.connect_timeout.CopyFrom(duration(CONNECT_SECONDS))
    connection = upstream.connection_config
    if connection.HasField("connect_timeout"):
        out.connect_timeout.CopyFrom(connection.connect_timeout)
        if seconds(connection.connect_timeout) <= 0:
            yield error("connectionConfig.connectTimeout", "must be above 0")
    breakers = upstream.circuit_breakers if upstream.HasField("circuit_breakers") else settings.gloo.circuit_breakers
    if breakers.ListFields():
        thresholds = out.circuit_breakers.thresholds.add(track_remaining=breakers.track_remaining)
        for name in _LIMITS:
            if breakers.HasField(name):
                getattr(thresholds, name).value = getattr(breakers, name).value


def _apply_tls(
    upstream: upstream_pb2.Upstream, module: ModuleType, context: ClusterContext, out: Any
) -> Iterator[Finding]:
    """One transport socket, or one for each server name, which endpoints pick by their metadata."""
    config = upstream.ssl_config
    if not upstream.HasField("ssl_config") and not wants_tls(module, upstream):
        return
    if tls_tag(upstream):
        yield from apply_tagged_tls(upstream, context, out)
        return
    names = tunnel_server_names(upstream) or server_names(module, upstream) or (config.sni,)
    said: dict[Finding, None] = {}
    for index, name in enumerate(names):
        socket, findings = context.build_socket(config, name)
        said.update(dict.fromkeys(finding.under("sslConfig") for finding in findings))
        if not index:
            out.transport_socket.CopyFrom(socket)
        if len(names) > 1:
            match = out.transport_socket_matches.add(name=name or "no server name")
            match.match.update({"sni": name})
            match.transport_socket.CopyFrom(socket)
    yield from said
