"""Who uses an SDS secret: the objects to tell when Envoy does not take it, such as files that it cannot read."""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message

from gloo_nomad.api.gen import ssl_pb2
from gloo_nomad.api.kinds import GATEWAY, MATCHABLE_HTTP_GATEWAY, MATCHABLE_TCP_GATEWAY, UPSTREAM, VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.envoy.names import (
    authority_file_name,
    authority_name,
    certificate_files_name,
    certificate_name,
    mesh_secret_ref,
)
from gloo_nomad.store.mesh import MESH_IDENTITY
from gloo_nomad.store.snapshot import ConfigSnapshot

_WHOLE: Final = (GATEWAY, MATCHABLE_HTTP_GATEWAY, MATCHABLE_TCP_GATEWAY, UPSTREAM)
"""Kinds with TLS at many places. Virtual services, of which there are thousands, have it at one."""


def find_secret_users(name: str, snapshot: ConfigSnapshot) -> Iterator[ObjectRef]:
    """The objects whose TLS configuration needs the secret of that name."""
    for ref, service in snapshot.of(VIRTUAL_SERVICE.name).items():
        if service.HasField("ssl_config") and name in secret_names(service.ssl_config):
            yield VIRTUAL_SERVICE.object_ref(ref)
    for kind in _WHOLE:
        for ref, message in snapshot.of(kind.name).items():
            if any(name in secret_names(config) for config in _configs(message)):
                yield kind.object_ref(ref)
    if any(name in {certificate_name(us), authority_name(us)} for us in _mesh_identities(snapshot)):
        for ref, upstream in snapshot.of(UPSTREAM.name).items():
            if upstream.consul.connect_enabled:
                yield UPSTREAM.object_ref(ref)


def _mesh_identities(snapshot: ConfigSnapshot) -> Iterator[Ref]:
    return (mesh_secret_ref(ref.name) for ref in snapshot.of(MESH_IDENTITY))


def secret_names(config: ssl_pb2.SslConfig | ssl_pb2.UpstreamSslConfig) -> frozenset[str]:
    """The names of the secrets that a TLS configuration may need."""
    match config.WhichOneof("ssl_secrets"):
        case "secret_ref":
            ref = Ref(config.secret_ref.namespace, config.secret_ref.name)
            return frozenset({certificate_name(ref), authority_name(ref)})
        case "ssl_files":
            files = config.ssl_files
            certificate = certificate_files_name(files.tls_cert, files.tls_key, files.ocsp_staple)
            return frozenset({certificate, authority_file_name(files.root_ca)})
        case _:
            return frozenset()


def _configs(message: Message) -> Iterator[Any]:
    if isinstance(message, ssl_pb2.SslConfig | ssl_pb2.UpstreamSslConfig):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else (value,):
            yield from _configs(item)
