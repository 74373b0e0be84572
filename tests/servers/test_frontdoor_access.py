"""Who may use the front door: tokens of Consul with Consul's own rights, identities of Nomad's tasks with ours."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.clients.nomad import NomadClient, NomadOptions
from gloo_nomad.clients.token import Token
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.processes import ServerError, wait_until
from gloo_nomad.frontdoor.consul_access import ConsulGuard
from gloo_nomad.frontdoor.folder_objects import FolderObjects
from gloo_nomad.frontdoor.kv_objects import KvObjects
from gloo_nomad.frontdoor.nomad_access import NomadGuard, parse_rights
from tests.frontdoor_world import VS, served, virtual_service

KINDS = "gloo/gateway.solo.io/v1"
JOB = """
job "deploy-blue" {
  type = "batch"
  group "deploy" {
    task "deploy" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "cp ${NOMAD_SECRETS_DIR}/nomad_door.jwt PLACE/copy && mv PLACE/copy PLACE/jwt"]
      }
      identity {
        name = "door"
        aud  = ["gloo-nomad"]
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


def bearer(token: str) -> dict[str, str]:
    """The header of a request."""
    return {"Authorization": f"Bearer {token}"}


def create_token(consul: ConsulAgent, name: str, rules: str) -> str:
    """A token of Consul with these rights."""
    consul.request("PUT", "acl/policy", json.dumps({"Name": name, "Rules": rules}).encode())
    answer = consul.request("PUT", "acl/token", json.dumps({"Policies": [{"Name": name}]}).encode())
    token: str = answer["SecretID"]
    return token


@pytest.mark.consul
def test_tokens_of_consul(new_consul: Callable[..., ConsulAgent]) -> None:
    """Each caller reads and writes what the ACL lets them, in the namespaces that it names; nobody else gets in."""
    management = str(uuid4())
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": management, "agent": management}}
    consul = replace(new_consul(config={"acl": acl}), token=management)
    wait_until(lambda: _answers(consul), "Consul's ACLs", 30)
    writer = create_token(consul, "a", f'key_prefix "{KINDS}/VirtualService/team-a/" {{ policy = "write" }}')
    reader = create_token(consul, "r", f'key_prefix "{KINDS}/" {{ policy = "read" }}')
    options = ConsulOptions(parse_address(consul.address, 8500), Token(management))

    async def scenario() -> None:
        client = ConsulClient(options)
        async with served(KvObjects(client, "gloo"), guard=ConsulGuard(options, "gloo")) as fetch:
            mine, theirs = _named("team-a"), _named("team-b")
            assert (await fetch("PUT", f"{VS}/team-a/a", mine, **bearer(writer)))[0] == 201
            assert (await fetch("GET", f"{VS}/team-a/a", **bearer(reader)))[0] == 200
            for method, path, body, token in (
                ("PUT", f"{VS}/team-b/a", theirs, writer),
                ("GET", f"{VS}/team-b/a", None, writer),
                ("DELETE", f"{VS}/team-b/a", None, writer),
                ("PUT", f"{VS}/team-a/a", _named("team-a", "other.test"), reader),
                ("DELETE", f"{VS}/team-a/a", None, reader),
            ):
                status, _, answer = await fetch(method, path, body, **bearer(token))
                assert (status, answer["error"]) == (403, "Consul does not let this token do that")
            assert (await fetch("PUT", f"{VS}/team-b/a", theirs, **bearer(management)))[0] == 201
            assert len((await fetch("GET", VS, **bearer(writer)))[2]["items"]) == 1
            assert len((await fetch("GET", VS, **bearer(reader)))[2]["items"]) == 2
            assert (await fetch("POST", "/v1/validate", mine, **bearer(reader)))[0] == 200
            for token in ("", str(uuid4()), "x" * 300, "two words", "caf\u00e9"):
                for method, path in (("GET", VS), ("POST", "/v1/validate"), ("DELETE", f"{VS}/team-a/a")):
                    status, headers, answer = await fetch(method, path, mine, **bearer(token))
                    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
                    assert "bearer token" in answer["error"]
            assert (await fetch("DELETE", f"{VS}/team-a/a", **bearer(writer)))[0] == 204
        await client.close()

    asyncio.run(scenario())


@pytest.mark.consul
def test_a_consul_without_acls_lets_nobody_in(consul: ConsulAgent, root_key: str) -> None:
    """There every token would do; so none does. The same while Consul does not answer."""
    options = ConsulOptions(parse_address(consul.address, 8500))
    nowhere = ConsulOptions(parse_address("127.0.0.1:9", 8500))

    async def scenario() -> None:
        client = ConsulClient(options)
        store = KvObjects(client, root_key)
        for asked, told in ((options, "Consul's ACLs are off"), (nowhere, "cannot connect")):
            async with served(store, guard=ConsulGuard(asked, root_key)) as fetch:
                status, _, answer = await fetch("GET", VS, **bearer("anything"))
                assert status == 503
                assert told in answer["error"]
        await client.close()

    asyncio.run(scenario())


@pytest.mark.nomad
def test_identities_of_nomad(new_nomad: Callable[..., NomadAgent], tmp_path: Path) -> None:
    """A task is let in by what Nomad signed, with the rights of its job; whatever else looks like it is not."""
    nomad = new_nomad()
    (tmp_path / "deploy.nomad.hcl").write_text(JOB.replace("PLACE", str(tmp_path)))
    nomad.command("job", "run", "-detach", str(tmp_path / "deploy.nomad.hcl"))
    wait_until((tmp_path / "jwt").exists, "the identity of the task", 60)
    token = (tmp_path / "jwt").read_text().strip()
    rights = parse_rights({"default/deploy-*": {"write": ["team-a"], "read": ["team-b"]}, "other/*": {"write": ["*"]}})

    async def scenario() -> None:
        client = NomadClient(NomadOptions(parse_address(nomad.address, 4646)))
        store = FolderObjects(tmp_path)
        async with served(store, guard=NomadGuard(client.signing_keys, rights, "gloo-nomad")) as fetch:
            assert (await fetch("PUT", f"{VS}/team-a/a", _named("team-a"), **bearer(token)))[0] == 201
            assert (await fetch("GET", f"{VS}/team-a/a", **bearer(token)))[0] == 200
            assert (await fetch("GET", f"{VS}/team-b", **bearer(token)))[0] == 200
            assert (await fetch("POST", "/v1/validate", _named("team-c"), **bearer(token)))[0] == 200
            for method, path, told in (
                ("PUT", f"{VS}/team-b/a", "no right to write in team-b"),
                ("GET", f"{VS}/team-c/a", "no right to read in team-c"),
                ("GET", VS, "no right to read in all namespaces"),
            ):
                status, headers, answer = await fetch(method, path, _named("team-b"), **bearer(token))
                assert (status, "WWW-Authenticate" in headers) == (403, False)
                assert f"the job default/deploy-blue has {told}" in answer["error"]
            for forged in _forged(token):
                assert (await fetch("GET", f"{VS}/team-a/a", **bearer(forged)))[0] == 401
        for audience, issuer in (("another", ""), ("gloo-nomad", "https://issuer.test")):
            guard = NomadGuard(client.signing_keys, rights, audience, issuer)
            async with served(store, guard=guard) as fetch:
                assert (await fetch("GET", f"{VS}/team-a/a", **bearer(token)))[0] == 401
        await client.close()

    asyncio.run(scenario())


def test_times_and_keys(tmp_path: Path) -> None:
    """What has ended is told so; an unknown key is looked for once in a while only."""
    key = rsa.generate_private_key(65537, 2048)
    public: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    asked = []

    async def read_keys() -> dict[str, Any]:
        asked.append(1)
        return {"keys": [{**public, "kid": "one", "alg": "RS256", "use": "sig"}]}

    def sign(kid: str = "one", **claims: Any) -> str:
        known = {"aud": "gloo-nomad", "exp": time.time() + 60, "nomad_namespace": "default", "nomad_job_id": "a"}
        return jwt.encode({**known, **claims}, key, algorithm="RS256", headers={"kid": kid})

    async def scenario() -> None:
        guard = NomadGuard(read_keys, parse_rights({"default/a": {"read": ["*"]}}), "gloo-nomad")
        async with served(FolderObjects(tmp_path), guard=guard) as fetch:
            assert (await fetch("GET", VS, **bearer(sign())))[0] == 200
            status, _, answer = await fetch("GET", VS, **bearer(sign(exp=time.time() - 60)))
            assert (status, answer["error"]) == (401, "the bearer token has expired")
            for refused in (sign(nbf=time.time() + 60), sign(aud="x"), sign(kid="two"), sign(kid="three")):
                assert (await fetch("GET", VS, **bearer(refused)))[0] == 401
            assert (await fetch("GET", VS, **bearer(sign(nomad_job_id="ab"))))[0] == 403
            assert (await fetch("GET", VS, **bearer(sign(nomad_job_id=""))))[0] == 403
        assert len(asked) == 1

    asyncio.run(scenario())


def _named(namespace: str, domain: str = "a.test") -> dict[str, Any]:
    found = virtual_service("a", f"{namespace}.{domain}")
    found["metadata"]["namespace"] = namespace
    return found


def _forged(token: str) -> list[str]:
    """Tokens with the same claims that Nomad did not sign."""
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    key = rsa.generate_private_key(65537, 2048)
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body, signature = token.split(".")
    return [
        jwt.encode(claims, key, algorithm="RS256", headers={"kid": header["kid"]}),
        jwt.encode(claims, "", algorithm="none", headers={"kid": header["kid"]}),
        jwt.encode(claims, pem.hex(), algorithm="HS256", headers={"kid": header["kid"]}),
        f"{head}.{body}.",
        f"{head}.{body[:-4]}AAAA.{signature}",
        "nonsense",
        "a.b.c",
        "x" * 10_000,
    ]


def _answers(consul: ConsulAgent) -> bool:
    try:
        return bool(consul.request("GET", "acl/policies"))
    except ServerError:
        return False
