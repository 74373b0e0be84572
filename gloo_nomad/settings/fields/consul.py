"""How Consul is reached, and what of its services is used."""

from typing import Final

_REACHED: Final = (
    "address",
    "http_address",
    "datacenter",
    "username",
    "password",
    "token",
    "ca_file",
    "ca_path",
    "cert_file",
    "key_file",
    "insecure_skip_verify",
)
FIELDS: Final = {
    "gloo.solo.io.Settings": (
        "consul",
        "consulDiscovery",
    ),
    "gloo.solo.io.Settings.ConsulConfiguration": (
        *_REACHED,
        "service_discovery",
        "wait_time",
        "dns_address",
        "dns_polling_interval",
    ),
    "gloo.solo.io.Settings.ConsulUpstreamDiscoveryConfiguration": (
        "useTlsTagging",
        "tlsTagName",
        "rootCa",
        "splitTlsServices",
        "consistencyMode",
        "query_options",
        "service_tags_allowlist",
        "eds_blocking_queries",  # always so, as far as connections suffice
    ),
}
FIXED: Final = tuple(f"consul.{name}" for name in _REACHED)
OWN: Final = {"warningInstances": False, "degradeWarningInstances": False, "equalDatacenters": False}
"""Whether instances with warnings get requests, only as degraded ones, and datacenters are served alike."""
