"""Services in Consul's mesh through a real Envoy: who is asked, who asks, who may, and how certificates change."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from tests.mesh_world import MeshWorld, to_mesh, to_upstream
from tests.site import Place, Site, host, to_service

pytestmark = [pytest.mark.consul, pytest.mark.envoy]
TLS = "cluster.{}_gloo-system.client_ssl_socket_factory.ssl_context_update_by_sds"


@pytest.fixture
def mesh(new_consul: Callable[..., ConsulAgent], tmp_path: Path, run_echo: Callable[..., int]) -> Iterator[MeshWorld]:
    """A mesh of its own."""
    world = MeshWorld(new_consul(), tmp_path, run_echo)
    yield world
    world.stop()


@pytest.fixture
def place(
    mesh: MeshWorld, tmp_path: Path, free_port: Callable[[], int], run_envoy: Callable[..., Envoy]
) -> Iterator[Place]:
    """Daemons on the mesh's agent."""
    found = Place(tmp_path, mesh.agent, "gloo", free_port, run_envoy)
    yield found
    found.stop()


def open_site(place: Place, *names: str, **settings: Any) -> Site:
    """An Envoy whose domain ``web`` leads into the mesh, and so does each of these, on a connection that is kept."""
    daemon = place.start(services=True, settings=settings)
    daemon.put("Upstream", "web", to_mesh("web"))
    daemon.put("VirtualService", "web", host("web", to_upstream("web")))
    for name in names:
        daemon.put("Upstream", name, {"consul": {"serviceName": "web", "connectEnabled": True}})
        daemon.put("VirtualService", name, host(name, to_upstream(name)))
    return place.open(daemon)


def all_good(counts: Counter[tuple[str, int]]) -> bool:
    """Whether there were answers, and none that failed."""
    return bool(counts) and {status for _, status in counts} == {200}


def serial(mesh: MeshWorld) -> str:
    """Which certificate the gateway has."""
    return str(mesh.agent.request("GET", "agent/connect/ca/leaf/gateway-proxy")["SerialNumber"])


def test_intentions(place: Place, mesh: MeshWorld) -> None:
    """A request reaches the service through its sidecar; with a deny intention it does not, without one again."""
    mesh.serve("web")
    site = open_site(place)
    site.wait_for("web", 200, "echo-web")
    mesh.intend("web", "deny")
    site.wait_for("web", 503)
    mesh.intend("web", "allow")
    site.wait_for("web", 200, "echo-web")


def test_another_service(place: Place, mesh: MeshWorld) -> None:
    """Whoever answers with a good certificate of another service is refused before it hears anything."""
    impostor = mesh.serve("other", claims="web")
    site = open_site(place)
    site.wait_for("web", 503)
    wait_until(lambda: site.envoy.stat("cluster.web_gloo-system.ssl.fail_verify_san") > 0, "a refusal", 20)
    assert site.envoy.stat("cluster.web_gloo-system.upstream_cx_tx_bytes_total") == 0

    mesh.agent.deregister(impostor)
    mesh.serve("web")
    site.wait_for("web", 200, "echo-web")


def test_the_roots_rotate(place: Place, mesh: MeshWorld) -> None:
    """Another root and another certificate under traffic: no request fails, a connection that is open stays open."""
    mesh.serve("web")
    site = open_site(place, "kept")
    site.wait_for("web", 200)
    site.wait_for("kept", 200)
    before, updates = mesh.roots(), site.envoy.stat(TLS.format("kept"))
    with site.asked("web", "kept") as counts:
        mesh.configure(PrivateKeyType="rsa", PrivateKeyBits=2048)
        wait_until(lambda: site.envoy.stat(TLS.format("kept")) >= updates + 2, "both secrets in Envoy", 60)
        rotated = sum(counts.values())
        wait_until(lambda: sum(counts.values()) > rotated + 40, "traffic after it", 40)
    assert all_good(counts), counts
    assert mesh.roots()[-1] not in before
    assert site.envoy.stat("cluster.kept_gloo-system.upstream_cx_total") == 1
    assert site.envoy.stat("cluster.web_gloo-system.upstream_cx_total") >= counts["web", 200]


def test_a_root_without_a_past(place: Place, mesh: MeshWorld) -> None:
    """A service whose certificate only the new root vouches for is trusted, so the roots were really exchanged."""
    impostor = mesh.serve("other", claims="web")
    site = open_site(place)
    site.wait_for("web", 503)
    mesh.configure(force=True, PrivateKeyType="rsa", PrivateKeyBits=2048)
    mesh.agent.deregister(impostor)
    mesh.serve("web")
    site.wait_for("web", 200, "echo-web", 40)


def test_certificates_are_renewed(place: Place, mesh: MeshWorld) -> None:
    """Certificates of half a minute: two are followed by their successors under traffic, and no request fails."""
    mesh.configure(SkipValidate=True, LeafCertTTL="90s")
    mesh.serve("web")
    site = open_site(place, "kept")
    site.wait_for("web", 200)
    site.wait_for("kept", 200)
    serials, updates = {serial(mesh)}, site.envoy.stat(TLS.format("kept"))

    def renewed() -> bool:
        serials.add(serial(mesh))
        return len(serials) > 2 and site.envoy.stat(TLS.format("kept")) >= updates + 2

    with site.asked("web", "kept") as counts:
        wait_until(renewed, "two renewals", 90)
    assert all_good(counts), counts
    assert len(mesh.roots()) == 1
    assert site.envoy.stat("cluster.kept_gloo-system.upstream_cx_total") == 1


def test_moving_into_the_mesh(place: Place, mesh: MeshWorld) -> None:
    """An Upstream that is put into the mesh under traffic loses no request, nor does a restart of the daemon."""
    mesh.serve("web")
    mesh.agent.register("web", mesh.ports["web"])
    daemon = place.start(services=True)
    daemon.put("Upstream", "web", {"consul": {"serviceName": "web"}})
    daemon.put("VirtualService", "web", host("web", to_upstream("web")))
    site = place.open(daemon)
    site.wait_for("web", 200)
    with site.asked("web") as counts:
        daemon.put("Upstream", "web", {"consul": {"serviceName": "web", "connectEnabled": True}})
        wait_until(lambda: site.envoy.stat("cluster.web_gloo-system.ssl.handshake") > 0, "a handshake", 30)
        daemon.terminate()
        again = place.start(services=True, xds_port=daemon.xds_port)
        wait_until(lambda: again.admin("/clients") != [], "Envoy being back", 30)
        restarted = sum(counts.values())
        wait_until(lambda: sum(counts.values()) > restarted + 20, "traffic after it", 30)
    assert all_good(counts), counts


def test_destinations_of_routes(place: Place, mesh: MeshWorld) -> None:
    """A route to a Consul service leads through the mesh if the settings name the service."""
    mesh.serve("web")
    daemon = place.start(services=True, settings={"extensions": {"configs": {"gloo-nomad": {"meshServices": ["web"]}}}})
    daemon.put("VirtualService", "web", host("web", to_service("web")))
    site = place.open(daemon)
    site.wait_for("web", 200, "echo-web")


def test_keys_are_not_shown(place: Place, mesh: MeshWorld) -> None:
    """The key of our certificate is on no page and in no log."""
    mesh.serve("web")
    site = open_site(place)
    site.wait_for("web", 200)
    leaf = mesh.agent.request("GET", "agent/connect/ca/leaf/gateway-proxy")
    key = max(leaf["PrivateKeyPEM"].splitlines(), key=len)
    assert len(key) > 60
    pages = [fetch(site.daemon.admin_port, f"/snapshots/{page}").text for page in ("config", "proxies", "xds")]
    assert "consul.MeshIdentity" in pages[0]
    assert "consul/mesh/gateway-proxy" in pages[2]
    for text in (*pages, site.daemon.server.log.read_text()):
        assert key not in text
        assert "PRIVATE KEY--" not in text
