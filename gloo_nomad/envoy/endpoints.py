"""Instances of services to endpoint sets, one for each cluster that has its endpoints apart.

This is the fast path: it runs by itself whenever an instance comes or goes, and looks only at what changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.envoy.clusters import ClusterSet, ServedUpstream
from gloo_nomad.messages import to_bytes, version_of
from gloo_nomad.options.registry import hooks
from gloo_nomad.reports import Problems
from gloo_nomad.resources import NO_RESOURCES, Resource, Resources
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.services import ServiceInstances
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot
from gloo_nomad.upstreams import consul, nomad
from gloo_nomad.upstreams.hooks import ServiceKey, build_endpoints, endpoint_findings


def translate_endpoints(clusters: ClusterSet, snapshot: ConfigSnapshot, memo: Memo) -> Resources:
    """A ClusterLoadAssignment for each dynamic cluster, an empty one while its service has no instance.

    *memo* belongs to this function alone. Nothing changed: the same mapping as last time.
    """
    return memo.get(("endpoint sets",), (), _EndpointSets).translate(clusters, snapshot)


def endpoint_problems(clusters: ClusterSet, snapshot: ConfigSnapshot) -> Problems:
    """What is to be said about instances that Envoy cannot be told, on the upstreams that want them."""
    return tuple(
        finding.on(UPSTREAM.object_ref(served.ref))
        for served in clusters.dynamic
        if served.module is not None and not served.ref.name.startswith((consul.TWIN_PREFIX, nomad.TWIN_PREFIX))
        for finding in endpoint_findings(served.module, served.upstream, _instances(served, snapshot))
    )


class _Made(NamedTuple):
    """An endpoint set and what it was made of."""

    upstream: upstream_pb2.Upstream
    instances: list[ServiceInstances]
    resource: Resource


@dataclass(slots=True)
class _EndpointSets:
    """Those of the last round. While clusters stay the same, only those of changed services are looked at."""

    clusters: ClusterSet = field(default_factory=ClusterSet)
    users: Mapping[ServiceKey, Sequence[ServedUpstream]] = field(default_factory=dict)
    """Whose endpoints the instances of a service are."""
    seen: Mapping[str, Collection[ServiceInstances]] = field(default_factory=dict)
    """Services by kind, as they were."""
    made: Mapping[str, _Made] = field(default_factory=dict)
    """By cluster."""
    resources: Resources = field(default_factory=lambda: NO_RESOURCES)

    def translate(self, clusters: ClusterSet, snapshot: ConfigSnapshot) -> Resources:
        """All endpoint sets, by cluster."""
        if clusters is self.clusters:
            users, touched, kept = self.users, self._touched(snapshot), self.made
        else:
            users, touched, kept = _users(clusters), clusters.dynamic, {}
        if touched or not kept:
            self.made = {**kept, **{served.cluster: self._make(served, snapshot) for served in touched}}
            found = {name: made.resource for name, made in self.made.items()}
            self.resources = self.resources if found == self.resources else MappingProxyType(found)
        self.clusters, self.users = clusters, users
        self.seen = {kind: snapshot.of(kind) for kind, _ in users}
        return self.resources

    def _touched(self, snapshot: ConfigSnapshot) -> Sequence[ServedUpstream]:
        """Those whose services may be others than in the last round, in the order of their clusters."""
        found: dict[str, ServedUpstream] = {}
        for kind, before in self.seen.items():
            changed = snapshot.of(kind).changed_since(before)
            if changed is None:
                return self.clusters.dynamic
            found.update((served.cluster, served) for ref in changed for served in self.users.get((kind, ref), ()))
        return tuple(found.values())

    def _make(self, served: ServedUpstream, snapshot: ConfigSnapshot) -> _Made:
        """An endpoint set; what has the same bytes as before is the same object."""
        before, instances = self.made.get(served.cluster), _instances(served, snapshot)
        if before is not None and before.upstream is served.upstream and _same(before.instances, instances):
            return before
        resource = _build_assignment(served, instances)
        if before is not None and before.resource.version == resource.version:
            resource = before.resource
        return _Made(served.upstream, instances, resource)


def _users(clusters: ClusterSet) -> Mapping[ServiceKey, Sequence[ServedUpstream]]:
    users: dict[ServiceKey, list[ServedUpstream]] = {}
    for served in clusters.dynamic:
        for key in served.services:
            users.setdefault(key, []).append(served)
    return users


def _instances(served: ServedUpstream, snapshot: ConfigSnapshot) -> list[ServiceInstances]:
    found = (snapshot.of(kind).get(ref) for kind, ref in served.services)
    return [instances for instances in found if instances is not None]


def _same(left: Sequence[object], right: Sequence[object]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


def _build_assignment(served: ServedUpstream, instances: list[ServiceInstances]) -> Resource:
    if served.module is None:
        raise ValueError(served.cluster)
    message: Any = build_endpoints(served.module, served.upstream, served.cluster, instances)
    for hook in hooks("apply_endpoints"):
        hook(served.upstream, message)
    body = to_bytes(message)
    return Resource(served.cluster, version_of(body), body)
