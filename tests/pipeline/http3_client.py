"""An Envoy that takes plain HTTP and forwards it by HTTP/3, so that any client speaks it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_TYPES: Final = "type.googleapis.com/envoy.extensions"
_PROTOCOLS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def build_client(
    listen: int, server: int, host: str, roots: Path, pair: tuple[Path, Path] | None = None
) -> Mapping[str, Any]:
    """Its bootstrap: where it listens, the UDP port of the server, the host's name, whom it trusts, and who it is."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "gateway", "host_rewrite_literal": host}}
    tls = {
        "sni": host,
        "common_tls_context": {
            "validation_context": {"trusted_ca": {"filename": str(roots)}},
            "tls_certificates": _certificates(pair),
        },
    }
    quic = {
        "@type": f"{_TYPES}.transport_sockets.quic.v3.QuicUpstreamTransport",
        "upstream_tls_context": tls,
    }
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "client",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "client",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": listen}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    cluster = {
        "name": "gateway",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            _PROTOCOLS: {
                "@type": f"type.googleapis.com/{_PROTOCOLS}",
                "explicit_http_config": {"http3_protocol_options": {}},
            }
        },
        "load_assignment": _endpoint(server),
        "transport_socket": {"name": "envoy.transport_sockets.quic", "typed_config": quic},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _endpoint(port: int) -> Mapping[str, Any]:
    address = {"socket_address": {"protocol": "UDP", "address": "127.0.0.1", "port_value": port}}
    return {"cluster_name": "gateway", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}


def _certificates(pair: tuple[Path, Path] | None) -> list[Mapping[str, Any]]:
    if pair is None:
        return []
    certificate, key = pair
    return [{"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}]
