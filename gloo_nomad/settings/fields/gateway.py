"""Translation of Gateways."""

from typing import Final

FIELDS: Final = {
    "gloo.solo.io.Settings": ("gateway",),
    "gloo.solo.io.GatewayOptions": (
        "read_gateways_from_all_namespaces",
        "virtual_service_options",
        "isolate_virtual_hosts_by_ssl_config",
        "translate_empty_gateways",
        "validation",
        "persist_proxy_spec",
        "compressed_proxy_spec",
        "enable_gateway_controller",
    ),
    "gloo.solo.io.GatewayOptions.ValidationOptions": ("warn_missing_tls_secret",),
}
