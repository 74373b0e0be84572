"""Tells the upstream, or the client, how many times a request was tried (header ``x-envoy-attempt-count``).

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-attempt-count
"""

from typing import Any, Final

from gloo_nomad.api.gen import virtual_host_options_pb2
from gloo_nomad.options.hooks import Claims, VirtualHostContext
from gloo_nomad.reports import Findings

_OPTIONS: Final = ("include_request_attempt_count", "include_attempt_count_in_response")

FIELDS: Claims = {"gloo.solo.io.VirtualHostOptions": _OPTIONS}


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    for name in _OPTIONS:
        setattr(out, name, getattr(options, name).value)
    return ()
