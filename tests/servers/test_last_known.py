"""What was served is served again by a daemon and an Envoy that start while Consul and Vault are away."""

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest

from gloo_nomad.app.sources import KEPT_SECONDS
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.kept_world import PLAIN, SECURE, SERVICE, KeptWorld, sources_of
from tests.servers.test_daemon_vault import check
from tests.site import Place, Site, direct, host

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]
RunEcho = Callable[..., int]
MOST_SECONDS = 10.0


@pytest.fixture
def world(
    place: Place,
    new_consul: Callable[..., ConsulAgent],
    new_openbao: Callable[..., OpenBao],
    run_echo: RunEcho,
) -> KeptWorld:
    """Servers of the test's own."""
    return KeptWorld(place, new_consul, new_openbao, run_echo)


def test_everything_is_away(world: KeptWorld) -> None:
    """Daemon and Envoy, restarted without Consul and Vault, serve HTTP, HTTPS and a service within ten seconds."""
    daemon, site = world.open()
    before = daemon.admin("/snapshots/xds")
    world.stop_world()
    site.envoy.stop()
    daemon.server.kill()

    began = time.monotonic()
    daemon = world.start()
    site = Site(daemon, world.place.run_envoy(world.bootstrap()), site.port, site.tls_port)
    world.check(site, MOST_SECONDS)
    took = time.monotonic() - began
    assert took < MOST_SECONDS, took
    print(f"served after {took:.1f} s")
    assert daemon.admin("/snapshots/xds") == before
    health = daemon.admin("/healthz")
    assert health["status"] == "degraded"
    assert health["lastKnown"]["written"] < health["degradedSince"] <= time.time()
    assert set(sources_of(daemon)) == {"consul-kv", "consul-services", "vault"}
    assert fetch(daemon.admin_port, "/readyz").status == 200
    metrics = fetch(daemon.admin_port, "/metrics").text
    assert "gloo_nomad_last_known_served 1.0" in metrics
    assert "gloo_nomad_degraded_since_seconds 0.0" not in metrics
    assert "degraded since" in check(daemon)[1]["last known"]
    assert "last_known" in daemon.server.log.read_text()


def test_recovery_replaces_what_was_kept(world: KeptWorld) -> None:
    """Consul comes first, then Vault: what was deleted goes, what is new comes, secrets stay until Vault is back."""
    daemon, site = world.open()
    kv = world.consul.request("GET", f"kv/{daemon.root}?recurse")
    world.stop_world()
    daemon.server.kill()
    daemon = world.start()
    world.check(site)

    world.consul = world.place.consul = world.new_consul(port=world.consul.port)
    daemon = replace(daemon, consul=world.consul)
    for pair in kv:
        if not pair["Key"].endswith("/plain"):
            world.consul.put(pair["Key"], base64.b64decode(pair["Value"] or ""))
    world.consul.register("echo", world.run_echo("two"))
    daemon.put("VirtualService", "new", host("new.test", direct("new")))
    site.wait_for("new.test", 200, "new", 30)
    site.wait_for(PLAIN, 404, seconds=30)
    site.wait_for(SERVICE, 200, "two", 30)
    assert world.shown(site) == world.certificate
    wait_until(lambda: sources_of(daemon) == ["vault"], "Vault being the last", 20)
    daemon.wait_status("VirtualService", "new", "Accepted")

    world.bao = world.new_openbao(port=world.bao.port)
    wait_until(lambda: "no secret below" in str(daemon.admin("/healthz")), "the report on the empty Vault", 60)
    assert world.shown(site) == world.certificate
    pair = world.authority.issue(SECURE)
    world.bao.put_secret("gloo-system", "cert", pair.build_secret())
    wait_until(lambda: world.shown(site) == pair.der, "the new certificate", 60)
    wait_until(lambda: daemon.admin("/healthz")["status"] == "ok", "the end of it", 30)
    assert sources_of(daemon) == []
    assert daemon.server.running


def test_a_consul_that_is_empty_at_first(world: KeptWorld) -> None:
    """After a start without it nothing is taken away; what is written back later is read, and followed from there."""
    daemon, site = world.open()
    kv = world.consul.request("GET", f"kv/{daemon.root}?recurse")
    world.consul.stop()
    daemon.server.kill()
    daemon = world.start()
    world.consul = world.place.consul = world.new_consul(port=world.consul.port)
    daemon = replace(daemon, consul=world.consul)
    wait_until(lambda: "has no key below" in str(daemon.admin("/healthz")), "the report on the lost keys", 60)
    world.check(site)

    for pair in kv:
        world.consul.put(pair["Key"], base64.b64decode(pair["Value"] or ""))
    world.consul.register("echo", world.echo)
    wait_until(lambda: sources_of(daemon) == [], "all being read", 60)
    daemon.put("VirtualService", "new", host("new.test", direct("new")))
    site.wait_for("new.test", 200, "new", 30)
    daemon.delete("VirtualService", "plain")
    site.wait_for(PLAIN, 404, seconds=30)
    daemon.wait_status("VirtualService", "new", "Accepted")


def test_without_a_key(world: KeptWorld) -> None:
    """Secrets are left out, which is said; all the rest is served, and no private key is on the disk."""
    world.environ = {}
    daemon, site = world.open()
    assert "there is no key" in daemon.admin("/healthz")["lastKnown"]["failure"]
    assert not (world.folder / "secrets.kept").exists()
    assert all(b"PRIVATE KEY" not in path.read_bytes() for path in world.folder.iterdir())
    world.stop_world()
    site.envoy.stop()
    daemon.server.kill()

    daemon = world.start()
    site = Site(daemon, world.place.run_envoy(world.bootstrap()), site.port, site.tls_port)
    world.check(site, secure=False)
    assert world.shown(site) == b""
    assert set(sources_of(daemon)) == {"consul-kv", "consul-services"}


def test_a_rejected_edit_and_a_restart(world: KeptWorld) -> None:
    """What a rejected edit left in service is in service after a restart: of an unreadable and of an impossible one."""
    daemon, site = world.open()
    daemon.put("VirtualService", "plain", host(PLAIN, {**direct("bad"), "options": {"prefixRewrite": "no-slash"}}))
    daemon.put("VirtualService", "service", "metadata: {name: service, namespace: gloo-system}\nvirtualHost: 7\n")
    for name in ("plain", "service"):
        daemon.wait_status("VirtualService", name, "Rejected")
    world.check(site)
    world.wait_kept(daemon)
    daemon.server.kill()
    site.envoy.stop()

    daemon = world.start()
    site = Site(daemon, world.place.run_envoy(world.bootstrap(), ready=True), site.port, site.tls_port)
    world.check(site)
    wait_until(lambda: sources_of(daemon) == [], "all being read", 30)
    assert {problem["name"] for problem in daemon.admin("/problems")} == {"plain", "service"}
    world.check(site)


def test_an_envoy_that_runs_on(world: KeptWorld) -> None:
    """A restart of the daemon sends it nothing: what follows from what was kept is the same, byte for byte."""
    daemon, site = world.open()
    before = moves(site)
    daemon.server.kill()
    daemon = world.start()
    wait_until(lambda: sources_of(daemon) == [], "all being read", 30)
    daemon.put("VirtualService", "new", host("new.test", direct("new")))
    site.wait_for("new.test", 200, "new", 30)
    assert moves(site) == before
    world.check(site)


def moves(site: Site) -> dict[str, int]:
    """How often Envoy's clusters, listeners and certificates were added, changed or removed, or new ones were sent."""
    pattern = r"cluster_(added|modified|removed)|listener_(added|modified|removed)|sds.*key_rotation|ssl_context_update"
    told = fetch(site.envoy.admin_port, f"/stats?format=json&filter={quote(pattern)}").json()["stats"]
    return {stat["name"]: stat["value"] for stat in told if "value" in stat}


def test_a_key_that_vault_wraps(world: KeptWorld) -> None:
    """With Vault a start unwraps the key; without Vault secrets are left out, which is said, and stay on the disk."""
    world.environ = {}
    world.bao.request("POST", "sys/mounts/transit", {"type": "transit"})
    world.bao.request("POST", "transit/keys/gloo-nomad")
    transit = {"dataKeyTransit": "transit/gloo-nomad"}
    daemon, site = world.open(transit)
    assert (world.folder / "key.wrapped").read_text().startswith("vault:v1:")
    daemon.server.kill()
    world.consul.stop()

    daemon = world.start(own=transit)
    wait_until(lambda: world.shown(site) == world.certificate, "HTTPS", 30)
    assert "secrets" in log_line(daemon, "last_known")
    daemon.server.kill()
    kept = (world.folder / "secrets.kept").read_bytes()
    site.envoy.stop()
    world.bao.stop()

    daemon = world.start(own=transit)
    site = Site(daemon, world.place.run_envoy(world.bootstrap()), site.port, site.tls_port)
    world.check(site, secure=False)
    assert "there is no key" in log_line(daemon, "no_data_key")
    assert "there is no key" in daemon.admin("/healthz")["lastKnown"]["failure"]
    assert (world.folder / "secrets.kept").read_bytes() == kept


def log_line(daemon: Daemon, event: str) -> str:
    """The first line of the log about that event."""
    return next(line for line in daemon.server.log.read_text().splitlines() if f'"event": "{event}"' in line)


def test_what_is_on_disk_shows_nothing(world: KeptWorld) -> None:
    """Files are the owner's only; with a key secrets are there, encrypted, and no token stands anywhere."""
    world.open()
    files = sorted(path.name for path in world.folder.iterdir())
    assert files == ["configuration.kept", "secrets.kept", "services.kept"]
    for path in world.folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"PRIVATE KEY" not in path.read_bytes()
    assert world.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda content: content[:-1], "is damaged"),
        (lambda content: content[: len(content) // 2], "is damaged"),
        (lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "is damaged"),
        (lambda _: b"", "is no file of this program"),
        (lambda _: b"{}", "is no file of this program"),
    ],
)
def test_a_damaged_file(world: KeptWorld, spoil: Callable[[bytes], bytes], told: str) -> None:
    """It is refused with one line and never served; the daemon waits for Consul as it would without it."""
    daemon, _ = world.open()
    daemon.server.kill()
    consul_port = world.consul.port
    world.consul.stop()
    file = world.folder / "configuration.kept"
    file.write_bytes(spoil(file.read_bytes()))

    daemon = world.start(ready=False)
    wait_until(lambda: "consul-kv" in daemon.waiting_for(), "the wait for Consul", 20)
    time.sleep(KEPT_SECONDS + 1)
    assert fetch(daemon.admin_port, "/readyz").status == 503
    assert daemon.admin("/snapshots/xds") == {}
    lines = [line for line in daemon.server.log.read_text().splitlines() if "last_known_refused" in line]
    assert len(lines) == 1
    assert told in lines[0]
    assert "configuration.kept" in lines[0]
    world.consul = world.new_consul(port=consul_port)
    world.consul.put(daemon.key("VirtualService", "new"), "")
    wait_until(lambda: fetch(daemon.admin_port, "/readyz").status == 200, "being ready", 60)
