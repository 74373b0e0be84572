"""Translation to Envoy, and its server."""

from typing import Final

FIELDS: Final = {
    "gloo.solo.io.Settings": (
        "gloo",
        "upstreamOptions",
        "ip_v4_only",
        "dev_mode",
    ),
    "gloo.solo.io.GlooOptions": (
        "xds_bind_addr",
        "proxy_debug_bind_addr",
        "endpoints_warming_timeout",
        "circuit_breakers",
        "invalid_config_policy",
        "disable_proxy_garbage_collection",
        "remove_unused_filters",
        "disable_grpc_web",
        "enable_rest_eds",
        "rest_xds_bind_addr",
    ),
}
FIXED: Final = ("ip_v4_only", "gloo.xds_bind_addr", "gloo.proxy_debug_bind_addr", "gloo.rest_xds_bind_addr")
