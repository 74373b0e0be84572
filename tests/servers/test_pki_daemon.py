"""Certificates from Vault's PKI engine, through a daemon to a real Envoy."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from gloo_nomad.demo.fetch import Connection, fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.site import Place, Site, direct, host
from tests.vault_pki import enable_pki, request

POLICY = (Path(__file__).parents[2] / "jobs" / "gloo-policy.hcl").read_text()
pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]


@pytest.fixture
def bao(new_openbao: Callable[..., OpenBao]) -> OpenBao:
    """A server of the test's own."""
    return new_openbao()


def start(place: Place, bao: OpenBao, **settings: Any) -> Daemon:
    """A daemon that looks at its secrets often, with the rights of the job's policy."""
    own = {"extensions": {"configs": {"gloo-nomad": {"vaultPollSeconds": 0.5}}}}
    bao.write_policy("gloo", POLICY)
    vault = {"vaultSecretSource": {"address": bao.address, "accessToken": bao.create_token("gloo")}}
    return place.start(settings={**own, **vault, **settings})


def serial(site: Site, domain: str, roots: Path) -> int:
    """Which certificate new connections are shown; 0 for none."""
    with contextlib.suppress(OSError):
        return x509.load_der_x509_certificate(site.get_securely(domain, roots).certificate).serial_number
    return 0


def errors(daemon: Daemon) -> dict[str, str]:
    """Failing sources and why."""
    return {source["name"]: source["error"] for source in daemon.admin("/healthz")["sources"] if source["error"]}


def test_issued_and_renewed(place: Place, bao: OpenBao) -> None:
    """A Secret in KV that asks for a certificate has one; it is renewed before two thirds of its life, by SDS alone.

    A connection that is open lives through renewals, and without Vault the last certificate is served after its end.
    """
    roots = place.folder / "roots.pem"
    roots.write_text(enable_pki(bao, "pki"))
    names = {"altNames": ["other.tls.test"], "ipSans": ["127.0.0.1"], "ttl": "15s"}
    bao.put_secret("gloo-system", "cert", request("tls.test", "pki", **names))
    daemon = start(place, bao)
    daemon.put("VirtualService", "tls", host("tls.test", direct("secure"), tls="cert"))
    site = place.open(daemon)
    wait_until(lambda: serial(site, "tls.test", roots) != 0, "HTTPS", 30)
    daemon.wait_status("VirtualService", "tls", "Accepted")
    first = x509.load_der_x509_certificate(site.get_securely("tls.test", roots).certificate)
    named = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(named.get_values_for_type(x509.DNSName)) == {"tls.test", "other.tls.test"}
    assert [str(found) for found in named.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    added = site.envoy.stat("listener_manager.listener_added")
    updates = [site.envoy.stat(f"listener_manager.listener_{what}") for what in ("modified", "in_place_updated")]

    with Connection(site.tls_port, host="tls.test", tls_roots=roots) as open_connection:
        seen, ends = {first.serial_number}, first.not_valid_after_utc.timestamp()
        wait_until(lambda: serial(site, "tls.test", roots) not in {*seen, 0}, "the renewal", 20)
        assert time.time() < ends - 3  # a third of its life was left
        assert open_connection.request("/").status == 200
    assert site.envoy.stat("listener_manager.listener_added") == added
    assert updates == [
        site.envoy.stat(f"listener_manager.listener_{what}") for what in ("modified", "in_place_updated")
    ]

    bao.stop()
    wait_until(lambda: "Vault" in errors(daemon).get("pki", ""), "the report", 30)
    last = _certificate_whatever_its_age(site, "tls.test")
    wait_until(lambda: time.time() > last.not_valid_after_utc.timestamp() + 1, "the end of the certificate", 30)
    assert _certificate_whatever_its_age(site, "tls.test") == last
    problems = {problem["kind"]: problem["severity"] for problem in daemon.problems_of("cert")}
    assert problems == {"Secret": "warning", "VirtualService": "warning"}
    daemon.wait_status("VirtualService", "tls", "Warning")


def _certificate_whatever_its_age(site: Site, domain: str) -> x509.Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", site.tls_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=domain) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")


def test_a_request_that_vault_refuses(place: Place, bao: OpenBao) -> None:
    """It is told on the Secret and on what needs it, holds nothing else up, and is mended by an edit."""
    roots = place.folder / "roots.pem"
    roots.write_text(enable_pki(bao, "pki"))
    bao.put_secret("gloo-system", "cert", request("tls.example.com", "pki"))
    bao.put_secret("gloo-system", "mistake", request("tls.test", "pki", ttl="soon"))
    daemon = start(place, bao)
    daemon.put("VirtualService", "tls", host("tls.test", direct("secure"), tls="cert"))
    daemon.put("VirtualService", "plain", host("plain.test", direct("plain")))
    site = place.open(daemon)
    site.wait_for("plain.test", 200, "plain")
    told = daemon.wait_status("VirtualService", "tls", "Rejected")["reason"]
    assert "common name tls.example.com not allowed by this role" in told
    assert "not allowed by this role" in str(daemon.problems_of("cert"))
    assert "extensions.configs[pki].ttl" in str(daemon.problems_of("mistake"))
    assert "pki/issue/gloo" in errors(daemon)["pki"]

    bao.put_secret("gloo-system", "cert", request("tls.test", "pki"))
    wait_until(lambda: serial(site, "tls.test", roots) != 0, "HTTPS", 30)
    daemon.wait_status("VirtualService", "tls", "Accepted")
    before = serial(site, "tls.test", roots)
    bao.put_secret("gloo-system", "cert", request("tls.test", "pki", rule="x"))
    daemon.wait_status("VirtualService", "tls", "Warning")
    assert serial(site, "tls.test", roots) == before
    bao.delete_secret("gloo-system", "cert")
    daemon.wait_status("VirtualService", "tls", "Rejected")


def test_towards_upstreams(place: Place, bao: OpenBao, run_echo: Callable[..., int]) -> None:
    """A Secret of a folder asks for a certificate too, and an Upstream shows it to a server that wants one."""
    folder = place.folder / "secrets" / "gloo-system"
    folder.mkdir(parents=True)
    roots = place.folder / "roots.pem"
    roots.write_text(enable_pki(bao, "pki"))
    for name, asked in {
        "server": request("inner.test", "pki", rootCa=True),
        "client": request("client.test", "pki", rootCa=True),
    }.items():
        document = {"metadata": {"name": name, "namespace": "gloo-system"}, **asked}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
    sources = {"sources": [{"directory": {"directory": str(folder.parent)}}]}
    daemon = place.start(
        settings={"secretOptions": sources}, environ={"VAULT_ADDR": bao.address, "VAULT_TOKEN": bao.token}
    )
    daemon.put("VirtualService", "inner", host("inner.test", direct("mutual"), tls="server"))
    site = place.open(daemon)
    upstream = {
        "static": {"hosts": [{"addr": "127.0.0.1", "port": site.tls_port}]},
        "sslConfig": {
            "secretRef": {"name": "client", "namespace": "gloo-system"},
            "sni": "inner.test",
            "verifySubjectAltName": ["inner.test"],
        },
    }
    daemon.put("Upstream", "inner", upstream)
    route = {
        "matchers": [{"prefix": "/"}],
        "routeAction": {"single": {"upstream": {"name": "inner", "namespace": "gloo-system"}}},
        "options": {"hostRewrite": "inner.test"},
    }
    daemon.put("VirtualService", "outer", host("outer.test", route))
    site.wait_for("outer.test", 200, "mutual", 30)
    with pytest.raises(OSError):  # without a certificate nobody is let in
        fetch(site.tls_port, "/", host="inner.test", tls_roots=roots)
