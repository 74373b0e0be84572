"""Which virtual services a gateway serves: by reference, labels, expressions or all, within namespaces.

https://docs.solo.io/gloo-edge/latest/reference/api/github.com/solo-io/gloo/projects/gateway/api/v1/gateway.proto.sk/.
A gateway with ``ssl`` serves the virtual services that have an ``sslConfig``, one without the others.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, is_
from typing import Any, Final

from google.protobuf.message import Message

from gloo_nomad.api.gen import gateway_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.gateway.hosts import Converted
from gloo_nomad.gateway.labels import EVERYWHERE, admits, contains, parse_expressions
from gloo_nomad.gateway.services import Services
from gloo_nomad.reports import Finding, error
from gloo_nomad.store.snapshot import Collection

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

Selected = tuple[tuple[Converted, ...], list[Finding]]
_REF: Final = attrgetter("source.ref")


@dataclass(slots=True)
class Selection:
    """The virtual services that met the conditions of a gateway in the last round, sorted by namespace and name."""

    conditions: tuple[Any, ...] = ()
    services: Services = field(default_factory=Collection)
    found: tuple[Converted, ...] = ()

    def update(
        self, services: Services, conditions: tuple[Any, ...], admits: Callable[[Converted], bool]
    ) -> tuple[Converted, ...]:
        """Those of a round; only what changed is asked about, as long as the *conditions* are the same objects."""
        same = len(conditions) == len(self.conditions) and all(map(is_, conditions, self.conditions))
        changed = services.changed_since(self.services) if same else None
        if changed is None:
            self.found = tuple(filter(admits, services.values()))
        elif changed:
            found = list(self.found)
            for ref in changed:
                _exchange(ref, services.get(ref), admits, found)
            self.found = tuple(found)
        self.conditions, self.services = conditions, services
        return self.found


def _exchange(ref: Ref, service: Converted | None, admits: Callable[[Converted], bool], out: list[Converted]) -> None:
    """Puts one virtual service in, takes it out, or exchanges it."""
    place = bisect_left(out, ref, key=_REF)
    was = place < len(out) and out[place].source.ref == ref
    out[place : place + was] = [service] if service is not None and admits(service) else []


def select_services(
    http: gateway_pb2.HttpGateway, services: Services, selection: Selection, conditions: tuple[Message, bool]
) -> Selected:
    """The virtual services of a gateway, sorted by namespace and name, and what is wrong with its selector.

    One way of selecting applies, in this order: expressions, labels, references, all. The *conditions* are the object
    that has the selector, and whether it serves those with TLS.
    """
    ssl = conditions[1]
    if http.HasField("virtual_service_expressions"):
        requirements = parse_expressions(
            http.virtual_service_expressions.expressions, "virtualServiceExpressions.expressions"
        )
        if isinstance(requirements, Finding):
            return (), [requirements]
        wanted = _condition(http, ssl, lambda service: admits(requirements, service.labels))
    elif http.virtual_service_selector:
        labels = tuple(http.virtual_service_selector.items())
        wanted = _condition(http, ssl, lambda service: contains(service.labels, labels))
    elif http.virtual_services:
        return _by_refs([Ref(ref.namespace, ref.name) for ref in http.virtual_services], services, ssl)
    else:
        wanted = _condition(http, ssl, None)
    return selection.update(services, conditions, wanted), []


def _condition(
    http: gateway_pb2.HttpGateway, ssl: bool, wanted: Callable[[Converted], bool] | None
) -> Callable[[Converted], bool]:
    namespaces = frozenset(http.virtual_service_namespaces)
    everywhere = not namespaces or EVERYWHERE in namespaces

    def admits_service(service: Converted) -> bool:
        if (service.tls is not None) is not ssl or not (everywhere or service.source.namespace in namespaces):
            return False
        return wanted is None or wanted(service)

    return admits_service


def _by_refs(refs: Sequence[Ref], services: Services, ssl: bool) -> Selected:
    findings = [
        error(f"virtualServices[{index}]", f"virtual service {ref} does not exist; create it or remove the reference")
        for index, ref in enumerate(refs)
        if ref not in services
    ]
    found = (services[ref] for ref in sorted(set(refs)) if ref in services)
    return tuple(service for service in found if (service.tls is not None) is ssl), findings
