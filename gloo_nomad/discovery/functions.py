"""What discovery writes into the ``serviceSpec`` of an Upstream, and into which Upstreams; pure.

An annotation says what in the ``serviceSpec`` is discovery's: all of it, or with ``openapi-document`` only the
functions, where the user wrote ``swaggerInfo``. A ``serviceSpec`` without it is the user's and is never touched;
whoever takes the annotation out makes it theirs. Everything else in the Upstream stays as it is.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

from gloo_nomad.acceptance.descriptors import descriptor_fault
from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.clients.grpc_reflection import Reflected
from gloo_nomad.discovery.rest_functions import FoundFunctions

ANNOTATION: Final = "gloo-nomad/discovered-functions"
_TYPES: Final = ("static", "consul")


class Look(StrEnum):
    """What to look for. All but the first are also values of the annotation."""

    ANYTHING = "anything"
    """The Upstream has no ``serviceSpec`` yet."""
    OPENAPI = "openapi"
    """Discovery found a document: is it still the same?"""
    DOCUMENT = "openapi-document"
    """The user named a document in ``swaggerInfo``: its functions are wanted."""
    GRPC = "grpc"
    """Discovery found services by reflection: are they still the same?"""


def look_for(upstream: upstream_pb2.Upstream) -> Look | None:
    """What discovery has to look for; None if everything is the user's, or the type has no functions."""
    spec = service_spec(upstream)
    if spec is None:
        return None
    mark = upstream.metadata.annotations.get(ANNOTATION, "")
    match spec.WhichOneof("plugin_type"):
        case None:
            return Look.ANYTHING
        case "rest":
            return _look_for_rest(spec.rest, mark)
        case "grpc_json_transcoder" if mark == Look.GRPC:
            return Look.GRPC
    return None


def _look_for_rest(rest: Any, mark: str) -> Look | None:
    if not rest.swagger_info.WhichOneof("swagger_spec"):
        return None
    if mark == Look.OPENAPI and rest.swagger_info.url:
        return Look.OPENAPI
    return Look.DOCUMENT if mark == Look.DOCUMENT or not rest.transformations else None


def service_spec(upstream: upstream_pb2.Upstream) -> Any:
    """The ``serviceSpec`` of an Upstream whose addresses are known; None for other types."""
    kind = upstream.WhichOneof("upstream_type")
    return getattr(upstream, kind).service_spec if kind in _TYPES else None


def with_functions(upstream: upstream_pb2.Upstream, found: FoundFunctions, url: str = "") -> upstream_pb2.Upstream:
    """The Upstream with the functions of a document: of the one at *url*, or of that which the user named."""
    out, spec = _copy(upstream, Look.OPENAPI if url else Look.DOCUMENT)
    rest = spec.rest
    if url:
        rest.swagger_info.url = url
    rest.ClearField("transformations")
    for name, template in found.functions.items():
        rest.transformations[name].CopyFrom(template)
    return out


def with_services(
    upstream: upstream_pb2.Upstream, services: Sequence[str], descriptors: bytes
) -> upstream_pb2.Upstream:
    """The Upstream with a transcoder for these services. ``useHttp2`` stays what the user made it."""
    out, spec = _copy(upstream, Look.GRPC)
    transcoder = spec.grpc_json_transcoder
    transcoder.proto_descriptor_bin = descriptors
    transcoder.services[:] = services
    transcoder.match_incoming_request_route = True
    return out


def without_functions(upstream: upstream_pb2.Upstream) -> upstream_pb2.Upstream:
    """The Upstream without the ``serviceSpec`` that discovery wrote."""
    out, _ = _copy(upstream, Look.ANYTHING)
    del out.metadata.annotations[ANNOTATION]
    getattr(out, out.WhichOneof("upstream_type") or _TYPES[0]).ClearField("service_spec")
    return out


def usable_services(found: Reflected) -> tuple[str, ...]:
    """The services that Envoy can translate for: one with a broken annotation does not spoil the others."""
    if not descriptor_fault(found.descriptors, found.services):
        return found.services
    return tuple(name for name in found.services if not descriptor_fault(found.descriptors, (name,)))


def _copy(upstream: upstream_pb2.Upstream, mark: Look) -> tuple[upstream_pb2.Upstream, Any]:
    out = upstream_pb2.Upstream()
    out.CopyFrom(upstream)
    out.metadata.annotations[ANNOTATION] = mark
    return out, service_spec(out)
