"""Instances of one Consul service that speak TLS, told by a tag, beside others that do not: through a real Envoy."""

import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.echo import EchoServer
from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.store.services import Instance
from tests.envoy_validate import build_bootstrap
from tests.pipeline.envoy_world import World, make_world, virtual_service
from tests.servers.test_envoy_serves import gateway, to_consul

pytestmark = pytest.mark.envoy
SETTINGS = {
    "consulDiscovery": {
        "useTlsTagging": True,
        "tlsTagName": "secure",
        "rootCa": {"name": "root", "namespace": "gloo-system"},
    }
}
REQUESTS = 40


@pytest.fixture
def authority() -> Authority:
    """Who signs the certificate of the service."""
    return Authority()


@pytest.fixture
def tls_port(authority: Authority, tmp_path: Any) -> Iterator[int]:
    """An instance that speaks nothing but TLS."""
    pair = authority.issue("web.example.com")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(pair.certificates)
    key.write_text(pair.private_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server = EchoServer(("127.0.0.1", 0), "secure")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def answers(port: int) -> Counter[tuple[int, str]]:
    """Who answered how, to many requests."""
    found: Counter[tuple[int, str]] = Counter()
    for _ in range(REQUESTS):
        answer = fetch(port, "/")
        found[answer.status, json.loads(answer.body)["instance"] if answer.status == 200 else answer.text] += 1
    return found


def serve(world: World, run_envoy: Callable[..., Envoy]) -> None:
    """Starts an Envoy with everything that the world is served."""
    bootstrap: dict[str, Any] = json_format.MessageToDict(
        build_bootstrap(world.snapshot()), preserving_proto_field_name=True
    )
    run_envoy(bootstrap, ready=True)


def put_both(world: World, secure: int, plain: int) -> None:
    """An instance with the tag, and one without."""
    world.put_instances(
        "web",
        Instance("127.0.0.1", secure, "1", ("secure",), "dc1"),
        Instance("127.0.0.1", plain, "2", (), "dc1"),
    )


def put_authority(world: World, certificate: str) -> None:
    """The Secret with the root certificate."""
    metadata = {"name": "root", "namespace": "gloo-system"}
    world.put_document({"kind": "Secret", "metadata": metadata, "tls": {"rootCa": certificate}})


def test_each_instance_is_spoken_to_as_it_speaks(
    run_envoy: Callable[..., Envoy], run_echo: Callable[..., int], tls_port: int, authority: Authority
) -> None:
    """Both answer, the one with the tag over TLS that is verified."""
    port = free_port()
    world = make_world(gateway(port), virtual_service(to_consul("/", "")), settings=SETTINGS)
    put_authority(world, authority.certificate)
    put_both(world, tls_port, run_echo("plain"))
    serve(world, run_envoy)

    assert set(answers(port)) == {(200, "secure"), (200, "plain")}


def test_another_authority_is_not_believed(
    run_envoy: Callable[..., Envoy], run_echo: Callable[..., int], tls_port: int
) -> None:
    """A certificate of somebody else is refused; the plain instance goes on."""
    port = free_port()
    world = make_world(gateway(port), virtual_service(to_consul("/", "")), settings=SETTINGS)
    put_authority(world, Authority("another").certificate)
    put_both(world, tls_port, run_echo("plain"))
    serve(world, run_envoy)
    found = answers(port)

    assert (200, "plain") in found
    assert (200, "secure") not in found


def test_while_the_authority_is_missing(
    run_envoy: Callable[..., Envoy], run_echo: Callable[..., int], tls_port: int
) -> None:
    """Nothing is sent to the instance with the tag, in particular no plain text."""
    port = free_port()
    world = make_world(gateway(port), virtual_service(to_consul("/", "")), settings=SETTINGS)
    put_both(world, tls_port, run_echo("plain"))
    serve(world, run_envoy)

    assert set(answers(port)) == {(200, "plain")}
