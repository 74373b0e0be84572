"""Consul's service mesh: TLS with our own identity, towards exactly the service that is meant.

Our certificate and the mesh's roots go by SDS, so a rotation changes no cluster. Without them there is no cluster: what
is in the mesh is never asked in plain text, and never without knowing who answers. Whether we may ask is decided at the
other end, by the intentions (https://developer.hashicorp.com/consul/docs/secure-mesh/intention).
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import settings_pb2, ssl_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.names import mesh_secret_ref
from gloo_nomad.envoy.secrets import TlsMaterial, translate_secret
from gloo_nomad.envoy.tls import TlsScope, build_upstream_socket
from gloo_nomad.envoy.tunnels import is_tunnelled
from gloo_nomad.reports import Finding, error, warning
from gloo_nomad.resources import Resource
from gloo_nomad.settings.own import own_value
from gloo_nomad.store.mesh import MESH_IDENTITY, MeshIdentity, MeshPlace
from gloo_nomad.store.services import parse_place
from gloo_nomad.upstreams.hooks import ServiceKey

_PATH: Final = "consul.connectEnabled"
_SETTING: Final = "meshServiceName"
_HTTP2: Final = "h2"
_IN_A_URI: Final = re.compile(r"[A-Za-z0-9._~-]{1,255}")
"""Names that are the same in a URI, a certificate and a server name."""
_NO_NAME: Final = "which is no name of a service in the mesh: it has letters, digits, dots, dashes and underscores only"


def mesh_identity(settings: settings_pb2.Settings) -> frozenset[ServiceKey]:
    """Which identity everything in the mesh needs; none if the settings name no service."""
    name = str(own_value(settings, _SETTING))
    return frozenset({(MESH_IDENTITY, Ref("", name))} if _IN_A_URI.fullmatch(name) else ())


def apply_mesh(
    upstream: upstream_pb2.Upstream,
    services: tuple[ServiceKey, ...],
    scope: TlsScope,
    secrets: list[Resource],
    out: Any,
) -> Iterator[Finding]:
    """The transport socket of a cluster whose endpoints are *services*; *secrets* grows by those that it names.

    There is none as long as there is no certificate: a warning, because that is no mistake in the Upstream.
    """
    yield from _clashes(upstream)
    us = str(own_value(scope.settings, _SETTING))
    identity: MeshIdentity | None = scope.reads.get(MESH_IDENTITY, Ref("", us))
    if identity is None:
        told = _missing(us) if mesh_identity(scope.settings) else f"{_SETTING} is {quote(us)}, {_NO_NAME}"
        yield warning(_PATH, told)
        return
    material = translate_secret(mesh_secret_ref(us), identity.secret, scope.memo)
    if fault := _fault(material):
        yield warning(_PATH, f"Consul's certificates for {us} cannot be used: {fault}")
        return
    places = [_place_of(key, identity.place) for _, key in services]
    config = ssl_pb2.UpstreamSslConfig(
        verify_subject_alt_name=[place.spiffe(key.name) for place, (_, key) in zip(places, services, strict=True)],
        alpn_protocols=[_HTTP2] if upstream.use_http2.value else [],
    )
    server_name = places[0].server_name(upstream.consul.service_name)
    socket = build_upstream_socket(config, server_name, scope, material)
    yield from (finding.under(_PATH) for finding in socket.findings)
    secrets.extend(socket.secrets)
    out.transport_socket.CopyFrom(socket.socket)


def _place_of(service: Ref, own: MeshPlace) -> MeshPlace:
    """Where a service is in the mesh: where we are, unless it says something else."""
    place = parse_place(service.namespace)
    return MeshPlace(
        own.domain,
        place.partition or own.partition,
        place.namespace or own.namespace,
        place.datacenter or own.datacenter,
    )


def _missing(service: str) -> str:
    return (
        f"is left out until Consul has given a certificate for {service}: its servers need connect.enabled, our token "
        f"service:write on {service}, and the Settings consul.serviceDiscovery; /healthz says what is missing"
    )


def _fault(material: TlsMaterial) -> str:
    if material.certificate_fault or material.authority_fault:
        return material.certificate_fault or material.authority_fault
    return "" if material.certificate and material.authority else "they are not complete"


def _clashes(upstream: upstream_pb2.Upstream) -> Iterator[Finding]:
    if not _IN_A_URI.fullmatch(upstream.consul.service_name):
        yield error("consul.serviceName", f"is {quote(upstream.consul.service_name)}, {_NO_NAME}")
    if upstream.HasField("ssl_config"):
        yield error(
            "sslConfig", "cannot be beside Consul's mesh, which brings its own certificates; remove one of both"
        )
    if is_tunnelled(upstream):
        yield error("httpProxyHostname", "cannot be beside Consul's mesh; remove one of both")
