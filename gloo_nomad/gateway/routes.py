"""One route as a user wrote it to one route of a proxy."""

from collections.abc import Iterable
from typing import Final

from gloo_nomad.api.gen import core_pb2, destination_pb2, gateway_pb2, matchers_pb2, proxy_pb2, settings_pb2
from gloo_nomad.api.kinds import ROUTE_TABLE, VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef

FIELDS: Final = {
    "gateway.solo.io.Route": (
        "matchers",
        "route_action",
        "redirect_action",
        "direct_response_action",
        "delegate_action",
        "options",
        "name",
        "inheritable_matchers",
        "inheritable_path_matchers",
        "options_config_refs",
    ),
}

SourceRef = proxy_pb2.SourceMetadata.SourceRef
_NOT_FOUND: Final = 404
_MAX_BODY_BYTES: Final = 4096
"""What Envoy takes as the body of a direct response unless it is told of more."""


def source_ref(source: ObjectRef, generation: int) -> SourceRef:
    """An object as a part of a route's metadata, in the words that existing tools know (``*v1.RouteTable``)."""
    return SourceRef(
        resource_ref=core_pb2.ResourceRef(name=source.name, namespace=source.namespace),
        resource_kind=f"*v1.{source.kind}",
        observed_generation=generation,
    )


def top_source(service: gateway_pb2.VirtualService) -> SourceRef:
    """A virtual service as a source."""
    metadata = service.metadata
    return source_ref(ObjectRef(VIRTUAL_SERVICE.name, metadata.namespace, metadata.name), metadata.generation)


def table_source(table: gateway_pb2.RouteTable) -> SourceRef:
    """A route table as a source."""
    metadata = table.metadata
    return source_ref(ObjectRef(ROUTE_TABLE.name, metadata.namespace, metadata.name), metadata.generation)


def build_route(
    route: gateway_pb2.Route, matchers: Iterable[matchers_pb2.Matcher], sources: Iterable[SourceRef], namespace: str
) -> proxy_pb2.Route:
    """The proxy's route, without options and name; *namespace* is where upstreams without one are."""
    built = proxy_pb2.Route(matchers=matchers)
    built.metadata_static.sources.extend(sources)
    action = route.WhichOneof("action")
    if action is not None:
        getattr(built, action).CopyFrom(getattr(route, action))
    if action == "route_action":
        _apply_namespace(namespace, built.route_action)
    return built


def _apply_namespace(namespace: str, out: proxy_pb2.RouteAction) -> None:
    """An upstream without a namespace is in that of the object that names it (single and multi destinations only)."""
    kind = out.WhichOneof("destination")
    destinations: Iterable[destination_pb2.Destination] = ()
    if kind == "single":
        destinations = (out.single,)
    elif kind == "multi":
        destinations = [weighted.destination for weighted in out.multi.destinations if weighted.HasField("destination")]
    for destination in destinations:
        if destination.WhichOneof("destination_type") == "upstream" and not destination.upstream.namespace:
            destination.upstream.namespace = namespace


def build_replacement(
    matchers: Iterable[matchers_pb2.Matcher], sources: Iterable[SourceRef], settings: settings_pb2.Settings
) -> proxy_pb2.Route:
    """What answers in place of a route that is wrong: ``gloo.invalidConfigPolicy``, or 404 without a body."""
    policy = settings.gloo.invalid_config_policy
    code = policy.invalid_route_response_code
    built = proxy_pb2.Route(matchers=matchers)
    built.metadata_static.sources.extend(sources)
    built.direct_response_action.status = code if 200 <= code < 600 else _NOT_FOUND
    body = policy.invalid_route_response_body
    if len(body.encode()) <= _MAX_BODY_BYTES:
        built.direct_response_action.body = body
    return built
