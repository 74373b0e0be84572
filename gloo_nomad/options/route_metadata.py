"""Gives a route metadata that filters and access logs can read (``%METADATA(ROUTE:namespace:key)%``).

https://www.envoyproxy.io/docs/envoy/latest/configuration/advanced/well_known_dynamic_metadata
"""

from typing import Any

from gloo_nomad.api.gen import route_options_pb2
from gloo_nomad.options.hooks import Claims, RouteContext
from gloo_nomad.reports import Findings, error

FIELDS: Claims = {"gloo.solo.io.RouteOptions": ("envoy_metadata",)}


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if "" in options.envoy_metadata:
        return (error("envoyMetadata", "has an entry without a name; metadata is kept by the name of a filter"),)
    for namespace in sorted(options.envoy_metadata):
        out.metadata.filter_metadata[namespace].CopyFrom(options.envoy_metadata[namespace])
    return ()
