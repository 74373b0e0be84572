"""The Nomad jobs and the policies, judged by Nomad, Consul, OpenBao and Envoy themselves."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import validate_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import ServerError

CHECKOUT = Path(__file__).parent.parent.parent
JOBS = CHECKOUT / "jobs"


def _parse(job: str, *variables: str) -> dict[str, Any]:
    """The job as Nomad reads it, without asking an agent."""
    nomad = find_binary("nomad", [CHECKOUT / ".servers"])
    options = [f"-var={variable}" for variable in variables]
    done = subprocess.run(
        [nomad, "job", "run", "-output", *options, JOBS / f"{job}.nomad.hcl"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    parsed: dict[str, Any] = json.loads(done.stdout)["Job"]
    return parsed


@pytest.mark.nomad
@pytest.mark.parametrize("driver", ["docker", "raw_exec"])
@pytest.mark.parametrize("job", ["gloo", "echo"])
def test_nomad_accepts_the_job(nomad: NomadAgent, job: str, driver: str) -> None:
    """A running agent validates each job for both drivers, without a warning."""
    answer = nomad.command("job", "validate", f"-var=driver={driver}", str(JOBS / f"{job}.nomad.hcl"))

    assert "Job validation successful" in answer
    assert "Warning" not in answer


@pytest.mark.nomad
def test_another_driver_is_refused() -> None:
    """A driver that the job does not know is refused with the ones it knows."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _parse("gloo", "driver=podman")

    assert b"The driver is docker or raw_exec." in caught.value.stderr + caught.value.stdout


@pytest.mark.nomad
def test_the_main_job_has_four_groups_with_checks() -> None:
    """Every group has a health check, is rolled out one by one, and goes back when the new version fails."""
    job = _parse("gloo")

    assert [group["Name"] for group in job["TaskGroups"]] == ["gloo", "gateway", "discovery", "gateway-proxy"]
    for group in job["TaskGroups"]:
        assert all(service["Checks"] for service in group["Services"])
        assert group["Services"]
    assert (job["Update"]["MaxParallel"], job["Update"]["AutoRevert"]) == (1, True)


@pytest.mark.nomad
def test_every_variable_is_described() -> None:
    """Each variable of each job has a description."""
    for file in JOBS.glob("*.nomad.hcl"):
        text = file.read_text()

        assert text.count('variable "') == text.count("  description = ")


@pytest.mark.nomad
def test_tokens_by_variable_or_by_identity() -> None:
    """Tokens stand in the environment when given, and Nomad's workload identity takes their place when asked for."""
    static = _parse("gloo", "consul_token=c", "vault_token=v", "vault_address=http://vault")["TaskGroups"][0]["Tasks"][
        0
    ]
    identity = _parse("gloo", "consul_identity=true", "vault_role=gloo", "vault_address=http://vault")
    task = identity["TaskGroups"][0]["Tasks"][0]

    assert (static["Env"]["CONSUL_HTTP_TOKEN"], static["Env"]["VAULT_TOKEN"]) == ("c", "v")
    assert (static["Consul"], static["Vault"]) == (None, None)
    assert not {"CONSUL_HTTP_TOKEN", "VAULT_TOKEN"} & set(task["Env"])
    assert task["Vault"]["Role"] == "gloo"
    assert task["Consul"] is not None


@pytest.mark.nomad
def test_nomads_own_token_by_identity() -> None:
    """Each gloo-nomad task has its identity in a file, and the task API unless an address is given."""
    by_socket = _parse("gloo", "nomad_identity=true")["TaskGroups"][:3]
    by_address = _parse("gloo", "nomad_identity=true", "nomad_address=https://nomad")["TaskGroups"][:3]
    without = _parse("gloo")["TaskGroups"][:3]

    for groups, address in (
        (by_socket, "unix://${NOMAD_SECRETS_DIR}/api.sock"),
        (by_address, "https://nomad"),
        (without, None),
    ):
        for (task,) in (group["Tasks"] for group in groups):
            assert task["Env"].get("NOMAD_ADDR") == address
            assert (task["Identity"] or {}).get("File") is (None if address is None else True)


@pytest.mark.nomad
@pytest.mark.envoy
def test_envoy_accepts_the_bootstrap(tmp_path: Path, envoy_binary: Path) -> None:
    """The bootstrap of the job, with Nomad's variables filled in, is valid, and follows a file for its xDS servers."""
    task = _parse("gloo", "namespace=edge")["TaskGroups"][3]["Tasks"][0]
    templates = {template["DestPath"]: template["EmbeddedTmpl"] for template in task["Templates"]}
    text = templates["local/envoy.yaml"]
    for name, value in {
        "NOMAD_ALLOC_ID": "1",
        "NOMAD_REGION": "global",
        "NOMAD_DC": "dc1",
        "NOMAD_TASK_DIR": str(tmp_path),
        "NOMAD_IP_metrics": "127.0.0.1",
        "NOMAD_PORT_metrics": "8081",
    }.items():
        text = text.replace(f'{{{{ env "{name}" }}}}', value)
    (tmp_path / "xds.yaml").write_text("resources: []\n")
    bootstrap = yaml.safe_load(text)

    assert validate_bootstrap(tmp_path, bootstrap, binary=envoy_binary) == ""
    assert bootstrap["node"]["metadata"]["role"] == "edge~gateway-proxy"
    assert bootstrap["dynamic_resources"]["ads_config"]["api_type"] == "DELTA_GRPC"
    assert '{{ range service "gloo-xds" }}' in templates["local/xds.yaml"]


@pytest.mark.bao
def test_the_vault_policy_reads_secrets_and_writes_none(openbao: OpenBao) -> None:
    """With the policy a token reads and lists Secret objects, and can neither write them nor read others."""
    openbao.write_policy("gloo-test", (JOBS / "gloo-policy.hcl").read_text())
    openbao.put_secret("policy", "one", {"header": {"headers": {"a": "b"}}})
    openbao.request("POST", "secret/data/elsewhere", {"data": {"a": "b"}})
    headers = {"X-Vault-Token": openbao.create_token("gloo-test")}
    secret = "/v1/secret/data/gloo/gloo.solo.io/v1/Secret/policy/one"

    assert fetch(openbao.port, secret, headers=headers).status == 200
    listed = fetch(
        openbao.port, secret.replace("/data/", "/metadata/").removesuffix("/one") + "?list=true", headers=headers
    )
    assert listed.json()["data"]["keys"] == ["one"]
    assert fetch(openbao.port, secret, method="POST", body=b'{"data":{}}', headers=headers).status == 403
    assert fetch(openbao.port, "/v1/secret/data/elsewhere", headers=headers).status == 403
    assert fetch(openbao.port, "/v1/auth/token/renew-self", method="POST", headers=headers).status == 200
    openbao.delete_secret("policy", "one")


@pytest.mark.consul
def test_the_consul_policy_is_enough_and_not_more(new_consul: Callable[..., ConsulAgent]) -> None:
    """With the policy a token writes objects and reads services, and cannot write keys elsewhere."""
    root = "11111111-2222-3333-4444-555555555555"
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": root, "agent": root}}
    consul = new_consul(config={"acl": acl})
    as_root = ("-token", root)
    consul.command(
        "acl", "policy", "create", *as_root, "-name", "gloo", "-rules", f"@{JOBS / 'gloo-consul-policy.hcl'}"
    )
    created = consul.command("acl", "token", "create", *as_root, "-policy-name", "gloo", "-format", "json")
    token = ("-token", json.loads(created)["SecretID"])

    assert "Success" in consul.command("kv", "put", *token, "gloo/gateway.solo.io/v1/VirtualService/a/b", "x")
    assert "consul" in consul.command("catalog", "services", *token)
    with pytest.raises(ServerError, match="Permission denied"):
        consul.command("kv", "put", *token, "other/key", "x")
