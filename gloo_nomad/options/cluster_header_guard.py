"""Keeps clients from choosing a cluster: ``sanitizeClusterHeader`` of an HTTP gateway.

The headers that ``clusterHeader`` routes behind the gateway read are taken off each request before its route is chosen.
What may set them is ours: ``earlyHeaderManipulation`` of the connection manager, or a server of ``extauth``
(``clearRouteCache``) or ``extProc``.
"""

from typing import Any, Final

from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2

from gloo_nomad.api.gen import http_listener_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import Claims, ListenerContext
from gloo_nomad.reports import Findings

EXTENSION: Final = "gloo_nomad.cluster_header_guard"
FIELDS: Claims = {"gloo.solo.io.HttpListenerOptions": ("sanitize_cluster_header",)}


def apply_connection_manager(
    options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    if not options.sanitize_cluster_header.value or not context.cluster_headers:
        return ()
    config = header_mutation_pb2.HeaderMutation()
    for name in context.cluster_headers:
        config.mutations.add(remove=name)
    extension = type(out).FromString(b"").early_header_mutation_extensions.add(name=EXTENSION)
    extension.typed_config.CopyFrom(typed_config(config))
    out.early_header_mutation_extensions.insert(0, extension)
    return ()
