"""Instances of services to endpoint sets, one for each cluster that has its endpoints apart.

This is the fast path: it runs by itself whenever an instance comes or goes, and looks only at what changed.
"""

from functools import partial
from types import MappingProxyType
from typing import Any

from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.envoy.clusters import ClusterSet, ServedUpstream
from gloo_nomad.envoy.resources import pack_resource
from gloo_nomad.options.registry import hooks
from gloo_nomad.reports import Problems
from gloo_nomad.resources import ENDPOINTS, Resource, Resources
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.services import ServiceInstances
from gloo_nomad.store.snapshot import ConfigSnapshot
from gloo_nomad.upstreams import consul, nomad
from gloo_nomad.upstreams.hooks import build_endpoints, endpoint_findings


def translate_endpoints(clusters: ClusterSet, snapshot: ConfigSnapshot, memo: Memo) -> Resources:
    """A ClusterLoadAssignment for each dynamic cluster, an empty one while its service has no instance.

    *memo* belongs to this function alone: each call is a round of it. Nothing changed: the same mapping as last time.
    """
    resources = [_keep_assignment(served, snapshot, memo) for served in clusters.dynamic]
    found: Resources = memo.get(("endpoint set", len(resources)), tuple(resources), lambda: _by_name(resources))
    memo.sweep()
    return found


def endpoint_problems(clusters: ClusterSet, snapshot: ConfigSnapshot) -> Problems:
    """What is to be said about instances that Envoy cannot be told, on the upstreams that want them."""
    return tuple(
        finding.on(UPSTREAM.object_ref(served.ref))
        for served in clusters.dynamic
        if served.module is not None and not served.ref.name.startswith((consul.TWIN_PREFIX, nomad.TWIN_PREFIX))
        for finding in endpoint_findings(served.module, served.upstream, _instances(served, snapshot))
    )


def _instances(served: ServedUpstream, snapshot: ConfigSnapshot) -> list[ServiceInstances]:
    found = (snapshot.of(kind).get(ref) for kind, ref in served.services)
    return [instances for instances in found if instances is not None]


def _keep_assignment(served: ServedUpstream, snapshot: ConfigSnapshot, memo: Memo) -> Resource:
    instances = _instances(served, snapshot)
    compute = partial(_build_assignment, served, instances, memo)
    return memo.get(("endpoints", served.cluster), (served.upstream, *instances), compute)


def _build_assignment(served: ServedUpstream, instances: list[ServiceInstances], memo: Memo) -> Resource:
    if served.module is None:
        raise ValueError(served.cluster)
    message: Any = build_endpoints(served.module, served.upstream, served.cluster, instances)
    for hook in hooks("apply_endpoints"):
        hook(served.upstream, message)
    return pack_resource(memo, ENDPOINTS, served.cluster, message)


def _by_name(resources: list[Resource]) -> Resources:
    return MappingProxyType({resource.name: resource for resource in resources})
