"""How much Envoy buffers for a connection of a client, in bytes; 32 KiB unless the gateway says otherwise.

https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge says why it is bounded; 0 takes the bound
away.
"""

from typing import Any

from gloo_nomad.api.gen import listener_options_pb2
from gloo_nomad.options.hooks import Claims, ListenerContext
from gloo_nomad.reports import Findings, warning

FIELDS: Claims = {"gloo.solo.io.ListenerOptions": ("per_connection_buffer_limit_bytes",)}


def apply_listener(options: listener_options_pb2.ListenerOptions, out: Any, context: ListenerContext) -> Findings:
    if not options.HasField("per_connection_buffer_limit_bytes"):
        return ()
    out.per_connection_buffer_limit_bytes.value = options.per_connection_buffer_limit_bytes.value
    if options.per_connection_buffer_limit_bytes.value == 0:
        return (warning("perConnectionBufferLimitBytes", "0 means no limit: one client may fill Envoy's memory"),)
    return ()
