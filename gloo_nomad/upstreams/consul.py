"""Upstream type ``consul``: the healthy instances of a service, by EDS, with subsets by tag and datacenter.

Two kinds of upstream come here. One that a user or discovery stored has a metadata key for each tag and datacenter that
it names, as the reference has: ``tag_T`` and ``dc_D``, "1" or "0". The one behind ``consul`` destinations, which nobody
stores (its *twin*), has two keys that never change with the tags of the day: ``tags``, all tags of an instance in one
text, and ``dc``. So its cluster stays as it is while tags come and go.

The nearest datacenter is served first; each other one is a priority of its own behind it, in the order written.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority

What the contract has no field for stands in annotations: ``gloo-nomad/consul-namespace``,
``gloo-nomad/consul-partition`` (both of Consul Enterprise), ``gloo-nomad/port-name`` and ``gloo-nomad/tls-tag``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from envoy.config.endpoint.v3 import endpoint_pb2

from gloo_nomad.acceptance.names import is_ip_address
from gloo_nomad.api.gen import consul_pb2, settings_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.options.hooks import Claims, ClusterContext
from gloo_nomad.reports import Finding, error, warning
from gloo_nomad.settings.own import own_texts
from gloo_nomad.store.mesh import MESH_SERVICE
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, Place, ServiceInstances
from gloo_nomad.upstreams import tls_tags
from gloo_nomad.upstreams.hooks import SELECTOR, ServiceKey

TYPE: Final = "consul"
FIELDS: Claims = {
    "gloo.solo.io.Upstream": ("consul",),
    "consul.options.gloo.solo.io.UpstreamSpec": (
        "service_name",
        "service_tags",
        "subset_tags",
        "instance_tags",
        "instance_blacklist_tags",
        "connect_enabled",
        "data_centers",
        "consistencyMode",
        "query_options",
    ),
}

NAMESPACE: Final = "gloo-nomad/consul-namespace"
PARTITION: Final = "gloo-nomad/consul-partition"
PORT_NAME: Final = "gloo-nomad/port-name"

TWIN_PREFIX: Final = "consul-svc:"
TAGS_KEY: Final = "tags"
DATACENTER_KEY: Final = "dc"
SUBSET_METADATA: Final = "envoy.lb"
EVERY_SERVICE: Final = "*"
"""Stands in ``meshServices`` for all of them."""
_ALLOWLIST: Final = "gloo-nomad/service-tags-allowlist"
"""Of a twin: ``consulDiscovery.serviceTagsAllowlist``, as ``tags_value`` writes it."""
MAX_WEIGHT: Final = 65_535
"""Consul's bound for a service weight."""


def build_twin(service: str, datacenters: Iterable[str], settings: settings_pb2.Settings) -> upstream_pb2.Upstream:
    """The upstream behind ``consul`` destinations of a service."""
    upstream = upstream_pb2.Upstream()
    upstream.metadata.name = TWIN_PREFIX + service
    upstream.metadata.namespace = "gloo-system"
    upstream.consul.service_name = service
    upstream.consul.data_centers.extend(datacenters)
    allowed = settings.consulDiscovery.service_tags_allowlist
    if allowed:
        upstream.metadata.annotations[_ALLOWLIST] = tags_value(allowed)
    if not is_meshed(upstream, settings):
        tls_tags.apply_settings_tls(settings, upstream)
    return upstream


def apply_type(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Iterator[Finding]:
    """An EDS cluster with subsets."""
    if not upstream.consul.service_name:
        yield error("consul.serviceName", "is required: the name of the service in Consul")
    out.type = "EDS"
    out.eds_cluster_config.eds_config.resource_api_version = "V3"
    out.eds_cluster_config.eds_config.ads.SetInParent()
    subsets = out.lb_subset_config
    if _is_twin(upstream):
        _apply_twin_subsets(subsets)
        return
    for keys in subset_selectors(upstream):
        subsets.fallback_policy = "ANY_ENDPOINT"
        subsets.subset_selectors.add(keys=keys)


def _apply_twin_subsets(out: Any) -> None:
    """Exactly these tags, else any instance; these datacenters in the order written, else any instance.

    Datacenters are tried one after the other: Envoy reads the list from the route's metadata
    (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/subsets), so a selector
    with a datacenter must not fall back by itself.
    """
    out.fallback_policy = "ANY_ENDPOINT"
    out.metadata_fallback_policy = "FALLBACK_LIST"
    out.subset_selectors.add(keys=[TAGS_KEY], fallback_policy="ANY_ENDPOINT")
    out.subset_selectors.add(keys=[DATACENTER_KEY], fallback_policy="NO_FALLBACK")
    out.subset_selectors.add(keys=[DATACENTER_KEY, TAGS_KEY], fallback_policy="NO_FALLBACK")


def subset_selectors(upstream: upstream_pb2.Upstream) -> tuple[SELECTOR, ...]:
    """All datacenters, all tags, both: those of a stored upstream that are not empty."""
    datacenters = tuple(f"dc_{name}" for name in sorted(set(upstream.consul.data_centers)))
    tags = tuple(f"tag_{tag}" for tag in _subset_tags(upstream))
    both = (*datacenters, *tags) if datacenters and tags else ()
    return tuple(keys for keys in (datacenters, tags, both) if keys)


def is_meshed(upstream: upstream_pb2.Upstream, settings: settings_pb2.Settings) -> bool:
    """Whether the service is reached through Consul's mesh: ``connectEnabled``, or ``meshServices`` of the settings."""
    if upstream.consul.connect_enabled:
        return True
    named = own_texts(settings, "meshServices")
    return upstream.consul.service_name in named or EVERY_SERVICE in named


def services(upstream: upstream_pb2.Upstream, settings: settings_pb2.Settings) -> tuple[ServiceKey, ...]:
    """The service in each datacenter of the upstream, else of the settings, else in the agent's own."""
    spec, annotations = upstream.consul, upstream.metadata.annotations
    kind = MESH_SERVICE if is_meshed(upstream, settings) else CONSUL_SERVICE
    datacenters = spec.data_centers or settings.consul.service_discovery.data_centers or ("",)
    place = Place("", annotations.get(NAMESPACE, ""), annotations.get(PARTITION, ""), _reading(upstream, settings))
    return tuple(
        (kind, Ref(str(replace(place, datacenter=name)), spec.service_name)) for name in dict.fromkeys(datacenters)
    )


def _reading(upstream: upstream_pb2.Upstream, settings: settings_pb2.Settings) -> str:
    """How the service is to be read; the twin, which nobody could configure, as the settings say.

    DefaultMode and StaleMode are one: what is read stale and is too old is asked again of the leader. A blocking query
    sees each change with or without the agent's cache, so that is used only where it is asked for.
    """
    spec: Any = settings.consulDiscovery if _is_twin(upstream) else upstream.consul
    if spec.consistencyMode == consul_pb2.ConsistentMode:
        return "consistent"
    return "cached" if spec.query_options.use_cache.value else ""


def build_endpoints(upstream: upstream_pb2.Upstream, cluster: str, instances: Iterable[ServiceInstances]) -> Any:
    """Every instance that the upstream wants and Envoy can reach, once for each address."""
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster)
    seen: set[tuple[str, int]] = set()
    for priority, group in enumerate(_priorities(instances)):
        found = [instance for instance in wanted_instances(upstream, group) if not _fault(instance)]
        locality = assignment.endpoints.add(priority=priority)
        for instance in sorted(found, key=lambda instance: (instance.address, instance.port)):
            address = (instance.address, instance.port)
            if address not in seen:
                seen.add(address)
                _apply_instance(upstream, instance, locality.lb_endpoints.add())
    while assignment.endpoints and not assignment.endpoints[-1].lb_endpoints:
        del assignment.endpoints[-1]
    return assignment


def _priorities(instances: Iterable[ServiceInstances]) -> Iterator[list[ServiceInstances]]:
    """What is near together, and then each other place by itself."""
    found = list(instances)
    if near := [group for group in found if group.is_near]:
        yield near
    yield from ([group] for group in found if not group.is_near)


def endpoint_findings(upstream: upstream_pb2.Upstream, instances: Iterable[ServiceInstances]) -> Iterator[Finding]:
    """A warning for each instance that Envoy cannot be told."""
    for instance in wanted_instances(upstream, instances):
        if fault := _fault(instance):
            yield warning("consul.serviceName", f"instance {instance.id} is left out: {fault}")


def tags_value(tags: Iterable[str]) -> str:
    """A set of tags as one text, the same for the same set."""
    return ",".join(sorted({tag.replace("%", "%25").replace(",", "%2C") for tag in tags}))


def _is_twin(upstream: upstream_pb2.Upstream) -> bool:
    return upstream.metadata.name.startswith(TWIN_PREFIX)


def _subset_tags(upstream: upstream_pb2.Upstream) -> tuple[str, ...]:
    return tuple(sorted(set(upstream.consul.subset_tags or upstream.consul.service_tags)))


def wanted_instances(upstream: upstream_pb2.Upstream, instances: Iterable[ServiceInstances]) -> list[Instance]:
    """Those with all ``instanceTags`` and none of ``instanceBlacklistTags``, on the port that is asked for, sorted."""
    needed, refused = set(upstream.consul.instance_tags), set(upstream.consul.instance_blacklist_tags)
    found = {instance for group in instances for instance in group.instances}
    if not _is_allowed(upstream, found):
        return []
    port_name = upstream.metadata.annotations.get(PORT_NAME, "")
    return sorted(
        _with_port(instance, port_name)
        for instance in found
        if needed.issubset(instance.tags) and refused.isdisjoint(instance.tags)
    )


def _is_allowed(upstream: upstream_pb2.Upstream, instances: Iterable[Instance]) -> bool:
    """Whether the service has one of the tags that a service must have."""
    allowed = upstream.metadata.annotations.get(_ALLOWLIST, "")
    return not allowed or not set(allowed.split(",")).isdisjoint(
        tags_value([tag]) for instance in instances for tag in instance.tags
    )


def _with_port(instance: Instance, name: str) -> Instance:
    """The instance on its port of that name; port 0 if it has none."""
    return replace(instance, port=dict(instance.ports).get(name, 0)) if name else instance


def _fault(instance: Instance) -> str:
    if not is_ip_address(instance.address):
        return f"its address {instance.address!r} is a name that DNS has not found"
    if not 1 <= instance.port <= 65535:
        return f"{instance.port} is no port" if not instance.ports else "it has no port of that name"
    return "its weight is 0" if instance.weight < 1 else ""


def _apply_instance(upstream: upstream_pb2.Upstream, instance: Instance, out: Any) -> None:
    address = out.endpoint.address.socket_address
    address.address = instance.address
    address.port_value = instance.port
    out.load_balancing_weight.value = min(instance.weight, MAX_WEIGHT)
    if instance.degraded:
        out.health_status = "DEGRADED"
    if instance.host_name:
        out.endpoint.hostname = out.endpoint.health_check_config.hostname = instance.host_name
    labels = _twin_labels(instance) if _is_twin(upstream) else _labels(upstream, instance)
    if labels:
        out.metadata.filter_metadata[SUBSET_METADATA].update(labels)
    if tls_tags.tls_tag(upstream) in instance.tags:
        tls_tags.apply_mark(out)


def _twin_labels(instance: Instance) -> dict[str, str]:
    return {TAGS_KEY: tags_value(instance.tags), DATACENTER_KEY: instance.datacenter}


def _labels(upstream: upstream_pb2.Upstream, instance: Instance) -> dict[str, str]:
    labels = {f"tag_{tag}": str(int(tag in instance.tags)) for tag in _subset_tags(upstream)}
    labels.update({f"dc_{name}": str(int(name == instance.datacenter)) for name in upstream.consul.data_centers})
    return labels
