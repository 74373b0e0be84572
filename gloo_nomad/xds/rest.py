"""Discovery by REST: ``POST /v3/discovery:endpoints`` and its like, for Envoys that poll.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#rest-json-polling-subscriptions
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gloo_nomad.messages import version_of
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource
from gloo_nomad.serving import read_body
from gloo_nomad.xds.cache import XdsCache

MAX_BODY: Final = 1024 * 1024
_TYPES: Final = {"endpoints": ENDPOINTS, "clusters": CLUSTER, "listeners": LISTENER, "routes": ROUTES}
"""Not secrets: nothing says here who asks."""


def build_app(cache: XdsCache) -> Starlette:
    """The web application."""

    async def discover(request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in _TYPES:
            raise HTTPException(404, f"no such kind of resources; there are {', '.join(_TYPES)}")
        return _answer(await _read(request), _TYPES[kind], cache)

    return Starlette(routes=[Route("/v3/discovery:{kind}", discover, methods=["POST"])])


async def _read(request: Request) -> Any:
    try:
        document = dict(json.loads(await read_body(request, MAX_BODY)))
        return json_format.ParseDict(document, discovery_pb2.DiscoveryRequest(), ignore_unknown_fields=True)
    except (ValueError, TypeError, RecursionError, json_format.ParseError) as fault:
        raise HTTPException(400, "the body is no DiscoveryRequest in JSON") from fault


def _answer(request: Any, type_url: str, cache: XdsCache) -> Response:
    """304 for who has this already; what a role has not been published is not there yet."""
    role = request.node.metadata.fields["role"].string_value if "role" in request.node.metadata.fields else ""
    snapshot = cache.published(role)
    if snapshot is None:
        raise HTTPException(404, "nothing is served to the role in node.metadata.role")
    found = _chosen(snapshot.of(type_url), request.resource_names)
    version = version_of(*(f"{name} {resource.version}".encode() for name, resource in sorted(found.items())))
    if request.version_info == version:
        return Response(status_code=304)
    answer = discovery_pb2.DiscoveryResponse(version_info=version, type_url=type_url)
    answer.resources.extend(any_pb2.Any(type_url=type_url, value=resource.body) for resource in found.values())
    return JSONResponse(json_format.MessageToDict(answer, preserving_proto_field_name=True))


def _chosen(resources: Mapping[str, Resource], names: Any) -> Mapping[str, Resource]:
    return {name: resources[name] for name in names if name in resources} if names else resources
