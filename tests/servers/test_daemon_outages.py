"""What is served stays served while Consul, Vault or the daemon itself is away."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.site import Place, direct, host, put_gateways, to_service

pytestmark = [pytest.mark.consul, pytest.mark.envoy]
RunEcho = Callable[..., int]


def errors(daemon: Daemon) -> str:
    """What the daemon says is wrong with its sources."""
    return str([source["error"] for source in daemon.admin("/healthz")["sources"] if source["error"]])


def test_a_consul_that_is_away_and_comes_back_empty(
    place: Place, new_consul: Callable[..., ConsulAgent], run_echo: RunEcho
) -> None:
    """Routes and instances are served on without Consul, and with one that lost its data; what is new then counts."""
    port = place.free_port()
    consul = place.consul = new_consul(port=port)
    for _ in range(300):  # a Consul that has lived for a while: its indexes are larger than those of a new one
        consul.put("elsewhere", "x")
    consul.register("web", run_echo("one"))
    daemon = place.start(services=True)
    daemon.put("VirtualService", "direct", host("direct.test", direct("kept")))
    daemon.put("VirtualService", "web", host("web.test", to_service("web")))
    site = place.open(daemon)
    site.wait_for("web.test", 200, "one")
    with site.asked("direct.test", "web.test") as counts:
        consul.stop()
        wait_until(lambda: errors(daemon) != "[]", "the report on Consul", 15)
        consul = new_consul(port=port)
        daemon = replace(daemon, consul=consul)
        wait_until(lambda: "has no key below" in errors(daemon), "the report on the lost keys", 20)
        wait_until(lambda: "has no service" in errors(daemon), "the report on the lost services", 20)
        time.sleep(1.0)
        assert site.get("direct.test") == (200, "kept")
        consul.register("web", run_echo("two"))
        put_gateways(daemon, site.port, site.tls_port)
        daemon.put("VirtualService", "direct", host("direct.test", direct("new")))
        daemon.put("VirtualService", "web", host("web.test", to_service("web")))
        site.wait_for("direct.test", 200, "new", 20)
        site.wait_for("web.test", 200, "two", 20)
    assert {status for _, status in counts} == {200}, counts
    assert counts["web.test", 200] > 20
    wait_until(lambda: errors(daemon) == "[]", "the end of the reports", 10)
    daemon.wait_status("VirtualService", "direct", "Accepted")
    daemon.delete("VirtualService", "direct")
    site.wait_for("direct.test", 404)


def test_deleting_everything_is_believed(place: Place) -> None:
    """``consul kv delete -recurse`` while it is watched takes everything away: that is no lost data."""
    daemon = place.start()
    daemon.put("VirtualService", "direct", host("direct.test", direct("kept")))
    site = place.open(daemon)
    site.wait_for("direct.test", 200, "kept")
    place.consul.delete(f"{place.root}/", recurse=True)
    site.wait_for("direct.test", 0)


def test_a_vault_that_is_away_keeps_its_certificates(place: Place, new_openbao: Callable[..., OpenBao]) -> None:
    """HTTPS works on while Vault is away; when it is back, a renewed certificate is served."""
    port, authority = place.free_port(), Authority()
    roots = place.folder / "roots.pem"
    roots.write_text(authority.certificate)
    vault = new_openbao(port=port)
    first, second = authority.issue("tls.test"), authority.issue("tls.test")
    vault.put_secret("gloo-system", "cert", first.build_secret())
    daemon = place.start(settings={"vaultSecretSource": {"address": vault.address, "accessToken": vault.token}})
    daemon.put("VirtualService", "tls", host("tls.test", direct("secure"), tls="cert"))
    daemon.put("VirtualService", "plain", host("plain.test", direct("plain")))
    site = place.open(daemon)
    wait_until(lambda: site.get_securely("tls.test", roots).certificate == first.der, "HTTPS", 15)
    daemon.wait_status("VirtualService", "tls", "Accepted")
    vault.stop()
    wait_until(lambda: "Vault" in errors(daemon), "the report on Vault", 15)
    daemon.put("VirtualService", "plain", host("plain.test", direct("edited")))
    site.wait_for("plain.test", 200, "edited")
    assert site.get_securely("tls.test", roots).certificate == first.der
    assert daemon.status("VirtualService", "tls")["state"] == "Accepted"

    vault = new_openbao(port=port)
    vault.put_secret("gloo-system", "cert", second.build_secret())
    wait_until(lambda: site.get_securely("tls.test", roots).certificate == second.der, "the renewal", 20)


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_a_restart_withdraws_nothing(place: Place, run_echo: RunEcho, end: str) -> None:
    """A daemon that ends and starts again under a connected Envoy costs no request, and is in charge again."""
    service = f"web-{place.root}"
    instance = place.consul.register(service, run_echo("one"))
    daemon = place.start(services=True)
    daemon.put("VirtualService", "direct", host("direct.test", direct("kept")))
    daemon.put("VirtualService", "web", host("web.test", to_service(service)))
    site = place.open(daemon)
    site.wait_for("web.test", 200, "one")
    with site.asked("direct.test", "web.test") as counts:
        if end == "SIGTERM":
            daemon.terminate()
        daemon.server.kill()
        again = place.start(services=True, xds_port=daemon.xds_port)
        wait_until(lambda: again.admin("/clients") != [], "the Envoy being back", 20)
        time.sleep(1.0)
        again.put("VirtualService", "direct", host("direct.test", direct("changed")))
        site.wait_for("direct.test", 200, "changed")
    assert {status for _, status in counts} == {200}, counts
    assert counts["web.test", 200] > 20
    for withdrawn in ("listener_manager.listener_removed", "cluster_manager.cluster_removed"):
        assert site.envoy.stat(withdrawn) == 0
    place.consul.deregister(instance)
