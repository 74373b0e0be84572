"""Clusters that options ask for and no Upstream stands for, such as those of collectors of logs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from envoy.config.cluster.v3 import cluster_pb2

from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.envoy.resources import pack_resource
from gloo_nomad.envoy.tls import TlsScope, build_upstream_socket
from gloo_nomad.options.guards import refuse_breaches
from gloo_nomad.options.hooks import GeneratedCluster, ListenerContext
from gloo_nomad.options.registry import hooks
from gloo_nomad.reports import Finding, Problem, Problems, error, is_rejected, warning
from gloo_nomad.resources import CLUSTER, Resource


@dataclass(frozen=True, slots=True, eq=False)
class GeneratedClusters:
    """The clusters of one set of options, the secrets that they name, and what is wrong with them."""

    clusters: tuple[Resource, ...] = ()
    secrets: tuple[Resource, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Paths are relative to the options."""


NOTHING: Final = GeneratedClusters()


def translate_generated(context: ListenerContext, scope: TlsScope) -> GeneratedClusters:
    """All clusters that the options in *context* ask for."""
    clusters: list[Resource] = []
    secrets: list[Resource] = []
    findings: list[Finding] = []
    for item in (item for hook in hooks("extra_clusters") for item in hook(context)):
        if isinstance(item, Finding):
            findings.append(item)
            continue
        out = cluster_pb2.Cluster()
        used, found = _apply(item, scope, out)
        findings += found
        secrets += used
        clusters.append(pack_resource(scope.memo, CLUSTER, out.name, out))
    if is_rejected(findings):
        return GeneratedClusters(findings=tuple(findings))
    if not clusters and not findings:
        return NOTHING
    return GeneratedClusters(tuple(clusters), tuple(secrets), tuple(findings))


def _apply(item: GeneratedCluster, scope: TlsScope, out: Any) -> tuple[tuple[Resource, ...], list[Finding]]:
    """The cluster with its TLS; the secrets that this names, and what is wrong with both."""
    out.CopyFrom(item.cluster)
    secrets: tuple[Resource, ...] = ()
    findings: list[Finding] = []
    if item.ssl is not None:
        path = f"{item.path}.sslConfig" if item.path else "sslConfig"
        socket = build_upstream_socket(item.ssl, item.ssl.sni or item.server_name, scope)
        out.transport_socket.CopyFrom(socket.socket)
        secrets = socket.secrets
        findings += [finding.under(path) for finding in socket.findings]
        if not socket.usable and not is_rejected(findings):
            findings.append(error(path, "is left out until its secret is there"))
    if not is_rejected(findings):
        findings += refuse_breaches(out, item.path)
    return secrets, findings


def find_clashes(generated: Iterable[tuple[ObjectRef, GeneratedClusters]]) -> Problems:
    """A warning for each cluster that two objects of a proxy want under one name and with another content."""
    owners: dict[str, tuple[ObjectRef, str]] = {}
    problems: list[Problem] = []
    for source, made in generated:
        for cluster in made.clusters:
            owner, version = owners.setdefault(cluster.name, (source, cluster.version))
            if version != cluster.version:
                text = f"{cluster.name} is another cluster for {owner}, which is used here too; give it another name"
                problems.append(warning("", text).on(source))
    return tuple(problems)
