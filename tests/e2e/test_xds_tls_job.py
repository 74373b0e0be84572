"""The main job with ``xds_tls = vault``: Vault issues certificates for gloo and for Envoys, and each checks the other.

Tasks are known to Vault by Nomad's workload identity, as after ``nomad setup vault``; each has the policy of its own.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import pytest

from gloo_nomad.demo import seed
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.cluster import JOBS, POLICY, Cluster, echo_variables, put_seed, run_main_job
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerError, wait_until
from gloo_nomad.demo.stage import Ports
from gloo_nomad.resources import CLUSTER
from tests.vault_pki import enable_pki
from tests.workload_identity import give_policies, trust_nomad, vault_block
from tests.xds_client import DeltaClient

pytestmark = [pytest.mark.consul, pytest.mark.nomad, pytest.mark.bao, pytest.mark.envoy]

START_SECONDS: Final = 120.0
PROXY: Final = "gateway-proxy"


@pytest.fixture
def cluster(
    new_consul: Callable[..., ConsulAgent],
    new_openbao: Callable[..., OpenBao],
    new_nomad: Callable[..., NomadAgent],
) -> Iterator[Cluster]:
    """Agents, and a Vault that trusts Nomad's identities."""
    consul, bao = new_consul(), new_openbao()
    nomad = new_nomad(config=vault_block(bao), consul=consul)
    trust_nomad(nomad, bao)
    yield Cluster(consul, nomad, bao)
    for job in ("gloo", "echo"):
        nomad.command("job", "stop", "-purge", "-detach", job)
    wait_until(lambda: consul.passing("gateway-proxy") == [], "the end of the job", 60.0)


def _enable_pki(bao: OpenBao) -> None:
    """An engine that issues the certificates of gloo and of Envoys."""
    enable_pki(bao, "pki")
    for role in ("gloo-xds", PROXY):
        allowed = {"allowed_domains": [f"{role}.service.consul"], "allow_bare_domains": True, "max_ttl": "72h"}
        bao.request("POST", f"pki/roles/{role}", {**allowed, "key_type": "ec", "key_bits": 256})


def test_envoys_connect_over_mutual_tls(cluster: Cluster, tmp_path: Path, envoy_binary: Path) -> None:
    """The job serves, its Envoy by TLS; who comes in plain text gets nothing, and the private keys are in no log."""
    ports = Ports(http=free_port(), https=free_port(), envoy_admin=free_port(), seconds=0)
    authority = Authority()
    roots = tmp_path / "authority.pem"
    roots.write_text(authority.certificate)
    cluster.openbao.put_secret(*seed.CERTIFICATE, authority.issue("localhost").build_secret())
    give_policies(cluster.openbao, POLICY, PROXY)
    _enable_pki(cluster.openbao)
    put_seed(cluster.consul, http=ports.http, https=ports.https)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVOY", str(envoy_binary))
        roles = {"vault_token": "", "vault_role": POLICY, "proxy_vault_role": PROXY}
        run_main_job(cluster, ports, drain_seconds="1", xds_tls="vault", **roles)
    cluster.nomad.command("job", "run", "-detach", *echo_variables(count="1"), str(JOBS / "echo.nomad.hcl"))

    asked = partial(fetch, path="/echo/hello", host="localhost")
    try:
        wait_until(lambda: asked(ports.http).status == 200, "an answer over HTTP", START_SECONDS)
        wait_until(lambda: asked(ports.https, tls_roots=roots).status == 200, "an answer over HTTPS", START_SECONDS)
    except ServerError as failure:
        pytest.fail(f"{failure}\n{cluster.nomad.task_logs('gloo')}", pytrace=False)

    envoy = Envoy(cluster.nomad.server, ports.envoy_admin)
    assert envoy.stat("cluster.xds_cluster.ssl.handshake") >= 1
    (gloo,) = cluster.consul.passing("gloo-xds")
    address = f"{gloo['Service']['Address']}:{gloo['Service']['Port']}"
    with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
        asyncio.run(_ask_in_plain_text(address))
    assert "PRIVATE KEY" not in cluster.nomad.task_logs("gloo")


async def _ask_in_plain_text(address: str) -> None:
    async with DeltaClient(address) as client:
        await client.subscribe(CLUSTER)
        await client.receive(START_SECONDS)
