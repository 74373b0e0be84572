"""Certificates from an SDS server other than gloo: ``sslConfig.sds``.

Without ``clusterName`` Envoy reaches the server by its address, for which it needs no cluster in its bootstrap; with it
the bootstrap has to have that cluster. A token goes along only to a server on the same machine: it would travel in
plain text. https://www.envoyproxy.io/docs/envoy/latest/configuration/security/secret
"""

from typing import Any, Final

from envoy.config.core.v3 import config_source_pb2, grpc_service_pb2
from envoy.config.grpc_credential.v3 import file_based_metadata_pb2

from gloo_nomad.acceptance.headers import name_fault
from gloo_nomad.api.gen import ssl_pb2
from gloo_nomad.envoy.secrets import TlsMaterial
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import EVERY, Claims
from gloo_nomad.reports import Finding, error
from gloo_nomad.resources import Resource

READS: Claims = {
    "gloo.solo.io.SDSConfig": EVERY,
    "gloo.solo.io.CallCredentials": EVERY,
    "gloo.solo.io.CallCredentials.FileCredentialSource": EVERY,
}

DEFAULT_TARGET: Final = "127.0.0.1:8234"
_STAT_PREFIX: Final = "sds"
_FILE_CREDENTIALS: Final = "envoy.grpc_credentials.file_based_metadata"
_MAX_BYTES: Final = 4096


def translate_server(config: ssl_pb2.SDSConfig) -> tuple[TlsMaterial, Finding | None]:
    """The names that the server knows and where it is, or what is wrong."""
    if fault := _fault(config):
        return TlsMaterial(), fault
    certificate, authority = config.certificates_secret_name, config.validation_context_name
    material = TlsMaterial(
        Resource(certificate, "", b"") if certificate else None,
        Resource(authority, "", b"") if authority else None,
        source=_build_source(config),
    )
    return material, None


def _fault(config: ssl_pb2.SDSConfig) -> Finding | None:
    names = ("certificates_secret_name", "validation_context_name", "target_uri", "cluster_name")
    for name in names:
        text = getattr(config, name)
        if len(text.encode()) > _MAX_BYTES or not text.isprintable():
            return error(config.DESCRIPTOR.fields_by_name[name].camelcase_name, f"{text[:80]!r} is no name")
    if not config.certificates_secret_name and not config.validation_context_name:
        return error("", "asks for nothing; give it a certificatesSecretName, a validationContextName or both")
    if config.WhichOneof("sds_builder") == "call_credentials":
        source = config.call_credentials.file_credential_source
        if not source.token_file_name or not source.token_file_name.isprintable():
            return error("callCredentials.fileCredentialSource.tokenFileName", "must be the path of a file")
        if fault := name_fault(source.header):
            return error("callCredentials.fileCredentialSource.header", fault)
    return None


def _build_source(config: ssl_pb2.SDSConfig) -> Any:
    source = config_source_pb2.ConfigSource(resource_api_version="V3")
    source.api_config_source.api_type = "GRPC"
    source.api_config_source.transport_api_version = "V3"
    service = source.api_config_source.grpc_services.add()
    if config.cluster_name:
        service.envoy_grpc.cluster_name = config.cluster_name
        return source
    service.google_grpc.target_uri = config.target_uri or DEFAULT_TARGET
    service.google_grpc.stat_prefix = _STAT_PREFIX
    if config.WhichOneof("sds_builder") == "call_credentials":
        _apply_credentials(config.call_credentials.file_credential_source, service.google_grpc)
    return source


def _apply_credentials(source: ssl_pb2.CallCredentials.FileCredentialSource, out: Any) -> None:
    """A token is sent on secure connections only; one on the same machine counts as such for gRPC."""
    config = file_based_metadata_pb2.FileBasedMetadataConfig(header_key=source.header)
    config.secret_data.filename = source.token_file_name
    out.channel_credentials.local_credentials.SetInParent()
    out.credentials_factory_name = _FILE_CREDENTIALS
    plugin = grpc_service_pb2.GrpcService.GoogleGrpc.CallCredentials.MetadataCredentialsFromPlugin(
        name=_FILE_CREDENTIALS, typed_config=typed_config(config)
    )
    out.call_credentials.add(from_plugin=plugin)
