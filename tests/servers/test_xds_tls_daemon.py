"""Mutual TLS between a daemon and real Envoys: certificates from files, from Vault, of the daemon's own making."""

import base64
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from gloo_nomad.demo.certificates import Authority, KeyPair
from gloo_nomad.demo.envoy import build_bootstrap
from gloo_nomad.demo.envoy_tls import ClientTls, write_sds
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from tests.daemon import PROGRAM, Daemon
from tests.site import Place, direct, host, put_gateways
from tests.vault_pki import enable_pki

pytestmark = [pytest.mark.consul, pytest.mark.envoy]

ROLE = "gloo-system~gateway-proxy"
CLIENT = "spiffe://dc1.consul/gateway-proxy"


def replace(file: Path, text: str) -> None:
    """Writes a file at once, as whoever renews certificates does."""
    unfinished = file.with_name(f".{file.name}")
    unfinished.write_text(text)
    unfinished.rename(file)


class Files:
    """The files of both sides, in a folder each."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.server, self.client = folder / "xds-server", folder / "xds-client"
        for side in (self.server, self.client):
            side.mkdir()
        self.trust(authority.certificate)
        self.write_server(authority.issue("127.0.0.1"))
        self.write_client(authority.issue(CLIENT))
        self.tls = ClientTls(self.client)
        write_sds(self.tls)

    def trust(self, certificates: str) -> None:
        """Whom both sides trust."""
        for side in (self.server, self.client):
            replace(side / "ca.pem", certificates)

    def write_server(self, pair: KeyPair) -> None:
        """Exchanges the server's certificate."""
        replace(self.server / "key.pem", pair.private_key)
        replace(self.server / "server.pem", pair.certificates)

    def write_client(self, pair: KeyPair) -> None:
        """Exchanges Envoy's certificate."""
        replace(self.client / "client-key.pem", pair.private_key)
        replace(self.client / "client.pem", pair.certificates)

    @property
    def settings(self) -> dict[str, Any]:
        """What the daemon is told."""
        names = {"xdsTlsCert": "server.pem", "xdsTlsKey": "key.pem", "xdsTlsClientCa": "ca.pem"}
        paths = {name: str(self.server / file) for name, file in names.items()}
        return own(xdsTls="files", xdsClientRoles={CLIENT: ROLE}, **paths)


def own(**settings: Any) -> dict[str, Any]:
    """Our own settings."""
    return {"extensions": {"configs": {"gloo-nomad": settings}}}


def streams(daemon: Daemon) -> list[float]:
    """Since when the streams of its Envoys are open."""
    return [client["connectedAt"] for client in daemon.admin("/clients")]


def shown_serial(port: int, folder: Path) -> int:
    """Which certificate the xDS port shows to new connections; 0 if there is no handshake."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number
    except OSError:
        return 0


def serial_of(file: Path) -> int:
    """Which certificate is in a file."""
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


def test_both_sides_are_exchanged_while_the_stream_goes_on(place: Place) -> None:
    """Envoy follows its files and the daemon its own; then nobody trusts the old authority, and they connect anew."""
    first, second = Authority(), Authority()
    files = Files(place.folder, first)
    daemon = place.start(settings=files.settings)
    daemon.put("VirtualService", "a", host("a.test", direct("one")))
    site = place.open(daemon, files.tls)
    site.wait_for("a.test", 200, "one", 30)
    opened = streams(daemon)
    assert len(opened) == 1
    with site.asked("a.test") as answers:
        files.trust(first.certificate + second.certificate)
        files.write_server(second.issue("127.0.0.1"))
        wait_until(
            lambda: shown_serial(daemon.xds_port, files.client) == serial_of(files.server / "server.pem"),
            "the new certificate",
            30,
        )
        files.write_client(second.issue(CLIENT))
        loaded = f"{serial_of(files.client / 'client.pem'):032x}"
        wait_until(lambda: loaded in site.envoy.admin("/certs").text, "Envoy's look at its files", 30)
        daemon.put("VirtualService", "a", host("a.test", direct("two")))
        site.wait_for("a.test", 200, "two", 30)
        assert streams(daemon) == opened
        files.trust(second.certificate)
        daemon.terminate()
        again = place.start(settings=files.settings, xds_port=daemon.xds_port)
        again.put("VirtualService", "a", host("a.test", direct("three")))
        site.wait_for("a.test", 200, "three", 60)
    assert set(answers) == {("a.test", 200)}
    assert "xds_certificate_not_usable" not in again.server.log.read_text()


def test_a_role_that_is_not_allowed(place: Place, run_envoy: Callable[..., Any]) -> None:
    """The Envoy gets nothing and is told why; so is whoever reads the daemon's log."""
    files = Files(place.folder, Authority())
    daemon = place.start(settings=files.settings)
    daemon.put("VirtualService", "a", host("a.test", direct("one")))
    place.open(daemon, files.tls)
    other = build_bootstrap(
        xds_port=daemon.xds_port, admin_port=place.free_port(), role="gloo-system~other", tls=files.tls
    )
    envoy = run_envoy(other)
    told = f'the role \\"gloo-system~other\\" is not allowed for the certificate of this client ({CLIENT})'
    wait_until(lambda: told in daemon.server.log.read_text(), "the line in the log", 30)
    wait_until(lambda: "is not allowed for the certificate" in envoy.server.log.read_text(), "Envoy's log", 30)
    assert envoy.stat("cluster_manager.cds.update_success") == 0
    assert len(streams(daemon)) == 1
    assert "gloo_nomad_xds_refusals_total" in fetch(daemon.admin_port, "/metrics").text


@pytest.mark.parametrize("what", ["no certificate", "plain text", "another authority", "ended", "another server"])
def test_who_is_not_let_in(place: Place, run_envoy: Callable[..., Any], what: str) -> None:
    """An Envoy without a certificate that counts has no configuration, and one does not talk to another server."""
    authority = Authority()
    files = Files(place.folder, authority)
    daemon = place.start(settings=files.settings)
    tls: ClientTls | None = files.tls
    if what == "plain text":
        tls = None
    elif what == "another authority":
        files.write_client(Authority().issue(CLIENT))
    elif what == "ended":
        files.write_client(authority.issue(CLIENT, days=-1))
    elif what == "another server":
        tls = ClientTls(files.client, "gloo-xds.test")
    bootstrap = build_bootstrap(xds_port=daemon.xds_port, admin_port=place.free_port(), tls=tls)
    if what == "no certificate":
        (cluster,) = bootstrap["static_resources"]["clusters"]
        del cluster["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificate_sds_secret_configs"]
    envoy = run_envoy(bootstrap)
    wait_until(lambda: envoy.stat("cluster.xds_cluster.upstream_cx_total") >= 2, "two attempts", 30)
    assert streams(daemon) == []
    assert envoy.stat("cluster_manager.cds.update_success") == 0


def test_certificates_of_its_own(place: Place, run_envoy: Callable[..., Any]) -> None:
    """``xdsTls: dev`` and ``gloo-nomad bootstrap`` are all that is needed; a second start keeps the certificates."""
    folder = place.folder / "xds-tls"
    settings = own(xdsTls="dev", xdsTlsFolder=str(folder))
    daemon = place.start(settings=settings)
    wait_until((folder / "ca.pem").exists, "the certificates", 30)
    assert {file.name for file in folder.iterdir() if file.stat().st_mode & 0o77 == 0} == {
        "client-key.pem",
        "server-key.pem",
    }
    line = [str(PROGRAM), "bootstrap", "--xds", f"127.0.0.1:{daemon.xds_port}", "--xds-tls", str(folder)]
    line += ["--xds-tls-name", "localhost", "--admin", f"127.0.0.1:{place.free_port()}"]
    done = subprocess.run(line, capture_output=True, check=True, timeout=60, text=True)
    port = place.free_port()
    put_gateways(daemon, port, place.free_port())
    daemon.put("VirtualService", "a", host("a.test", direct("one")))
    envoy = run_envoy(yaml.safe_load(done.stdout), ready=True)
    wait_until(lambda: fetch(port, "/", host="a.test").status == 200, "an answer", 30)
    before = serial_of(folder / "server.pem")
    daemon.terminate()
    again = place.start(settings=settings, xds_port=daemon.xds_port)
    wait_until(lambda: len(streams(again)) == 1, "Envoy's return", 60)
    assert serial_of(folder / "server.pem") == before
    assert envoy.stat("control_plane.connected_state") == 1


def issued_client(place: Place, bao: OpenBao) -> Path:
    """A folder for Envoy with a certificate of a new PKI engine."""
    roots = enable_pki(bao, "pki")
    issued = bao.request("POST", "pki/issue/gloo", {"common_name": "proxy.test", "ttl": "1h"}).json()["data"]
    client = place.folder / "xds-client"
    client.mkdir()
    (client / "client.pem").write_text(issued["certificate"])
    (client / "client-key.pem").write_text(issued["private_key"])
    (client / "ca.pem").write_text(roots)
    write_sds(ClientTls(client))
    return client


@pytest.mark.bao
def test_certificate_of_vault(place: Place, new_openbao: Callable[..., OpenBao]) -> None:
    """Without Vault the daemon is not ready and says why; then it has a certificate, and renews it under a stream."""
    bao = new_openbao()
    client = issued_client(place, bao)
    asked = {"role": "gloo", "commonName": "xds.test", "ipSans": ["127.0.0.1"], "ttl": "12s"}
    settings = own(xdsTls="vault", xdsTlsVault=asked, xdsClientRoles={"*.test": ROLE}, vaultPollSeconds=1.0)
    vault = {"vaultSecretSource": {"address": bao.address, "accessToken": bao.token}}
    bao.request("POST", "sys/seal")
    daemon = place.start(settings={**settings, **vault}, ready=False)
    wait_until(lambda: "xds certificate" in daemon.waiting_for(), "the reason", 30)
    bao.request("PUT", "sys/unseal", {"key": bao.unseal_key})
    wait_until(lambda: not daemon.waiting_for(), "the certificate", 60)
    daemon.put("VirtualService", "a", host("a.test", direct("one")))
    site = place.open(daemon, ClientTls(client))
    site.wait_for("a.test", 200, "one", 30)
    opened, first = streams(daemon), shown_serial(daemon.xds_port, client)
    wait_until(lambda: shown_serial(daemon.xds_port, client) not in {0, first}, "the renewal", 60)
    began = time.monotonic()
    bao.stop()
    wait_until(lambda: time.monotonic() > began + 15, "the end of the last certificate", 30)
    assert streams(daemon) == opened
    daemon.put("VirtualService", "a", host("a.test", direct("two")))
    site.wait_for("a.test", 200, "two", 30)
    assert "xds certificate" in [found["name"] for found in daemon.admin("/healthz")["sources"] if found["error"]]


@pytest.mark.bao
def test_a_start_without_vault(
    place: Place, new_openbao: Callable[..., OpenBao], run_envoy: Callable[..., Any]
) -> None:
    """The certificate that was kept lets the Envoy come back, and a new one connect; then Vault issues another."""
    bao = new_openbao()
    client = issued_client(place, bao)
    settings = kept_settings(place, bao)
    key = {"GLOO_NOMAD_DATA_KEY": base64.b64encode(os.urandom(32)).decode()}
    daemon = place.start(settings=settings, environ=key)
    daemon.put("VirtualService", "a", host("a.test", direct("one")))
    site = place.open(daemon, ClientTls(client))
    site.wait_for("a.test", 200, "one", 30)
    files = [place.folder / "data" / f"{part}.kept" for part in ("configuration", "secrets", "xds-certificate")]
    wait_until(lambda: all(file.exists() for file in files), "everything on disk", 30)
    assert b"PRIVATE" not in files[-1].read_bytes()
    first = shown_serial(daemon.xds_port, client)
    bao.request("POST", "sys/seal")
    daemon.server.kill()

    again = place.start(settings=settings, environ=key, xds_port=daemon.xds_port)
    assert shown_serial(again.xds_port, client) == first
    health = again.admin("/healthz")
    assert health["status"] == "degraded"
    assert "xds certificate" in [source["name"] for source in health["sources"] if source["error"]]
    with site.asked("a.test") as answers:
        wait_until(lambda: len(streams(again)) == 1, "the Envoy being back", 30)
        again.put("VirtualService", "a", host("a.test", direct("two")))
        site.wait_for("a.test", 200, "two", 30)
    assert set(answers) == {("a.test", 200)}
    other = run_envoy(
        build_bootstrap(xds_port=again.xds_port, admin_port=place.free_port(), tls=ClientTls(client), node_id="new")
    )
    wait_until(lambda: other.stat("listener_manager.lds.update_success") > 0, "the new Envoy's configuration", 30)

    bao.request("PUT", "sys/unseal", {"key": bao.unseal_key})
    wait_until(lambda: shown_serial(again.xds_port, client) not in {0, first}, "another certificate", 60)
    wait_until(lambda: again.admin("/healthz")["status"] == "ok", "the end of it", 60)


@pytest.mark.bao
def test_a_start_without_vault_and_key(place: Place, new_openbao: Callable[..., OpenBao]) -> None:
    """No certificate is kept without a key to encrypt it, which is said; a start without Vault waits for it."""
    bao = new_openbao()
    issued_client(place, bao)
    settings = kept_settings(place, bao)
    daemon = place.start(settings=settings)
    told = "xds-certificate: is not kept: there is no key; set GLOO_NOMAD_DATA_KEY or dataKeyFile"
    wait_until(lambda: told in daemon.admin("/healthz")["lastKnown"]["failure"], "what is not kept", 30)
    daemon.put("VirtualService", "a", host("a.test", direct("one")))
    assert not (place.folder / "data" / "xds-certificate.kept").exists()
    bao.request("POST", "sys/seal")
    daemon.server.kill()

    again = place.start(settings=settings, ready=False)
    wait_until(lambda: "xds certificate" in again.waiting_for(), "the reason", 30)
    assert told in again.admin("/healthz")["lastKnown"]["failure"]
    bao.request("PUT", "sys/unseal", {"key": bao.unseal_key})
    wait_until(lambda: not again.waiting_for(), "the certificate", 60)


def kept_settings(place: Place, bao: OpenBao) -> dict[str, Any]:
    """Of a daemon with a data folder and a certificate of Vault that outlasts the test."""
    asked = {"role": "gloo", "commonName": "xds.test", "ipSans": ["127.0.0.1"], "ttl": "1h"}
    ours = {"dataDirectory": str(place.folder / "data"), "vaultPollSeconds": 1.0}
    settings = own(xdsTls="vault", xdsTlsVault=asked, xdsClientRoles={"*.test": ROLE}, **ours)
    return {**settings, "vaultSecretSource": {"address": bao.address, "accessToken": bao.token}}
