"""Lets methods through that no standard knows.

The reference turns off the check of methods in a build of Envoy that has another parser for headers. In stock Envoy the
parser of HTTP/1 itself refuses such methods unless it is told otherwise; HTTP/2 never does.
"""

from typing import Any

from gloo_nomad.api.gen import http_listener_options_pb2
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.reports import Findings

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("header_validation_settings",),
    "header_validation.options.gloo.solo.io.HeaderValidationSettings": EVERY,
}


def apply_connection_manager(
    options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    if options.header_validation_settings.HasField("disable_http1_method_validation"):
        out.http_protocol_options.allow_custom_methods = True
    return ()
