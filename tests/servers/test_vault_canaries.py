"""Secrets leave nowhere: canaries in everything that is secret, and every place that people can look at."""

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.envoy_tls import ClientTls, write_sds
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from tests.daemon import PROGRAM, Daemon
from tests.site import Place, Site, direct, host
from tests.vault_pki import enable_pki, request

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]

CANARY = "canary-5ink"
ENCODED = base64.b64encode(CANARY.encode()).decode()
TOKENS = re.compile(r"\b(?:hv)?[bs]\.[A-Za-z0-9_-]{20,}")
"""What tokens of Vault and OpenBao look like."""
KEYS = re.compile(r"PRIVATE KEY--")
PAGES = (
    "/",
    "/metrics",
    "/healthz",
    "/readyz",
    "/problems",
    "/clients",
    "/logging",
    "/snapshots/config",
    "/snapshots/config?kind=Secret",
    "/snapshots/config?kind=vault.Certificate",
    "/snapshots/proxies",
    "/snapshots/xds",
)
SECRETS: dict[str, dict[str, Any]] = {
    "aws": {"aws": {"accessKey": CANARY, "secretKey": CANARY, "sessionToken": CANARY}},
    "azure": {"azure": {"apiKeys": {"_master": CANARY}}},
    "header": {"header": {"headers": {"x-secret": CANARY}}},
    "oauth": {"oauth": {"clientSecret": CANARY}},
    "apikey": {"apiKey": {"apiKey": CANARY, "metadata": {"user": CANARY}}},
    "credentials": {"credentials": {"username": CANARY, "password": CANARY}},
    "encryption": {"encryption": {"key": CANARY}},
    "other": {"extensions": {"configs": {"any": {"value": CANARY}}}},
    "no-pair": {"tls": {"certChain": CANARY, "privateKey": f"-----BEGIN PRIVATE KEY-----\n{CANARY}"}},
    "unknown-field": {"tls": {"secretKey": CANARY}},
    "wrong-type": {"tls": {"privateKey": {CANARY: [CANARY]}}},
    "bad-bytes": {"tls": {"ocspStaple": f"{CANARY}!"}},
    "bad-request": {"extensions": {"configs": {"pki": {"role": "gloo", "commonName": "a.test", "key": CANARY}}}},
}


@pytest.fixture
def bao(new_openbao: Callable[..., OpenBao]) -> OpenBao:
    """A server of the test's own, to be sealed."""
    return new_openbao()


def log_in_by(bao: OpenBao, folder: Path) -> tuple[dict[str, Any], dict[str, str], str]:
    """AppRole for the daemon: our setting, the environment, and the secret identifier."""
    bao.write_policy("all", 'path "*" { capabilities = ["create", "read", "update", "list"] }')
    bao.request("POST", "sys/auth/approle", {"type": "approle"})
    bao.request("POST", "auth/approle/role/gloo", {"token_policies": ["all"], "token_ttl": "6s"})
    role = bao.request("GET", "auth/approle/role/gloo/role-id").json()["data"]["role_id"]
    secret = bao.request("POST", "auth/approle/role/gloo/secret-id").json()["data"]["secret_id"]
    file = folder / "secret-id"
    file.write_text(secret)
    return {"method": "approle", "secretIdFile": str(file)}, {"VAULT_ROLE_ID": role}, secret


def put_users(daemon: Daemon) -> None:
    """Objects that need the secrets, the broken ones too."""
    header = {
        "headerManipulation": {
            "requestHeadersToAdd": [{"headerSecretRef": {"name": "header", "namespace": "gloo-system"}}]
        }
    }
    daemon.put("VirtualService", "tls", host("tls.test", direct("secure"), tls="cert"))
    daemon.put("VirtualService", "issued", host("issued.test", direct("issued"), tls="issued"))
    plain = host("plain.test", direct("plain"))
    plain["virtualHost"]["options"] = header
    daemon.put("VirtualService", "plain", plain)
    for name in SECRETS:
        daemon.put("VirtualService", f"of-{name}", host(f"{name}.test", direct(name), tls=name))


def command(daemon: Daemon, *words: str) -> str:
    """Everything that a command prints."""
    environ = {"CONSUL_HTTP_ADDR": daemon.consul.address, "GLOO_NOMAD_ADMIN_ADDR": f"127.0.0.1:{daemon.admin_port}"}
    done = subprocess.run(
        [str(PROGRAM), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**environ, "PATH": "/usr/bin"},
    )
    return done.stdout + done.stderr


def everything(daemon: Daemon, site: Site, folder: Path) -> dict[str, str]:
    """What can be looked at, by where."""
    found = {page: fetch(daemon.admin_port, page).text for page in PAGES}
    found["log"] = daemon.server.log.read_text()
    found["log of Envoy"] = site.envoy.server.log.read_text()
    for path in (
        "/v1/objects/Secret",
        "/v1/objects/VirtualService",
        "/v1/objects/Secret/gloo-system/header",
        "/openapi.json",
    ):
        found[f"REST {path}"] = fetch(daemon.front_door_port, path).text
    body = yaml.safe_dump(
        {"metadata": {"name": "x", "namespace": "gloo-system"}, **host("x.test", direct("x"), tls="no-pair")}
    )
    found["REST validate"] = fetch(daemon.front_door_port, "/v1/validate", method="POST", body=body.encode()).text
    root = ("--consul-root-key", daemon.root)
    for words in (
        ("check", *root),
        ("check", "-o", "json", *root),
        ("get", "vs", *root),
        ("get", "vs", "-o", "yaml", *root),
    ):
        found[" ".join(words)] = command(daemon, *words)
    for verb in ("translate", "validate"):
        found[verb] = command(daemon, verb, str(folder))
    for path, method in (("/v1/objects/VirtualService", "GET"), ("/v1/validate", "POST")):
        headers = {"Authorization": f"Bearer {CANARY}"}
        found[f"REST {path} with a token"] = fetch(
            daemon.front_door_port, path, method=method, body=body.encode(), headers=headers
        ).text
    for file in folder.parent.glob("data/**/*"):
        if file.is_file():
            found[str(file)] = file.read_bytes().decode("latin-1")
    keys = daemon.consul.request("GET", f"kv/{daemon.root}/?recurse")
    found["Consul"] = "\n".join(base64.b64decode(key["Value"] or "").decode() for key in keys)
    return found


def write_folder(folder: Path, pair: dict[str, Any]) -> None:
    """The same secrets as files."""
    folder.mkdir()
    for name, fields in {**SECRETS, "cert": pair}.items():
        document = {"metadata": {"name": name, "namespace": "gloo-system"}, **fields}
        named = f"---\n{yaml.safe_dump({'kind': 'Secret', 'apiVersion': 'gloo.solo.io/v1', **document})}"
        (folder / f"{name}.yaml").write_text(named)
    service = {"metadata": {"name": "tls", "namespace": "gloo-system"}, **host("tls.test", direct("x"), tls="cert")}
    manifest = {"kind": "VirtualService", "apiVersion": "gateway.solo.io/v1", **service}
    (folder / "vs.yaml").write_text(yaml.safe_dump(manifest))


def test_no_secret_is_shown(place: Place, bao: OpenBao) -> None:
    """Logs at the level debug, pages, metrics, statuses, REST, commands, files: with Vault and without.

    Keys of the xDS port and tokens that callers send are secrets too.
    """
    pair = Authority().issue("tls.test").build_secret()
    enable_pki(bao, "pki")
    bao.put_secret("gloo-system", "cert", pair)
    bao.put_secret("gloo-system", "issued", request("issued.test", "pki", ttl="20s"))
    for name, fields in SECRETS.items():
        bao.put_secret("gloo-system", name, fields)
    auth, environ, secret_id = log_in_by(bao, place.folder)
    folders = {"dataDirectory": str(place.folder / "data"), "xdsTlsFolder": str(place.folder / "xds-tls")}
    own = {"vaultAuth": auth, "vaultPollSeconds": 0.5, "xdsTls": "dev", **folders}
    daemon = place.start(
        roles=("gloo", "gateway"),
        settings={"vaultSecretSource": {"address": bao.address}, "extensions": {"configs": {"gloo-nomad": own}}},
        environ={**environ, "LOG_LEVEL": "debug"},
    )
    put_users(daemon)
    tls = ClientTls(place.folder / "xds-tls", "localhost")
    write_sds(tls)
    site = place.open(daemon, tls)
    site.wait_for("plain.test", 200, "plain", 30)
    daemon.wait_status("VirtualService", "issued", "Accepted")
    daemon.wait_status("VirtualService", "of-no-pair", "Rejected")
    write_folder(place.folder / "offline", pair)
    shown = [everything(daemon, site, place.folder / "offline")]
    bao.request("POST", "sys/seal")
    wait_until(lambda: "sealed" in json.dumps(daemon.admin("/healthz")), "the report of the seal", 30)
    time.sleep(3)  # renewals of the token and of the certificate fail meanwhile
    bao.stop()
    wait_until(lambda: "refused" in json.dumps(daemon.admin("/healthz")), "the report of the end", 30)
    shown.append(everything(daemon, site, place.folder / "offline"))
    daemon.terminate()
    shown.append({"log": daemon.server.log.read_text()})

    keys = [pair["tls"]["privateKey"], *(file.read_text() for file in (place.folder / "xds-tls").glob("*-key.pem"))]
    bodies = [key.splitlines()[1] for key in keys]
    for places in shown:
        for where, text in places.items():
            for hidden in (CANARY, ENCODED, secret_id, environ["VAULT_ROLE_ID"], *bodies):
                assert hidden not in text, f"{where}: {text[max(0, text.index(hidden) - 200) :][:400]}"
            assert not KEYS.search(text), where
            assert not TOKENS.search(text), f"{where}: {TOKENS.findall(text)[:3]}"
    assert '"level": "debug"' in shown[0]["log"] or "debug" in shown[0]["/logging"]
    assert len(bodies) == 3
    assert any(str(place.folder / "data") in where for where in shown[1])
    assert "vault.Certificate" in shown[0]["/snapshots/config"]
    assert "no PEM" in shown[0]["Consul"] or "no chain of PEM" in shown[0]["Consul"]
    assert "source vault" in shown[1]["check -o json --consul-root-key " + daemon.root]
