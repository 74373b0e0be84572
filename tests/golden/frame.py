"""The frame around the objects of an option's case: what has to be there, and is not the point."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

NAMESPACE: Final = "gloo-system"
Document = dict[str, Any]

_GATEWAY_TYPES: Final = frozenset({"httpGateway", "tcpGateway", "hybridGateway"})
_UPSTREAM_TYPES: Final = frozenset({"static", "pipe", "consul", "aws", "azure", "awsEc2", "gcp", "ai", "kube"})
_ACTIONS: Final = frozenset({"routeAction", "redirectAction", "directResponseAction", "delegateAction"})
_ROUTE_ACTION: Final = {"single": {"upstream": {"name": "echo", "namespace": NAMESPACE}}}
NAMES: Final = {"Gateway": "gateway-proxy", "VirtualService": "default", "Upstream": "echo"}
"""The objects of the frame, by kind."""


def fill_frame(written: Iterable[Mapping[str, Any]]) -> list[Document]:
    """The written objects, completed, and those of the frame that are not among them."""
    completed = [_complete(dict(document)) for document in written]
    present = {(document["kind"], document["metadata"]["name"]) for document in completed}
    missing = [kind for kind, name in NAMES.items() if (kind, name) not in present]
    return [*(_complete({"kind": kind}) for kind in missing), *completed]


def _complete(document: Document) -> Document:
    kind = document["kind"]
    metadata = {"name": NAMES.get(kind, ""), "namespace": NAMESPACE, **document.get("metadata", {})}
    document["metadata"] = metadata
    if kind == "Gateway":
        return _complete_gateway(document)
    if kind == "VirtualService":
        host = {"domains": ["*"], "routes": [{}], **document.get("virtualHost", {})}
        document["virtualHost"] = {**host, "routes": [_complete_route(route) for route in host["routes"]]}
    if kind == "RouteTable":
        document["routes"] = [_complete_route(route) for route in document.get("routes", [{}])]
    if kind == "Upstream" and not _UPSTREAM_TYPES & set(document):
        document["static"] = {"hosts": [{"addr": "127.0.0.1", "port": 8081}]}
    return document


def _complete_gateway(document: Document) -> Document:
    completed = {"bindAddress": "::", "bindPort": 8080, **document}
    if not _GATEWAY_TYPES & set(document):
        completed["httpGateway"] = {}
    return completed


def _complete_route(route: Mapping[str, Any]) -> Document:
    completed = {"matchers": [{"prefix": "/"}], **route}
    if not _ACTIONS & set(route):
        completed["routeAction"] = _ROUTE_ACTION
    return completed
