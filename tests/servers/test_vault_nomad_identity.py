"""The login of a task with its own workload identity: Nomad signs a JWT into a file, Vault trusts Nomad's keys."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.vault import VaultClient, VaultOptions
from gloo_nomad.clients.vault_logins import parse_login
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until

pytestmark = [pytest.mark.nomad, pytest.mark.bao]

JOB = """
job "identity" {
  type = "batch"
  group "identity" {
    task "identity" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "cp ${NOMAD_SECRETS_DIR}/nomad_gloo.jwt PLACE/copy && mv PLACE/copy PLACE/jwt"]
      }
      identity {
        name = "gloo"
        aud  = ["vault.io"]
        file = true
        ttl  = "1h"
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }
}
"""


def test_a_task_logs_in(
    new_nomad: Callable[..., NomadAgent], new_openbao: Callable[..., OpenBao], tmp_path: Path
) -> None:
    """The claims that Nomad makes of a task are those that the role of Vault binds, and its policy is the token's."""
    nomad, bao = new_nomad(), new_openbao()
    bao.write_policy("reader", 'path "secret/*" { capabilities = ["read", "list"] }')
    bao.request("POST", "sys/auth/jwt-nomad", {"type": "jwt"})
    config = {"jwks_url": f"{nomad.address}/.well-known/jwks.json", "jwt_supported_algs": ["RS256", "EdDSA"]}
    bao.request("POST", "auth/jwt-nomad/config", config)
    role = {
        "role_type": "jwt",
        "bound_audiences": ["vault.io"],
        "bound_claims": {"nomad_job_id": "identity"},
        "user_claim": "nomad_job_id",
        "token_policies": ["reader"],
    }
    bao.request("POST", "auth/jwt-nomad/role/gloo", role)
    (tmp_path / "identity.nomad.hcl").write_text(JOB.replace("PLACE", str(tmp_path)))
    nomad.command("job", "run", "-detach", str(tmp_path / "identity.nomad.hcl"))
    file = tmp_path / "jwt"
    wait_until(file.exists, "the identity of the task", 60)
    login = parse_login({"method": "jwt", "mountPath": "jwt-nomad", "role": "gloo", "jwtFile": str(file)}, {})

    async def run() -> None:
        client = VaultClient(VaultOptions(parse_address(bao.address, 8200), login=login))
        assert await client.list_names("secret", "nothing") == ()
        assert (await client.look_up_token()).ttl > 0
        await client.close()

    asyncio.run(run())
    nomad.command("job", "stop", "-purge", "-detach", "identity")
