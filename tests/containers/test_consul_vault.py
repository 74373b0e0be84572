"""``deploy/compose/consul-vault``: objects in Consul, certificates in Vault, a service that registers itself."""

import http.client
import time
from collections.abc import Iterator

import pytest
import yaml

from gloo_nomad.demo.fetch import fetch
from tests.containers.deployment import Deployment, deployed, leftovers
from tests.containers.engine import Engine
from tests.containers.images import DEPLOYMENTS, OURS, read_env
from tests.containers.tls import fetch_insecurely, served_certificate

HTTP, HTTPS, CONSUL, API = 8080, 8443, 8500, 9095
KEY = "/v1/kv/gloo/gateway.solo.io/v1/VirtualService/gloo-system/default"
FOLDER = DEPLOYMENTS / "consul-vault"


@pytest.fixture(scope="module")
def running(engine: Engine) -> Iterator[Deployment]:
    """The deployment, with Envoy answering."""
    with deployed(engine, FOLDER, "gloo", read_env("consul-vault")) as deployment:
        deployment.wait_for_answer(HTTP, "/", "Hello from gloo-nomad")
        yield deployment
    assert not leftovers(engine)


def put_greeting(word: str) -> None:
    """One edit by Consul's own API."""
    document = yaml.safe_load(fetch(CONSUL, f"{KEY}?raw").text)
    document["virtualHost"]["routes"][0]["directResponseAction"]["body"] = f"{word}\n"
    assert fetch(CONSUL, KEY, method="PUT", body=yaml.safe_dump(document).encode()).text.strip() == "true"


def test_http_and_https(running: Deployment) -> None:
    """The service in Consul answers over HTTP and over HTTPS, with the certificate from Vault."""
    running.wait_for_answer(HTTP, "/echo/hello", '"path": "/hello"')
    running.wait_for(lambda: fetch_insecurely(HTTPS, "/echo/hello")[0] == 200, "HTTPS")

    assert "localhost" in served_certificate(HTTPS).subject.rfc4514_string()


@pytest.mark.parametrize("service", ["consul", "vault", "gloo", "gateway", "discovery", "gateway-proxy", "echo"])
def test_health_checks(running: Deployment, service: str) -> None:
    """The containers' own health checks pass."""
    name = running.container(service)
    running.wait_for(lambda: running.engine.is_healthy(name), f"health of {service}", 60)


def test_a_key_is_live(running: Deployment) -> None:
    """What is written to Consul KV is what Envoy answers."""
    put_greeting("Good morning")
    took = running.wait_for_answer(HTTP, "/", "Good morning", 30)
    print(f"live after {took * 1000:.0f} ms")


def test_discovery_writes_upstreams(running: Deployment) -> None:
    """The role discovery made an Upstream for a service that nobody wrote one for."""
    key = "/v1/kv/gloo/gloo.solo.io/v1/Upstream/gloo-system/consul?raw"
    running.wait_for(lambda: "discovered_by: consulplugin" in fetch(CONSUL, key).text, "an Upstream", 60)


def test_the_rest_api_asks_for_its_token(running: Deployment) -> None:
    """The front door answers nobody without the token of ``.env``."""
    token = read_env("consul-vault")["GLOO_NOMAD_API_TOKENS"]
    path = "/v1/objects/VirtualService/gloo-system/default"

    assert fetch(API, path).status == http.HTTPStatus.UNAUTHORIZED
    assert fetch(API, path, headers={"Authorization": f"Bearer {token}"}).status == http.HTTPStatus.OK


def test_vault_without_a_token(running: Deployment) -> None:
    """One more daemon says that Vault lets nobody in, is not ready, and does not restart in a loop."""
    engine = running.engine
    network = next(iter(engine.inspect(running.container("gloo"))["NetworkSettings"]["Networks"]))
    flags = [f"--network={network}", "--env=CONSUL_HTTP_ADDR=consul:8500", "--env=VAULT_ADDR=http://vault:8200"]
    command = ["run", "--xds-bind", "127.0.0.1:9977"]
    engine.run("run", "--detach", "--name", "outside", *flags, "--env=VAULT_TOKEN=", OURS, *command)
    try:
        running.wait_for(lambda: "permission denied" in engine.logs("outside").lower(), "a clear line", 60)

        assert engine.logs("outside").count("\n") < 60
        assert not engine.is_healthy("outside")
        assert engine.inspect("outside")["RestartCount"] == 0
    finally:
        engine.run("rm", "--force", "outside")


def test_traffic_goes_on_without_consul(running: Deployment) -> None:
    """Consul is stopped for some seconds: no request fails. It comes back: the next edit is live, nothing is lost."""
    running.engine.run("stop", "--time", "20", running.container("consul"))
    answers = []
    ends = time.monotonic() + 8
    while time.monotonic() < ends:
        answers.append(fetch(HTTP, "/echo/hello").status)
        answers.append(fetch_insecurely(HTTPS, "/echo/hello")[0])
    running.engine.run("start", running.container("consul"))

    assert set(answers) == {200}
    assert len(answers) > 50
    running.wait_for(lambda: fetch(CONSUL, f"{KEY}?raw").status == 200, "Consul with its data")
    put_greeting("Back again")
    running.wait_for_answer(HTTP, "/", "Back again", 60)
