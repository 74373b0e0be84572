"""Which virtual services a gateway serves: by reference, labels, expressions or all, within namespaces.

https://docs.solo.io/gloo-edge/latest/reference/api/github.com/solo-io/gloo/projects/gateway/api/v1/gateway.proto.sk/.
A gateway with ``ssl`` serves the virtual services that have an ``sslConfig``, one without the others.
"""

from collections.abc import Callable, Sequence
from typing import Final

from gloo_nomad.api.gen import gateway_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.gateway.hosts import Converted
from gloo_nomad.gateway.labels import EVERYWHERE, admits, contains, parse_expressions
from gloo_nomad.gateway.services import Services
from gloo_nomad.reports import Finding, error

FIELDS: Final = {
    "gateway.solo.io.HttpGateway": (
        "virtual_services",
        "virtual_service_selector",
        "virtual_service_namespaces",
        "virtual_service_expressions",
        "options",
    ),
    "gateway.solo.io.VirtualServiceSelectorExpressions": ("expressions",),
    "gateway.solo.io.VirtualServiceSelectorExpressions.Expression": ("key", "operator", "values"),
}

Selected = tuple[list[Converted], list[Finding]]


def select_services(http: gateway_pb2.HttpGateway, services: Services, *, ssl: bool) -> Selected:
    """The virtual services of a gateway, sorted by namespace and name, and what is wrong with its selector.

    One way of selecting applies, in this order: expressions, labels, references, all.
    """
    if http.HasField("virtual_service_expressions"):
        requirements = parse_expressions(
            http.virtual_service_expressions.expressions, "virtualServiceExpressions.expressions"
        )
        if isinstance(requirements, Finding):
            return [], [requirements]
        return _where(http, services, ssl, lambda service: admits(requirements, service.labels)), []
    if http.virtual_service_selector:
        wanted = tuple(http.virtual_service_selector.items())
        return _where(http, services, ssl, lambda service: contains(service.labels, wanted)), []
    if http.virtual_services:
        return _by_refs([Ref(ref.namespace, ref.name) for ref in http.virtual_services], services, ssl)
    return _where(http, services, ssl, None), []


def _where(
    http: gateway_pb2.HttpGateway,
    services: Services,
    ssl: bool,
    wanted: Callable[[Converted], bool] | None,
) -> list[Converted]:
    found = [service for service in services.values() if (service.tls is not None) is ssl]
    namespaces = frozenset(http.virtual_service_namespaces)
    if namespaces and EVERYWHERE not in namespaces:
        found = [service for service in found if service.source.namespace in namespaces]
    return found if wanted is None else [service for service in found if wanted(service)]


def _by_refs(refs: Sequence[Ref], services: Services, ssl: bool) -> Selected:
    findings = [
        error(f"virtualServices[{index}]", f"virtual service {ref} does not exist; create it or remove the reference")
        for index, ref in enumerate(refs)
        if ref not in services
    ]
    found = (services[ref] for ref in sorted(set(refs)) if ref in services)
    return [service for service in found if (service.tls is not None) is ssl], findings
