"""Where a route sends requests: one upstream, several by weight, a Consul service, or a cluster that a header names.

A destination that does not exist is a warning, and the route goes to a cluster that does not exist either: Envoy
answers 503 for it and serves the rest.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from envoy.config.route.v3 import route_components_pb2
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from gloo_nomad.acceptance.headers import name_fault
from gloo_nomad.api.gen import destination_pb2, proxy_pb2, settings_pb2, upstream_pb2
from gloo_nomad.api.kinds import UPSTREAM, UPSTREAM_GROUP
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.names import (
    CONSUL_NAMESPACE,
    cluster_name,
    consul_cluster_name,
    consul_service_key,
    nomad_service_key,
)
from gloo_nomad.options.hooks import Claims
from gloo_nomad.reports import Finding, error, is_rejected, warning
from gloo_nomad.store.memo import Reads
from gloo_nomad.upstreams import nomad
from gloo_nomad.upstreams.consul import DATACENTER_KEY, SUBSET_METADATA, TAGS_KEY, tags_value
from gloo_nomad.upstreams.hooks import SELECTOR, subset_selectors, type_of

FIELDS: Claims = {
    "gloo.solo.io.RouteAction": ("single", "multi", "upstream_group", "cluster_header"),
    "gloo.solo.io.MultiDestination": ("destinations",),
    "gloo.solo.io.WeightedDestination": ("destination", "weight", "options"),
    "gloo.solo.io.Destination": ("subset", "upstream", "consul"),
    "gloo.solo.io.ConsulServiceDestination": ("service_name", "tags", "data_centers"),
    "gloo.solo.io.Subset": ("values",),
    "gloo.solo.io.UpstreamGroup": ("destinations", "metadata"),
}
REFUSED: Claims = {"gloo.solo.io.Destination": ("kube",)}

MAX_WEIGHT_SUM: Final = 0xFFFF_FFFF
ANY_UPSTREAM: Final = Ref("*", "*")
"""Stands in a set of reachable upstreams for all of them: a client's header may name any."""


@dataclass(slots=True)
class Reached:
    """What the routes of a virtual host lead to."""

    upstreams: set[Ref] = field(default_factory=set)
    consul_services: set[str] = field(default_factory=set)
    """As ``names.consul_service_key`` writes them; and upstreams of Nomad services that nobody stores."""
    missing: bool = False
    """Whether a destination does not exist."""
    specified: dict[str, Ref] = field(default_factory=dict)
    """Those of the upstreams that have a ``serviceSpec``, by the names of their clusters."""


@dataclass(frozen=True, slots=True)
class Destinations:
    """What destinations are looked up in."""

    reads: Reads
    settings: settings_pb2.Settings
    namespace: str = ""
    """Where an upstream without a namespace is looked for."""
    is_served: Callable[[Ref], bool] = lambda _ref: True
    """Whether an upstream that exists has a cluster."""
    outcome: str = "requests are answered with 503"
    """What becomes of what is sent to a destination that does not exist."""


def apply_single(
    destination: destination_pb2.Destination, out: Any, lookup: Destinations, reached: Reached
) -> Iterator[Finding]:
    """One destination onto a RouteAction: cluster and subset."""
    out.cluster = yield from _pick_cluster(destination, out, lookup, reached)


def _pick_cluster(
    destination: destination_pb2.Destination, out: Any, lookup: Destinations, reached: Reached
) -> Generator[Finding, None, str]:
    """The name of the destination's cluster; its subset goes onto *out*, a RouteAction or a ClusterWeight."""
    match destination.WhichOneof("destination_type"):
        case "upstream":
            return (yield from _apply_upstream(destination, out, lookup, reached))
        case "consul":
            return (yield from _apply_consul(destination.consul, out, reached))
        case "kube":
            yield error("kube", "services of Kubernetes do not exist here; name an upstream or a Consul service")
        case _:
            yield error("", "names nothing: give it an upstream or a Consul service")
    return ""


def apply_weighted(
    destinations: Iterable[destination_pb2.WeightedDestination], out: Any, lookup: Destinations, reached: Reached
) -> Iterator[Finding]:
    """Weighted destinations onto a WeightedCluster; a weight that is not set is 0. Options are the caller's."""
    total = 0
    for index, weighted in enumerate(destinations):
        total += weighted.weight.value
        entry = out.clusters.add()
        entry.weight.value = weighted.weight.value
        for finding in _apply_entry(weighted.destination, entry, lookup, reached):
            yield finding.under(f"destinations[{index}].destination")
    if not out.clusters:
        yield error("destinations", "is empty: name at least one destination")
    elif not 1 <= total <= MAX_WEIGHT_SUM:
        yield error("destinations", f"all weights together are {total}; they must be 1 to {MAX_WEIGHT_SUM}")


def _apply_entry(
    destination: destination_pb2.Destination, out: Any, lookup: Destinations, reached: Reached
) -> Iterator[Finding]:
    out.name = yield from _pick_cluster(destination, out, lookup, reached)


def destination_namespaces(destinations: Iterable[destination_pb2.Destination], namespace: str = "") -> frozenset[str]:
    """Where the Upstreams of destinations are; *namespace* is that of those that name none."""
    found = set()
    for destination in destinations:
        if destination.HasField("upstream"):
            found.add(destination.upstream.namespace or namespace)
        else:
            found.add(CONSUL_NAMESPACE)
    return frozenset(found)


def action_namespaces(action: proxy_pb2.RouteAction, reads: Reads) -> frozenset[str]:
    """Where the Upstreams are that an action leads to; none if only the request says which they are."""
    match action.WhichOneof("destination"):
        case "single":
            return destination_namespaces([action.single])
        case "multi":
            return destination_namespaces(weighted.destination for weighted in action.multi.destinations)
        case "upstream_group":
            ref = Ref(action.upstream_group.namespace, action.upstream_group.name)
            group: upstream_pb2.UpstreamGroup | None = reads.get(UPSTREAM_GROUP.name, ref)
            entries = group.destinations if group is not None else ()
            return destination_namespaces((weighted.destination for weighted in entries), ref.namespace)
    return frozenset()


def find_group(
    ref: Ref, lookup: Destinations
) -> tuple[upstream_pb2.UpstreamGroup | None, Destinations, tuple[Finding, ...]]:
    """An UpstreamGroup, how its own destinations are looked up, and a warning if it cannot be used."""
    group: upstream_pb2.UpstreamGroup | None = lookup.reads.get(UPSTREAM_GROUP.name, ref)
    inside = replace(lookup, namespace=ref.namespace)
    if group is None:
        return None, inside, (warning("", f"upstream group {ref} does not exist; {lookup.outcome}"),)
    if is_rejected(group_findings(group, lookup)):
        return None, inside, (warning("", f"upstream group {ref} is rejected; {lookup.outcome}"),)
    return group, inside, ()


def group_findings(group: upstream_pb2.UpstreamGroup, lookup: Destinations) -> Iterator[Finding]:
    """What is wrong with an UpstreamGroup, whether a route uses it or not."""
    inside = replace(lookup, namespace=group.metadata.namespace)
    yield from apply_weighted(group.destinations, route_components_pb2.WeightedCluster(), inside, Reached())


def apply_cluster_header(header: str, out: Any, reached: Reached) -> Iterator[Finding]:
    """The header whose value is the name of the cluster."""
    out.cluster_header = header
    reached.upstreams.add(ANY_UPSTREAM)
    if fault := name_fault(header, pseudo=True):
        yield error("", fault)


def _apply_upstream(
    destination: destination_pb2.Destination, out: Any, lookup: Destinations, reached: Reached
) -> Generator[Finding, None, str]:
    written = destination.upstream
    ref = _shared_ref(written.namespace or lookup.namespace, written.name)
    if not ref.name:
        yield error("upstream.name", "is required")
    reached.upstreams.add(ref)
    if nomad.is_twin(ref):
        return (yield from _pick_nomad(ref, reached))
    selectors, specified = lookup.reads.view(UPSTREAM.name, ref, _outline)
    if specified:
        reached.specified[cluster_name(ref)] = ref
    if selectors is None:
        reached.missing = True
        yield warning("upstream", f"upstream {ref} does not exist; {lookup.outcome}")
    elif not lookup.is_served(ref):
        reached.missing = True
        yield warning("upstream", f"upstream {ref} is rejected; {lookup.outcome}")
    if destination.HasField("subset"):
        _apply_metadata(dict(destination.subset.values), out)
        yield from _subset_findings(destination.subset.values, ref, selectors)
    return cluster_name(ref)


def _pick_nomad(ref: Ref, reached: Reached) -> Generator[Finding, None, str]:
    """A Nomad service by the name of its twin."""
    if fault := nomad.twin_fault(ref):
        yield error("upstream.name", fault)
        return ""
    reached.consul_services.add(nomad_service_key(ref.name))
    return cluster_name(ref)


@lru_cache(maxsize=65_536)
def _shared_ref(namespace: str, name: str) -> Ref:
    """The same object for the same name: sets of thousands of them are put together much faster."""
    return Ref(namespace, name)


def _outline(upstream: upstream_pb2.Upstream | None) -> tuple[tuple[SELECTOR, ...] | None, bool]:
    """All that most routes have to know of an upstream: by which keys it has subsets, and if it has a serviceSpec.

    None in place of the keys if it does not exist.
    """
    if upstream is None:
        return None, False
    module = type_of(upstream)
    if module is None:
        return (), False
    spec = getattr(getattr(upstream, module.TYPE), "service_spec", None)
    return subset_selectors(module, upstream), spec is not None and spec.WhichOneof("plugin_type") is not None


def _subset_findings(values: Any, ref: Ref, selectors: tuple[SELECTOR, ...] | None) -> Iterator[Finding]:
    if selectors == ():
        yield warning("subset", f"upstream {ref} has no subsets; every instance gets requests")
    elif selectors is not None and set(values) not in [set(keys) for keys in selectors]:
        offered = "; ".join(", ".join(keys) for keys in selectors)
        yield error("subset", f"upstream {ref} has no subsets by exactly these keys; it has them by: {offered}")


def _apply_consul(
    consul: destination_pb2.ConsulServiceDestination, out: Any, reached: Reached
) -> Generator[Finding, None, str]:
    """A Consul service; the subset is exactly these tags, and these datacenters one after the other."""
    if not consul.service_name or not consul.service_name.isprintable():
        yield error("consul.serviceName", "is required: the name of the service in Consul")
        return ""
    datacenters = list(dict.fromkeys(consul.data_centers))
    reached.consul_services.update(consul_service_key(consul.service_name, name) for name in datacenters or ("",))
    wanted: dict[str, Any] = {TAGS_KEY: tags_value(consul.tags)} if consul.tags else {}
    if datacenters:
        choices: list[dict[str, str]] = [{**wanted, DATACENTER_KEY: name} for name in datacenters]
        wanted = {**wanted, "fallback_list": [*choices, wanted]}
    if wanted:
        _apply_metadata(wanted, out)
    return consul_cluster_name(consul.service_name)


def _apply_metadata(values: dict[str, Any], out: Any) -> None:
    picked = Struct()
    json_format.ParseDict(values, picked)
    out.metadata_match.filter_metadata[SUBSET_METADATA].CopyFrom(picked)


def action_findings(action: proxy_pb2.RouteAction) -> Iterator[Finding]:
    """What no destination can be made of."""
    match action.WhichOneof("destination"):
        case None:
            text = "has no destination: name single, multi, upstreamGroup, clusterHeader or dynamicForwardProxy"
            yield error("", text)
