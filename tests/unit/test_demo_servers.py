"""Each server of the demos is started for real and answers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import Envoy, build_bootstrap, validate_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import ServerError, wait_until


@pytest.mark.consul
def test_consul_keeps_keys_and_services(consul: ConsulAgent, root_key: str) -> None:
    """Keys and services that are written are found, and gone when deleted."""
    consul.put(f"{root_key}/a", "1")
    assert consul.command("kv", "get", f"{root_key}/a") == "1\n"
    assert consul.get(f"{root_key}/a") == b"1"
    consul.delete(f"{root_key}/a")
    assert consul.get(f"{root_key}/a") is None

    instance = consul.register("demo-servers", 1234, Tags=["x"])
    wait_until(lambda: [entry["Service"]["Port"] for entry in consul.passing("demo-servers")] == [1234], "the service")
    consul.deregister(instance)
    wait_until(lambda: consul.passing("demo-servers") == [], "the end of the service")


@pytest.mark.consul
def test_consul_starts_again_on_its_port(new_consul: Callable[..., ConsulAgent]) -> None:
    """A stopped agent does not answer, and a new one can take its port."""
    first = new_consul()
    first.put("key", "value")
    first.stop()
    with pytest.raises(OSError, match="refused"):
        first.get("key")

    second = new_consul(port=first.port)

    assert second.get("key") is None


@pytest.mark.bao
def test_openbao_serves_secrets_by_policy(openbao: OpenBao) -> None:
    """A Secret is stored in the engine ``secret/`` and read with a token of the policy, and not with another's."""
    openbao.put_secret("demo", "header", {"header": {"headers": {"a": "b"}}})
    openbao.write_policy("demo", 'path "secret/data/gloo/*" { capabilities = ["read"] }')
    path = "/v1/secret/data/gloo/gloo.solo.io/v1/Secret/demo/header"

    allowed = fetch(openbao.port, path, headers={"X-Vault-Token": openbao.create_token("demo")})
    refused = fetch(openbao.port, path, headers={"X-Vault-Token": openbao.create_token("default")})

    assert allowed.json()["data"]["data"]["header"] == {"headers": {"a": "b"}}
    assert refused.status == 403
    openbao.delete_secret("demo", "header")
    with pytest.raises(ServerError, match="404"):
        openbao.request("GET", path.removeprefix("/v1/"))


@pytest.mark.nomad
@pytest.mark.consul
def test_nomad_runs_a_job_and_tells_consul(nomad: NomadAgent, consul: ConsulAgent, tmp_path: Path) -> None:
    """A raw_exec job runs, its service is in Consul, and stopping the job takes it away."""
    job = tmp_path / "job.hcl"
    job.write_text("""
job "demo-servers-sleep" {
  group "one" {
    network {
      mode = "host"
      port "http" {}
    }
    service {
      name = "demo-servers-sleep"
      port = "http"
    }
    task "sleep" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["600"]
      }
      resources {
        cpu    = 20
        memory = 20
      }
    }
  }
}
""")
    nomad.command("job", "run", "-detach", str(job))
    wait_until(lambda: len(consul.passing("demo-servers-sleep")) == 1, "the service", 60.0)

    nomad.command("job", "stop", "-purge", "-detach", "demo-servers-sleep")

    wait_until(lambda: consul.passing("demo-servers-sleep") == [], "the end of the service", 60.0)


@pytest.mark.envoy
def test_envoy_runs_without_its_xds_server(run_envoy: Callable[..., Envoy], free_port: Callable[[], int]) -> None:
    """Envoy starts with the bootstrap while nobody serves xDS, and says that it waits."""
    envoy = run_envoy(build_bootstrap(xds_port=free_port(), admin_port=free_port()))

    assert envoy.admin("/ready").status == 503
    assert envoy.stat("server.live") == 1
    assert envoy.config_dump()[0]["bootstrap"]["node"]["metadata"] == {"role": "gloo-system~gateway-proxy"}


@pytest.mark.envoy
@pytest.mark.parametrize("delta", [True, False])
def test_envoy_validates(tmp_path: Path, envoy_binary: Path, delta: bool) -> None:
    """Envoy accepts both bootstraps, and says what is wrong with a bad one."""
    good = build_bootstrap(xds_port=1, admin_port=2, delta=delta)
    bad = {**good, "no_such_field": 1}

    assert validate_bootstrap(tmp_path, good, binary=envoy_binary) == ""
    assert "no_such_field" in validate_bootstrap(tmp_path, bad, binary=envoy_binary)


def test_echo_answers_and_turns_critical(run_echo: Callable[..., int]) -> None:
    """The echo service answers what it was asked, by its name, and its check follows what it is told."""
    port = run_echo("one")

    answer = fetch(port, "/a?status=418", method="POST", body=b"hi", headers={"X-Test": "yes"})

    assert answer.status == 418
    assert (answer.json()["instance"], answer.json()["path"], answer.json()["body"]) == ("one", "/a?status=418", "hi")
    assert answer.json()["headers"]["x-test"] == "yes"
    assert fetch(port, "/health").status == 200
    fetch(port, "/health/critical", method="POST")
    assert fetch(port, "/health").status == 503
    fetch(port, "/health/passing", method="POST")
    assert fetch(port, "/health").status == 200
