"""Troubles of the folder in which the daemon keeps what it serves, ends without warning, and worlds that come late."""

import contextlib
import itertools
import os
import random
import resource
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.kept.file import read_file
from tests.daemon import PROGRAM, Daemon
from tests.kept_world import PLAIN, KeptWorld, sources_of
from tests.site import Place, direct, host

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]
MOST_BYTES = 128 * 1024
KILLS = 20


@pytest.fixture
def world(
    place: Place,
    new_consul: Callable[..., ConsulAgent],
    new_openbao: Callable[..., OpenBao],
    run_echo: Callable[..., int],
) -> KeptWorld:
    """Servers of the test's own."""
    return KeptWorld(place, new_consul, new_openbao, run_echo)


def failure_of(daemon: Daemon) -> str:
    """Why what is served cannot be kept."""
    found: str = daemon.admin("/healthz")["lastKnown"]["failure"]
    return found


def large(text: str) -> dict[str, Any]:
    """A virtual service that does not fit into a file of ``MOST_BYTES``."""
    routes = [{**direct(text * 2000), "matchers": [{"prefix": f"/{number}"}]} for number in range(100)]
    return host("large.test", *routes)


def test_a_file_that_may_not_grow(world: KeptWorld) -> None:
    """What cannot be written is told in one line, serving goes on, what was kept stays, and later it is kept."""
    daemon, site = world.open()
    before = (world.folder / "configuration.kept").read_bytes()
    pid = daemon.server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE, (MOST_BYTES, resource.RLIM_INFINITY))
    daemon.put("VirtualService", "large", large("a"))
    wait_until(lambda: "cannot be kept" in failure_of(daemon), "the report", 30)
    daemon.put("VirtualService", "plain", host(PLAIN, direct("changed")))
    site.wait_for(PLAIN, 200, "changed", 30)
    assert (world.folder / "configuration.kept").read_bytes() == before
    assert sorted(path.name for path in world.folder.iterdir()) == [
        "configuration.kept",
        "secrets.kept",
        "services.kept",
    ]
    lines = [line for line in daemon.server.log.read_text().splitlines() if "last_known_not_kept" in line]
    assert len(lines) == 1
    assert "File too large" in lines[0]
    assert "gloo_nomad_last_known_failing 1.0" in fetch(daemon.admin_port, "/metrics").text
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    wait_until(lambda: not failure_of(daemon), "the end of the report", 60)
    assert len((world.folder / "configuration.kept").read_bytes()) > MOST_BYTES


def test_a_disk_that_is_full(world: KeptWorld) -> None:
    """The folder is a file system of its own, without a byte left: what was kept stays, and later it is kept."""
    world.folder.mkdir(mode=0o700)
    world.program = with_small_disk(world.folder, world.place.folder / "gloo-nomad")
    daemon, site = world.open()
    disk = Path(f"/proc/{daemon.server.pid}/root{world.folder}")
    assert disk.stat().st_dev != world.folder.stat().st_dev
    fill(disk / "ballast")
    before = (disk / "configuration.kept").read_bytes()
    daemon.put("VirtualService", "plain", host(PLAIN, direct("changed")))
    site.wait_for(PLAIN, 200, "changed", 30)
    wait_until(lambda: "No space left on device" in failure_of(daemon), "the report", 30)
    assert (disk / "configuration.kept").read_bytes() == before
    assert not list(disk.glob("*.new"))
    (disk / "ballast").unlink()
    wait_until(lambda: not failure_of(daemon), "the end of the report", 60)
    assert (disk / "configuration.kept").read_bytes() != before
    assert daemon.server.running


def with_small_disk(folder: Path, script: Path) -> Path:
    """A program that mounts a megabyte at the *folder*, for itself alone, and becomes the daemon.

    Who is not root becomes it in a user namespace of its own, which the system has to allow.
    """
    become = "unshare --mount" if os.geteuid() == 0 else "unshare --mount --map-root-user"
    mount = f"mount -t tmpfs -o size=1m,mode=700 small {shlex.quote(str(folder))}"
    inside = f'{mount} && exec {shlex.quote(str(PROGRAM))} "$@"'
    script.write_text(f'#!/bin/sh\nexec {become} sh -c {shlex.quote(inside)} daemon "$@"\n')
    script.chmod(0o700)
    return script


def fill(file: Path) -> None:
    """Writes until nothing fits any more."""
    with file.open("wb", buffering=0) as opened, contextlib.suppress(OSError):
        while True:
            opened.write(bytes(4096))


def test_a_folder_that_cannot_be_written(world: KeptWorld) -> None:
    """A daemon whose folder cannot even be made serves all the same, and says why nothing is kept."""
    world.folder.write_text("a file where the folder should be")
    daemon = world.start()
    daemon.put("VirtualService", "plain", host(PLAIN, direct("plain")))
    site = world.place.open(daemon)
    site.wait_for(PLAIN, 200, "plain", 30)
    wait_until(lambda: "cannot be kept" in failure_of(daemon), "the report", 30)
    assert daemon.terminate() < 10


def test_killed_again_and_again(world: KeptWorld) -> None:
    """A daemon that is killed while it writes starts with what one moment before was served, twenty times."""
    daemon, _ = world.open()
    key = daemon.key("VirtualService", "large")
    dice = random.Random(7)  # any numbers will do
    for number in range(KILLS):
        until = time.monotonic() + dice.uniform(0.9, 1.6)
        for turn in itertools.count():
            world.consul.put(key, _yaml(f"{number}-{turn}", daemon))
            if time.monotonic() > until:
                break
        daemon.server.kill()
        daemon = replace(world.start(), root=daemon.root)
        log = daemon.server.log.read_text()
        assert "last_known_refused" not in log, log
        assert "Traceback" not in log, log
    place = {"namespace": "gloo-system", "settings": "gloo-system.default", "rootKey": daemon.root}
    place |= {"directory": "", "datacenter": ""}
    assert read_file(world.folder / "configuration.kept", "configuration", place) is not None


def _yaml(text: str, daemon: Daemon) -> str:
    assert daemon.key("VirtualService", "large") == VIRTUAL_SERVICE.key(daemon.root, Ref("gloo-system", "large"))
    lines = ["metadata: {name: large, namespace: gloo-system}", "virtualHost:", "  domains: [large.test]", "  routes:"]
    for number in range(60):
        lines.append(f"  - matchers: [{{prefix: /{number}}}]")
        lines.append(f"    directResponseAction: {{status: 200, body: '{text * 200}'}}")
    return "\n".join(lines)


def test_an_envoy_that_has_something(world: KeptWorld) -> None:
    """What was kept, older than what an Envoy has and without secrets, is not for it; with Consul and Vault it is."""
    world.environ = {}
    daemon, site = world.open()
    old = world.place.folder / "old"
    shutil.copytree(world.folder, old)
    daemon.put("VirtualService", "newer", host("newer.test", direct("newer")))
    site.wait_for("newer.test", 200, "newer", 30)
    kv = world.consul.request("GET", f"kv/{daemon.root}?recurse")
    world.stop_world()
    daemon.server.kill()
    shutil.rmtree(world.folder)
    shutil.copytree(old, world.folder)

    daemon = world.start()
    wait_until(lambda: len(daemon.admin("/clients")) == 1, "the Envoy being connected", 30)
    time.sleep(3.0)
    assert site.get("newer.test") == (200, "newer")
    assert world.shown(site) == world.certificate

    world.come_back(kv)
    daemon = replace(daemon, consul=world.consul)
    wait_until(lambda: sources_of(daemon) == [], "all being read", 60)
    daemon.put("VirtualService", "newest", host("newest.test", direct("newest")))
    site.wait_for("newest.test", 200, "newest", 30)
    assert site.get("newer.test") == (200, "newer")
    wait_until(lambda: world.shown(site) == world.certificate, "HTTPS", 30)
