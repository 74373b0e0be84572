"""Consul and Vault that trust the workload identities of a Nomad, set up as ``nomad setup consul|vault`` does it.

https://developer.hashicorp.com/nomad/docs/secure/workload-identity
"""

from typing import Final

import pytest

from gloo_nomad.demo.cluster import JOBS
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.openbao import OpenBao

_VAULT: Final = """
vault {{
  enabled = true
  address = "{address}"
  default_identity {{
    aud = ["vault.io"]
    ttl = "1h"
  }}
}}
"""
_CONSUL: Final = """
consul {{
  address = "{address}"
  token   = "{token}"
  service_identity {{
    aud = ["consul.io"]
    ttl = "1h"
  }}
  task_identity {{
    aud = ["consul.io"]
    ttl = "1h"
  }}
}}
"""
_MADE_BY_NOMAD: Final = (
    "role_type",
    "bound_audiences",
    "user_claim",
    "user_claim_json_pointer",
    "claim_mappings",
    "token_period",
)


def vault_block(bao: OpenBao) -> str:
    """Of Nomad's configuration: tasks that ask for a token of Vault log in by their identities."""
    return _VAULT.format(address=bao.address)


def consul_block(consul: ConsulAgent, token: str) -> str:
    """The same for Consul; Nomad itself has the *token*."""
    return _CONSUL.format(address=consul.address, token=token)


def trust_nomad(nomad: NomadAgent, *servers: ConsulAgent | OpenBao) -> None:
    """Has Nomad set these up: an authentication method for its identities, with a role and a policy of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for server in servers:
            for name, value in server.environment.items():
                patch.setenv(name, value)
        for server in servers:
            name = "vault" if isinstance(server, OpenBao) else "consul"
            nomad.command("setup", name, "-y", "-jwks-url", f"{nomad.address}/.well-known/jwks.json")


def give_policies(bao: OpenBao, *policies: str) -> None:
    """Stores the jobs' policies, and for each a role of its name that gives it to Nomad's identities."""
    made = bao.request("GET", "auth/jwt-nomad/role/nomad-workloads").json()["data"]
    kept = {name: made[name] for name in _MADE_BY_NOMAD}
    for policy in policies:
        bao.write_policy(policy, (JOBS / f"{policy}-policy.hcl").read_text())
        bao.request("POST", f"auth/jwt-nomad/role/{policy}", {"token_policies": [policy], **kept})
