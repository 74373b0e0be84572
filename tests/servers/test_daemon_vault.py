"""Vault troubles under a daemon with an Envoy: certificates stay, the trouble is shown, and recovery needs nobody."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.fetch import Connection, fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from tests.daemon import PROGRAM, Daemon
from tests.faults import Proxy, Reset, Slow, Status
from tests.meanwhile import meanwhile
from tests.site import Place, Site, direct, host
from tests.vault_server import StoredOpenBao

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]

POLICY = (Path(__file__).parents[2] / "jobs" / "gloo-policy.hcl").read_text()


@pytest.fixture
def stored(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[StoredOpenBao]:
    """A server of the test's own that is no development server."""
    server = StoredOpenBao.start(tmp_path / "bao", find_binary("bao"), free_port())
    server.bao.write_policy("gloo", POLICY)
    yield server
    server.stop()


class Scene:
    """A daemon whose certificate comes from Vault, and an Envoy that serves it."""

    def __init__(self, place: Place, bao: OpenBao, address: str, **vault: Any) -> None:
        environ = vault.pop("environ", None)
        settings = vault.pop("settings", {})
        self.bao, self.authority = bao, Authority()
        self.roots = place.folder / "roots.pem"
        self.roots.write_text(self.authority.certificate)
        self.served = self.write()
        settings = {"vaultSecretSource": {"address": address, **vault}, **settings}
        self.daemon = place.start(settings=settings, environ=environ)
        self.daemon.put("VirtualService", "tls", host("tls.test", direct("secure"), tls="cert"))
        self.site: Site = place.open(self.daemon)
        wait_until(lambda: self.shown() == self.served, "HTTPS", 30)

    def write(self) -> bytes:
        """Writes a new certificate into Vault; what clients should see then."""
        pair = self.authority.issue("tls.test")
        self.bao.put_secret("gloo-system", "cert", pair.build_secret())
        return pair.der

    def shown(self) -> bytes:
        """What a new connection is shown."""
        return self.site.get_securely("tls.test", self.roots).certificate

    def error(self) -> str:
        """What the daemon says is wrong with Vault."""
        (state,) = [source for source in self.daemon.admin("/healthz")["sources"] if source["name"] == "vault"]
        error: str = state["error"]
        return error

    def check_trouble(self, told: str) -> None:
        """The certificate is served, and health, metrics and ``check`` tell of the trouble."""
        wait_until(lambda: told in self.error(), f"the report of {told} (it is {self.error()!r})", 40)
        assert self.shown() == self.served
        assert 'gloo_nomad_source_failing{source="vault"} 1.0' in self.metrics()
        code, findings = check(self.daemon)
        assert code == 1
        assert told in findings["source vault"]
        assert self.daemon.status("VirtualService", "tls")["state"] == "Accepted"

    def check_recovery(self) -> None:
        """What was written meanwhile is served, and nothing is told any more."""
        self.served = self.write()
        wait_until(lambda: self.shown() == self.served, "the new certificate", 40)
        wait_until(lambda: not self.error(), "the end of the report", 20)
        assert 'gloo_nomad_source_failing{source="vault"} 0.0' in self.metrics()
        assert "source vault" in check(self.daemon)[1]
        assert self.daemon.server.running

    def metrics(self) -> str:
        """The metrics page."""
        return fetch(self.daemon.admin_port, "/metrics").text


def check(daemon: Daemon) -> tuple[int, dict[str, str]]:
    """Exit code and findings of ``gloo-nomad check``."""
    command = [str(PROGRAM), "check", "--admin-address", f"127.0.0.1:{daemon.admin_port}", "-o", "json"]
    command += ["--consul-address", daemon.consul.address, "--consul-root-key", daemon.root]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = json.loads(done.stdout)["findings"]
    return done.returncode, {finding["subject"]: finding["message"] for finding in found}


def test_sealed_and_restarted(place: Place, stored: StoredOpenBao) -> None:
    """A Vault that is sealed, stopped, and sealed again after its start is one that will come back."""
    scene = Scene(place, stored.bao, stored.bao.address, accessToken=stored.bao.create_token("gloo"))
    stored.seal()
    scene.check_trouble("sealed")
    stored.unseal()
    scene.check_recovery()

    stored.stop()
    scene.check_trouble("refused")
    stored.start_again()
    scene.check_trouble("sealed")
    stored.unseal()
    scene.check_recovery()


def test_forbidden(place: Place, stored: StoredOpenBao) -> None:
    """A policy that was taken away withdraws nothing."""
    scene = Scene(place, stored.bao, stored.bao.address, accessToken=stored.bao.create_token("gloo"))
    stored.bao.write_policy("gloo", 'path "nowhere" { capabilities = ["read"] }')
    scene.check_trouble("permission denied")
    stored.bao.write_policy("gloo", POLICY)
    scene.check_recovery()


def test_a_revoked_token(place: Place, stored: StoredOpenBao) -> None:
    """A given token that was revoked, or has ended, is replaced by what its file holds next."""
    file = place.folder / "vault_token"
    first = stored.bao.create_token("gloo")
    file.write_text(first)
    scene = Scene(place, stored.bao, stored.bao.address, environ={"VAULT_TOKEN_FILE": str(file)})
    stored.bao.request("POST", "auth/token/revoke", {"token": first})
    scene.check_trouble("permission denied")
    file.write_text(stored.bao.create_token("gloo"))
    scene.check_recovery()


def test_a_revoked_token_of_a_login(place: Place, stored: StoredOpenBao) -> None:
    """Another login takes its place, and nobody has to do anything."""
    bao = stored.bao
    bao.request("POST", "sys/auth/approle", {"type": "approle"})
    bao.request("POST", "auth/approle/role/gloo", {"token_policies": ["gloo"]})
    role = bao.request("GET", "auth/approle/role/gloo/role-id").json()["data"]["role_id"]
    secret = bao.request("POST", "auth/approle/role/gloo/secret-id").json()["data"]["secret_id"]
    settings = {"extensions": {"configs": {"gloo-nomad": {"vaultAuth": {"method": "approle"}}}}}
    environ = {"VAULT_ROLE_ID": role, "VAULT_SECRET_ID": secret}
    scene = Scene(place, bao, bao.address, environ=environ, settings=settings)

    def tokens() -> set[str]:
        accessors: list[str] = bao.request("LIST", "auth/token/accessors").json()["data"]["keys"]
        looked_up = {
            accessor: bao.request("POST", "auth/token/lookup-accessor", {"accessor": accessor}).json()["data"]
            for accessor in accessors
        }
        return {accessor for accessor, found in looked_up.items() if found["path"] == "auth/approle/login"}

    (first,) = tokens()
    bao.request("POST", "auth/token/revoke-accessor", {"accessor": first})
    scene.check_recovery()
    assert len(tokens() - {first}) == 1


def test_slow_and_broken(place: Place, stored: StoredOpenBao) -> None:
    """Answers that come too late, connections that end, and errors of the server or of something before it."""
    with Proxy(stored.port) as proxy:
        token = stored.bao.create_token("gloo")
        scene = Scene(place, stored.bao, f"http://{proxy.address}", accessToken=token)
        with proxy.fault("/v1/secret/", Slow(60)):
            scene.check_trouble("no answer in time")
        scene.check_recovery()
        with proxy.fault("/v1/", Status(500)):
            scene.check_trouble("InternalServerError")
        with proxy.fault("/v1/secret/", Reset()):
            scene.check_trouble("ConnectionError")
        with proxy.fault("/v1/secret/", Status(200, b"<html>")):
            scene.check_trouble("unexpected answer")
        with proxy.down():
            scene.check_trouble("refused")
        scene.check_recovery()


def test_emptied(place: Place, new_openbao: Callable[..., OpenBao]) -> None:
    """One that has nothing any more after it was away is not believed; a deletion while it is watched is."""
    bao = new_openbao(port=place.free_port())
    scene = Scene(place, bao, bao.address, accessToken=bao.token)
    bao.stop()
    scene.check_trouble("refused")
    scene.bao = new_openbao(port=bao.port)
    scene.check_trouble("has no secret below secret/gloo")
    scene.check_recovery()
    scene.bao.delete_secret("gloo-system", "cert")
    scene.daemon.wait_status("VirtualService", "tls", "Rejected")


@contextmanager
def used(connection: Connection) -> Iterator[list[int | str]]:
    """Sends one request after the other on an open connection; what came back."""
    found: list[int | str] = []

    def ask() -> None:
        try:
            found.append(connection.request("/").status)
        except OSError as failure:
            found.append(str(failure))

    with meanwhile(ask, 0.01):
        yield found


def test_rotation(place: Place, stored: StoredOpenBao) -> None:
    """With default settings new connections have the new certificate within five seconds, and no open one ends."""
    scene = Scene(place, stored.bao, stored.bao.address, accessToken=stored.bao.create_token("gloo"))
    with Connection(scene.site.tls_port, host="tls.test", tls_roots=scene.roots) as connection, used(connection) as got:
        for _ in range(3):
            scene.served = scene.write()
            began = time.monotonic()
            wait_until(lambda: scene.shown() == scene.served, "the new certificate", 20)
            took = time.monotonic() - began
            print(f"a new connection had it after {took:.2f} s")
            assert took < 5
    assert set(got) == {200}
    assert len(got) > 100
    assert scene.site.envoy.stat("listener_manager.listener_in_place_updated") == 0
