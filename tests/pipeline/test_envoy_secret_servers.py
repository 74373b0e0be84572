"""Certificates from an SDS server other than gloo: how Envoy is told to reach it, and that it does."""

import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from gloo_nomad.demo.envoy import start_envoy
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.messages import typed_config
from gloo_nomad.resources import SECRET
from tests.envoy_validate import build_bootstrap
from tests.pipeline.certificates import make_pair
from tests.pipeline.envoy_world import World, make_world, upstream

CREDENTIALS = "callCredentials: {fileCredentialSource: {tokenFileName: /etc/token, header: x-token}}"


def with_server(sds: str, more: str = "") -> World:
    """An upstream whose certificates come from a server."""
    spec = f"static: {{hosts: [{{addr: 127.0.0.1, port: 8443}}]}}\nsslConfig: {{sds: {{{sds}}}{more}}}"
    gateway = "kind: Gateway\nmetadata: {name: gw, namespace: gloo-system}\nbindAddress: 127.0.0.1\nbindPort: 8080"
    service = "kind: VirtualService\nmetadata: {name: vs, namespace: gloo-system}\nvirtualHost: {routes: []}"
    return make_world(f"{gateway}\nhttpGateway: {{}}", service, upstream(spec=spec))


def context_of(world: World) -> Any:
    """The TLS context of the cluster."""
    context = tls_pb2.UpstreamTlsContext()
    assert world.cluster("up_gloo-system").transport_socket.typed_config.Unpack(context)
    return context.common_tls_context


def test_a_server_is_reached_by_its_address() -> None:
    """Without a cluster of the bootstrap Envoy asks the address, by default that of the usual sidecar."""
    world = with_server("certificatesSecretName: mine, validationContextName: roots")
    common = context_of(world)
    config = common.tls_certificate_sds_secret_configs[0]
    service = config.sds_config.api_config_source.grpc_services[0]

    assert (config.name, common.validation_context_sds_secret_config.name) == ("mine", "roots")
    assert service.google_grpc.target_uri == "127.0.0.1:8234"
    assert not service.google_grpc.HasField("channel_credentials")
    assert world.names(SECRET) == []


def test_a_server_is_reached_by_a_cluster_of_the_bootstrap() -> None:
    """A cluster that is named wins, and certificates may be checked for names."""
    common = context_of(with_server("clusterName: sds, validationContextName: roots", ", verifySubjectAltName: [a]"))
    combined = common.combined_validation_context
    source = combined.validation_context_sds_secret_config.sds_config.api_config_source

    assert source.grpc_services[0].envoy_grpc.cluster_name == "sds"
    assert combined.default_validation_context.match_typed_subject_alt_names[0].matcher.exact == "a"


def test_a_token_proves_who_is_asking() -> None:
    """The token is read from a file by Envoy, and sent in the header."""
    common = context_of(with_server(f"validationContextName: roots, targetUri: '127.0.0.1:9', {CREDENTIALS}"))
    grpc_config = common.validation_context_sds_secret_config.sds_config.api_config_source.grpc_services[0].google_grpc
    plugin = json_format.MessageToDict(grpc_config.call_credentials[0].from_plugin.typed_config)

    assert grpc_config.target_uri == "127.0.0.1:9"
    assert (plugin["headerKey"], plugin["secretData"]) == ("x-token", {"filename": "/etc/token"})


@pytest.mark.parametrize(
    ("sds", "path"),
    [
        ("targetUri: '127.0.0.1:9'", "sslConfig.sds"),
        ('validationContextName: "a\\nb"', "sslConfig.sds.validationContextName"),
        (
            "validationContextName: a, callCredentials: {fileCredentialSource: {header: h}}",
            "sslConfig.sds.callCredentials.fileCredentialSource.tokenFileName",
        ),
        (
            "validationContextName: a, callCredentials: {fileCredentialSource: {tokenFileName: /t, header: 'a b'}}",
            "sslConfig.sds.callCredentials.fileCredentialSource.header",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_rejected(sds: str, path: str) -> None:
    """A server needs something to be asked for, and a token a file and a header."""
    world = with_server(sds)

    assert [(problem.path, problem.ref.name) for problem in world.problems()] == [(path, "up")]
    assert "up_gloo-system" not in world.names("type.googleapis.com/envoy.config.cluster.v3.Cluster")


class SecretServer:
    """An SDS server with one set of root certificates; remembers what it was asked for."""

    def __init__(self, roots: str) -> None:
        self.roots = roots
        self.asked: list[str] = []
        self._stopped = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
        )
        service = "envoy.service.secret.v3.SecretDiscoveryService"
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"StreamSecrets": handler}),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _stream(self, requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        for request in requests:
            if request.response_nonce:
                continue
            self.asked.extend(request.resource_names)
            secret = secret_pb2.Secret(name=request.resource_names[0])
            secret.validation_context.trusted_ca.inline_string = self.roots
            yield discovery_pb2.DiscoveryResponse(
                version_info="1", nonce="1", type_url=SECRET, resources=[typed_config(secret)]
            )

    def stop(self) -> None:
        """Ends it."""
        self._server.stop(0).wait()


@pytest.mark.envoy
def test_envoy_takes_certificates_from_the_server(tmp_path: Path, envoy_binary: Path) -> None:
    """A running Envoy asks the server by name and takes what it answers."""
    server = SecretServer(make_pair("localhost").certificate)
    world = with_server(f"validationContextName: roots, targetUri: '127.0.0.1:{server.port}'")
    bootstrap = build_bootstrap(world.snapshot())
    bootstrap.static_resources.ClearField("listeners")
    envoy = start_envoy(tmp_path, json_format.MessageToDict(bootstrap), binary=envoy_binary)
    try:
        wait_until(
            lambda: envoy.stat("cluster.up_gloo-system.client_ssl_socket_factory.ssl_context_update_by_sds") > 0,
            "an answer of the server",
            10,
        )
        assert server.asked == ["roots"]
    finally:
        envoy.stop()
        server.stop()
