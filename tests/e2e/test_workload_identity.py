"""The main job where Consul and Nomad deny by default and every token comes by Nomad's workload identity.

The set-up is that of ``nomad setup consul`` and ``nomad setup vault``, with the job's own three policies:
https://developer.hashicorp.com/nomad/docs/secure/workload-identity.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psutil
import pytest

from gloo_nomad.demo import seed
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.cluster import JOBS, POLICY, Cluster, echo_variables, put_seed, run_main_job
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerError, wait_until
from gloo_nomad.demo.stage import Ports
from tests.e2e.scene import to_upstream
from tests.nomad_jobs import echo_job, run_job
from tests.site import REF, host
from tests.workload_identity import consul_block, give_policies, trust_nomad, vault_block

pytestmark = [pytest.mark.consul, pytest.mark.nomad, pytest.mark.bao, pytest.mark.envoy]

START_SECONDS: Final = 120.0
NOMAD_SERVICE: Final = "known-to-nomad"
ROLES: Final = {"gloo", "gateway", "discovery"}
_STORED: Final = "gloo/gateway.solo.io/v1/VirtualService/gloo-system/"
VIRTUAL_SERVICE: Final = f"{_STORED}default"
_AGENT_RULES: Final = (
    'agent_prefix "" {policy = "read"} node_prefix "" {policy = "read"} service_prefix "" {policy = "write"}'
)


@pytest.fixture
def cluster(
    new_consul: Callable[..., ConsulAgent],
    new_openbao: Callable[..., OpenBao],
    new_nomad: Callable[..., NomadAgent],
) -> Iterator[Cluster]:
    """Agents that trust Nomad's identities, and no request without a token."""
    management = str(uuid4())
    tokens = {"initial_management": management, "agent": management}
    acl = {"enabled": True, "default_policy": "deny", "tokens": tokens}
    consul = replace(new_consul(config={"acl": acl}), token=management)
    bao = new_openbao()
    wait_until(lambda: _has_acl(consul), "Consul's ACLs", 30.0)
    token = _create_agent_token(consul)
    config = consul_block(consul, token) + vault_block(bao)
    with tempfile.TemporaryDirectory(prefix="nomad-", ignore_cleanup_errors=True) as short:
        nomad = new_nomad(config=config, token=str(uuid4()), data=Path(short))
        _trust_identities(nomad, consul, bao)
        yield Cluster(consul, nomad, bao)
        for job in ("gloo", "echo", NOMAD_SERVICE):
            nomad.command("job", "stop", "-purge", "-detach", job)
        wait_until(lambda: consul.passing("gateway-proxy") == [], "the end of the job", 60.0)
        nomad.stop()


def _has_acl(consul: ConsulAgent) -> bool:
    try:
        return bool(consul.request("GET", "acl/tokens"))
    except ServerError:
        return False


def _put(consul: ConsulAgent, path: str, body: Mapping[str, Any]) -> Any:
    return consul.request("PUT", f"acl/{path}", json.dumps(body).encode())


def _create_agent_token(consul: ConsulAgent) -> str:
    """A token that lets Nomad itself register services and nothing else."""
    _put(consul, "policy", {"Name": "nomad-agent", "Rules": _AGENT_RULES})
    token: str = _put(consul, "token", {"Policies": [{"Name": "nomad-agent"}]})["SecretID"]
    return token


def _trust_identities(nomad: NomadAgent, consul: ConsulAgent, bao: OpenBao) -> None:
    """Nomad's own set-up of the others; then the job's policies take the place of those that it made."""
    trust_nomad(nomad, consul, bao)
    of_job = ("-namespace", "default", "-job", "gloo")
    nomad.command("acl", "policy", "apply", *of_job, POLICY, str(JOBS / "gloo-nomad-policy.hcl"))
    _put(consul, "policy", {"Name": POLICY, "Rules": (JOBS / "gloo-consul-policy.hcl").read_text()})
    role = consul.request("GET", "acl/role/name/nomad-default-tasks")
    _put(consul, f"role/{role['ID']}", {"Name": role["Name"], "Policies": [{"Name": POLICY}]})
    give_policies(bao, POLICY)


def _task_environments(nomad: NomadAgent) -> dict[str, dict[str, str]]:
    """The variables of each gloo-nomad task, by its role."""
    found = {}
    for process in psutil.Process(nomad.server.pid).children(recursive=True):
        try:
            line, environ = process.cmdline(), process.environ()
        except psutil.NoSuchProcess:
            continue
        if "--role" in line:
            found[line[line.index("--role") + 1]] = environ
    return found


def test_every_token_comes_by_workload_identity(cluster: Cluster, tmp_path: Path, envoy_binary: Path) -> None:
    """With no token in the job, its policies let it serve HTTP and HTTPS, write statuses and find Nomad's services."""
    ports = Ports(http=free_port(), https=free_port(), envoy_admin=free_port(), seconds=0)
    authority = Authority()
    roots = tmp_path / "authority.pem"
    roots.write_text(authority.certificate)
    cluster.openbao.put_secret(*seed.CERTIFICATE, authority.issue("localhost").build_secret())
    put_seed(cluster.consul, http=ports.http, https=ports.https)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVOY", str(envoy_binary))
        identity = {"vault_token": "", "consul_identity": "true", "vault_role": POLICY}
        identity |= {"nomad_address": "", "nomad_identity": "true"}
        run_main_job(cluster, ports, drain_seconds="1", **identity)
    cluster.nomad.command("job", "run", "-detach", *echo_variables(count="1"), str(JOBS / "echo.nomad.hcl"))
    run_job(cluster.nomad, echo_job(NOMAD_SERVICE))
    route = to_upstream(f"nomad-svc:{NOMAD_SERVICE}")
    cluster.consul.put(
        f"{_STORED}nomad", json.dumps({"metadata": {"name": "nomad", **REF}, **host("nomad.test", route)})
    )

    try:
        _wait_for_answers(ports, roots)
        wait_until(lambda: b"Accepted" in (cluster.consul.get(VIRTUAL_SERVICE) or b""), "the status", START_SECONDS)
    except ServerError as failure:
        pytest.fail(f"{failure}\n{cluster.nomad.task_logs('gloo')}", pytrace=False)

    assert replace(cluster.consul, token="").get(VIRTUAL_SERVICE) is None
    tasks = _task_environments(cluster.nomad)
    assert tasks.keys() == ROLES
    for environ in tasks.values():
        _check_consul_token(replace(cluster.consul, token=environ["CONSUL_HTTP_TOKEN"]))
        _check_vault_token(replace(cluster.openbao, token=environ["VAULT_TOKEN"]))
        _check_nomad_token(cluster.nomad, environ)


def _wait_for_answers(ports: Ports, roots: Path) -> None:
    def is_answered(port: int, tls_roots: Path | None) -> bool:
        return fetch(port, "/echo/hello", host="localhost", tls_roots=tls_roots).status == 200

    wait_until(lambda: is_answered(ports.http, None), "an answer over HTTP", START_SECONDS)
    wait_until(lambda: is_answered(ports.https, roots), "an answer over HTTPS", START_SECONDS)
    asked = partial(fetch, ports.http, "/", host="nomad.test")
    wait_until(lambda: asked().status == 200, "an answer of a service of Nomad", START_SECONDS)


def _check_consul_token(consul: ConsulAgent) -> None:
    """It was given for Nomad's identity, and has the role that has the job's policy."""
    token = consul.request("GET", "acl/token/self")

    assert token["AuthMethod"] == "nomad-workloads"
    assert [role["Name"] for role in token["Roles"]] == ["nomad-default-tasks"]


def _check_vault_token(bao: OpenBao) -> None:
    """It was given for Nomad's identity, and has the job's policy."""
    token = bao.request("GET", "auth/token/lookup-self").json()["data"]

    assert token["path"] == "auth/jwt-nomad/login"
    assert token["policies"] == ["default", POLICY]


def _check_nomad_token(nomad: NomadAgent, environ: Mapping[str, str]) -> None:
    """It is none that somebody gave, but in a file of the task; without one Nomad tells nothing."""
    token = (Path(environ["NOMAD_SECRETS_DIR"]) / "nomad_token").read_text()

    assert "NOMAD_TOKEN" not in environ
    assert environ["NOMAD_ADDR"] == f"unix://{environ['NOMAD_SECRETS_DIR']}/api.sock"
    assert replace(nomad, token=token).request("GET", "job/echo")["ID"] == "echo"
    with pytest.raises(ServerError, match="403"):
        replace(nomad, token="").request("GET", "job/echo")
