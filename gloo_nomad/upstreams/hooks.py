"""What a module of an upstream type defines. Modules are found by walking this package.

``TYPE``
    The field of Upstream's ``upstream_type`` that the module makes work.
``is_meant(upstream)`` (optional)
    Two modules may have the same field; the one with this takes the upstreams for which it is true.
``FIELDS``, ``READS``
    Claims, as in ``options.hooks``.
``apply_type(upstream, out, context)``
    Type, load assignment and subsets onto Envoy's Cluster. An error leaves the cluster out.
``wants_tls(upstream)``, ``server_names(upstream)`` (optional)
    Whether the type asks for TLS without an ``sslConfig``, and the names to send in it: with more than one, endpoints
    carry ``{"sni": name}`` in their transport socket metadata.
``services(upstream, settings)`` (optional)
    The services, as (kind, name), whose instances are the endpoints.
``is_meshed(upstream, settings)`` (optional)
    Whether those are reached through Consul's service mesh only.
``build_endpoints(upstream, cluster, instances)`` (optional)
    The ClusterLoadAssignment of those instances; a type that has it is served by EDS.
``endpoint_findings(upstream, instances)`` (optional)
    What is to be said about the instances.
``subset_selectors(upstream)`` (optional)
    The sets of metadata keys by which a route may pick a subset.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType, ModuleType
from typing import Any, Final, Protocol, cast

from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.options.hooks import ClusterContext
from gloo_nomad.options.registry import modules
from gloo_nomad.reports import Findings
from gloo_nomad.store.services import ServiceInstances

ServiceKey = tuple[str, Ref]
SELECTOR = tuple[str, ...]
NO_NAMES: Final[tuple[str, ...]] = ()


class ApplyType(Protocol):
    """``apply_type``."""

    def __call__(self, upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
        """See the module."""
        ...


@cache
def upstream_types() -> Mapping[str, ModuleType]:
    """Every upstream type by the name of its field."""
    found = (module for module in modules("gloo_nomad.upstreams") if not hasattr(module, "is_meant"))
    return MappingProxyType({module.TYPE: module for module in found})


@cache
def _special_types() -> tuple[ModuleType, ...]:
    return tuple(module for module in modules("gloo_nomad.upstreams") if hasattr(module, "is_meant"))


def type_of(upstream: upstream_pb2.Upstream) -> ModuleType | None:
    """The module of an upstream's type; None for a missing or unsupported one."""
    name = upstream.WhichOneof("upstream_type")
    for module in _special_types():
        if name == module.TYPE and module.is_meant(upstream):
            return module
    return upstream_types().get(name) if name else None


def wants_tls(module: ModuleType, upstream: upstream_pb2.Upstream) -> bool:
    """Whether the type asks for TLS by itself."""
    return bool(module.wants_tls(upstream)) if hasattr(module, "wants_tls") else False


def server_names(module: ModuleType, upstream: upstream_pb2.Upstream) -> tuple[str, ...]:
    """The distinct names that TLS handshakes with the endpoints send; "" for those that send none."""
    return cast("tuple[str, ...]", module.server_names(upstream)) if hasattr(module, "server_names") else NO_NAMES


def services(
    module: ModuleType, upstream: upstream_pb2.Upstream, settings: settings_pb2.Settings
) -> tuple[ServiceKey, ...]:
    """The services that the endpoints come from."""
    return cast("tuple[ServiceKey, ...]", module.services(upstream, settings)) if hasattr(module, "services") else ()


def is_meshed(module: ModuleType, upstream: upstream_pb2.Upstream, settings: settings_pb2.Settings) -> bool:
    """Whether the endpoints are reached through Consul's service mesh only."""
    return bool(module.is_meshed(upstream, settings)) if hasattr(module, "is_meshed") else False


def subset_selectors(module: ModuleType, upstream: upstream_pb2.Upstream) -> tuple[SELECTOR, ...]:
    """The sets of keys that subsets can be picked by."""
    if not hasattr(module, "subset_selectors"):
        return ()
    return cast("tuple[SELECTOR, ...]", module.subset_selectors(upstream))


def build_endpoints(
    module: ModuleType,
    upstream: upstream_pb2.Upstream,
    cluster: str,
    instances: Iterable[ServiceInstances],
) -> Any:
    """The ClusterLoadAssignment of a dynamic type."""
    return module.build_endpoints(upstream, cluster, tuple(instances))


def endpoint_findings(
    module: ModuleType, upstream: upstream_pb2.Upstream, instances: Iterable[ServiceInstances]
) -> Findings:
    """What is to be said about instances."""
    if not hasattr(module, "endpoint_findings"):
        return ()
    return cast("Findings", module.endpoint_findings(upstream, tuple(instances)))
