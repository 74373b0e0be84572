"""Envoy's side of mutual TLS towards its xDS server: files in a folder, which Envoy follows while it runs.

Envoy looks at such files again only where SDS delivers them, and at a move into the folder that it watches; an SDS file
holds one secret, so there are two of them.
https://www.envoyproxy.io/docs/envoy/latest/configuration/security/secret#key-rotation
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gloo_nomad.acceptance.names import is_ip_address

CERTIFICATE: Final = "client.pem"
PRIVATE_KEY: Final = "client-key.pem"
AUTHORITY: Final = "ca.pem"
KEY_FILES: Final = (CERTIFICATE, PRIVATE_KEY, AUTHORITY)
_IDENTITY_SDS: Final = "sds-identity.json"
_AUTHORITY_SDS: Final = "sds-authority.json"
_IDENTITY: Final = "xds_identity"
_AUTHORITY: Final = "xds_authority"
_SDS_SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105  # the name of a type
_CONTEXT: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """The folder with ``KEY_FILES``, as Envoy sees it, and the name in the server's certificate, if not the host."""

    folder: Path
    server_name: str = ""


def write_sds(tls: ClientTls, folder: Path | None = None) -> None:
    """Writes the two files that tell Envoy of the others; *folder* is where that folder is here."""
    place = folder or tls.folder
    watched = {"path": str(tls.folder)}
    identity = {
        "certificate_chain": {"filename": str(tls.folder / CERTIFICATE)},
        "private_key": {"filename": str(tls.folder / PRIVATE_KEY)},
        "watched_directory": watched,
    }
    trusted = {"trusted_ca": {"filename": str(tls.folder / AUTHORITY)}, "watched_directory": watched}
    secrets: dict[str, dict[str, Any]] = {
        _IDENTITY_SDS: {"name": _IDENTITY, "tls_certificate": identity},
        _AUTHORITY_SDS: {"name": _AUTHORITY, "validation_context": trusted},
    }
    for name, secret in secrets.items():
        (place / name).write_text(json.dumps({"resources": [{"@type": _SDS_SECRET, **secret}]}, indent=1) + "\n")


def build_transport_socket(tls: ClientTls, host: str) -> dict[str, Any]:
    """TLS with the client's certificate; the server's one must be signed by the authority and have the name."""
    name = tls.server_name or host
    kind = "IP_ADDRESS" if is_ip_address(name) else "DNS"
    context: dict[str, Any] = {
        "@type": _CONTEXT,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": [_sds(_IDENTITY, tls.folder / _IDENTITY_SDS)],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": name}}]
                },
                "validation_context_sds_secret_config": _sds(_AUTHORITY, tls.folder / _AUTHORITY_SDS),
            },
        },
    }
    if kind == "DNS":
        context["sni"] = name
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _sds(name: str, file: Path) -> dict[str, Any]:
    source = {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}
