"""Upstream type ``consul`` with the annotation ``gloo-nomad/provider: nomad``: a service that is registered with Nomad.

The contract has no such type. Its fields for services of Consul fit, so they mean here what they mean there, and tools
that know the contract can read the object: name, tags of instances that are wanted or not, tags that make subsets, and
datacenters (of Nomad's clients). ``gloo-nomad/nomad-namespace`` is Nomad's namespace, ``default`` without it.

Where a route names the upstream ``nomad-svc:<service>`` or ``nomad-svc:<service>.<Nomad's namespace>`` of
``gloo-system``, nobody has to store one: its *twin* is made.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.options.hooks import ClusterContext
from gloo_nomad.reports import Finding, error
from gloo_nomad.store.services import NOMAD_SERVICE, ServiceInstances
from gloo_nomad.upstreams import consul
from gloo_nomad.upstreams.hooks import SELECTOR, ServiceKey

TYPE: Final = "consul"
PROVIDER: Final = "gloo-nomad/provider"
NOMAD_NAMESPACE: Final = "gloo-nomad/nomad-namespace"
NOMAD: Final = "nomad"
DEFAULT_NAMESPACE: Final = "default"
TWIN_PREFIX: Final = "nomad-svc:"
TWIN_NAMESPACE: Final = "gloo-system"

_NAMESPACE: Final = re.compile(r"[a-zA-Z0-9_/-]{1,128}")
"""What Nomad allows in the name of a namespace."""
_TWIN: Final = re.compile(rf"{TWIN_PREFIX}[a-zA-Z0-9-]{{1,63}}(\.{_NAMESPACE.pattern})?")


def is_meant(upstream: upstream_pb2.Upstream) -> bool:
    """Whether the service is not one of Consul."""
    return upstream.metadata.annotations.get(PROVIDER, TYPE) != TYPE


def is_twin(ref: Ref) -> bool:
    """Whether an upstream of that name need not be stored."""
    return ref.name.startswith(TWIN_PREFIX) and ref.namespace == TWIN_NAMESPACE


def twin_fault(ref: Ref) -> str:
    """Why no twin can have that name; empty if one can."""
    if _TWIN.fullmatch(ref.name):
        return ""
    return f"is no service of Nomad: write {TWIN_PREFIX}<service> or {TWIN_PREFIX}<service>.<namespace of Nomad>"


def build_twin(name: str) -> upstream_pb2.Upstream:
    """The upstream of that name (``nomad-svc:...``) that nobody stores."""
    service, _, namespace = name.removeprefix(TWIN_PREFIX).partition(".")
    upstream = upstream_pb2.Upstream()
    upstream.metadata.name = name
    upstream.metadata.namespace = TWIN_NAMESPACE
    apply_place(namespace or DEFAULT_NAMESPACE, upstream)
    upstream.consul.service_name = service
    return upstream


def apply_place(namespace: str, out: upstream_pb2.Upstream) -> None:
    """Makes an upstream one of a service in that namespace of Nomad."""
    out.metadata.annotations[PROVIDER] = NOMAD
    out.metadata.annotations.pop(NOMAD_NAMESPACE, None)
    if namespace != DEFAULT_NAMESPACE:
        out.metadata.annotations[NOMAD_NAMESPACE] = namespace


def nomad_namespace(upstream: upstream_pb2.Upstream) -> str:
    """In which of Nomad's namespaces the service is."""
    return upstream.metadata.annotations.get(NOMAD_NAMESPACE, "") or DEFAULT_NAMESPACE


def apply_type(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Iterator[Finding]:
    """An EDS cluster with subsets, as for a service of Consul."""
    provider = upstream.metadata.annotations[PROVIDER]
    if provider != NOMAD:
        yield error(f"metadata.annotations[{PROVIDER}]", f"is {provider!r}; the providers are consul and nomad")
    if not _NAMESPACE.fullmatch(nomad_namespace(upstream)):
        text = "is no name of a namespace: letters, digits, dashes, slashes and underscores, at most 128"
        yield error(f"metadata.annotations[{NOMAD_NAMESPACE}]", text)
    yield from consul.apply_type(upstream, out, context)


def subset_selectors(upstream: upstream_pb2.Upstream) -> tuple[SELECTOR, ...]:
    """As for a service of Consul."""
    return consul.subset_selectors(upstream)


def services(upstream: upstream_pb2.Upstream, settings: settings_pb2.Settings) -> tuple[ServiceKey, ...]:
    """The service, which is in all datacenters of Nomad's region at once."""
    return ((NOMAD_SERVICE, Ref(nomad_namespace(upstream), upstream.consul.service_name)),)


def build_endpoints(upstream: upstream_pb2.Upstream, cluster: str, instances: Iterable[ServiceInstances]) -> Any:
    """As for a service of Consul, of the datacenters that the upstream names."""
    return consul.build_endpoints(upstream, cluster, _in_datacenters(upstream, instances))


def endpoint_findings(upstream: upstream_pb2.Upstream, instances: Iterable[ServiceInstances]) -> Iterator[Finding]:
    """As for a service of Consul."""
    yield from consul.endpoint_findings(upstream, _in_datacenters(upstream, instances))


def _in_datacenters(
    upstream: upstream_pb2.Upstream, instances: Iterable[ServiceInstances]
) -> tuple[ServiceInstances, ...]:
    wanted = frozenset(upstream.consul.data_centers)
    if not wanted:
        return tuple(instances)
    return tuple(
        replace(group, instances=tuple(found for found in group.instances if found.datacenter in wanted))
        for group in instances
    )
