"""The client's address is the first one in ``x-forwarded-for``: ``leftmostXffAddress`` of an HTTP gateway.

That is what the first proxy wrote, if all proxies in front can be trusted, and what the client likes to write if not:
access lists and limits by address are then worth nothing. Prefer ``xffNumTrustedHops`` where the number of proxies is
known. Here Envoy counts all addresses as those of proxies; of such a list it takes the first one.
https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/http/original_ip_detection/xff/v3/xff.proto
"""

from typing import Any, Final

from envoy.extensions.http.original_ip_detection.xff.v3 import xff_pb2

from gloo_nomad.api.gen import http_listener_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import Claims, ListenerContext
from gloo_nomad.reports import Findings, error

EXTENSION: Final = "envoy.http.original_ip_detection.xff"
FIELDS: Claims = {"gloo.solo.io.HttpListenerOptions": ("leftmost_xff_address",)}


def apply_connection_manager(
    options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    if not options.leftmost_xff_address.value:
        return ()
    settings = options.http_connection_manager_settings
    if settings.use_remote_address.value or settings.xff_num_trusted_hops.value:
        text = "does not go with useRemoteAddress or xffNumTrustedHops of httpConnectionManagerSettings; leave them out"
        return (error("leftmostXffAddress", text),)
    config = xff_pb2.XffConfig()
    config.skip_xff_append.value = settings.skip_xff_append.value
    for address in ("0.0.0.0", "::"):
        cidr = config.xff_trusted_cidrs.cidrs.add(address_prefix=address)
        cidr.prefix_len.value = 0
    out.use_remote_address.value = False
    extension = out.original_ip_detection_extensions.add(name=EXTENSION)
    extension.typed_config.CopyFrom(typed_config(config))
    return ()
