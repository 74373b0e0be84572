"""The fault matrix, the program itself: Envoys keep what they have, and it goes on, or is started again."""

import asyncio
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from gloo_nomad.demo.processes import wait_until
from gloo_nomad.resources import CLUSTER
from tests.daemon import Daemon
from tests.fault_world import PATIENCE, World, open_world
from tests.faults import Status
from tests.xds_client import DeltaClient

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]
HOLD = 2.0
SHIFTED_CLOCK = """
import os, time
_right, _shift = time.time, os.open(os.environ["CLOCK_SHIFT"], os.O_RDONLY)
time.time = lambda: _right() + float(os.pread(_shift, 20, 0) or 0)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all faults, one after the other; what Python takes for the wall clock can be set."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "sitecustomize.py").write_text(SHIFTED_CLOCK)
    (folder / "shift").write_text("0")
    with open_world(folder, environ={"PYTHONPATH": str(folder), "CLOCK_SHIFT": str(folder / "shift")}) as found:
        yield found


@contextmanager
def limited(daemon: Daemon, kind: int, soft: int) -> Iterator[None]:
    """The process has less of something meanwhile."""
    before = resource.prlimit(daemon.server.pid, kind)
    resource.prlimit(daemon.server.pid, kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(daemon.server.pid, kind, before)


@pytest.mark.parametrize(
    "end", [lambda daemon: daemon.server.kill(), lambda daemon: daemon.terminate()], ids=["SIGKILL", "SIGTERM"]
)
def test_ended(world: World, end: Callable[[Daemon], object]) -> None:
    """It ends, is away for a while, and starts again: the Envoy comes back and has lost nothing."""
    with world.unharmed(world.edit, world.move, world.renew):
        ended = world.daemon
        end(ended)
        text = world.put_edit()
        time.sleep(HOLD)
        daemon = world.start_daemon(xds_port=ended.xds_port)
        wait_until(lambda: daemon.admin("/clients") != [], "the Envoy being back", PATIENCE)
        world.site.wait_for("edited.test", 200, text, PATIENCE)


def test_a_full_disk(world: World) -> None:
    """No file can grow, not even the log that tells of a trouble: it goes on all the same."""
    log = world.daemon.server.log
    size = log.stat().st_size
    with world.unharmed(world.edit, world.move, world.renew):
        with limited(world.daemon, resource.RLIMIT_FSIZE, size), world.vault_proxy.fault("/v1/", Status(500)):
            world.wait_told("Vault")
            world.edit()
            time.sleep(HOLD)
            assert log.stat().st_size == size
        wait_until(lambda: log.stat().st_size > size, "lines in the log again", PATIENCE)
        world.wait_well()


@pytest.mark.parametrize("shift", [86_400, -86_400, 0])
def test_a_clock_that_jumps(world: World, shift: int) -> None:
    """A day ahead, a day behind, and right again: only what is shown is of that time."""
    with world.unharmed(world.edit, world.move, world.renew):
        (world.place.folder / "shift").write_text(str(shift))
        with world.vault_proxy.fault("/v1/", Status(500)):
            world.wait_told("Vault")
            (since,) = [source["since"] for source in world.daemon.admin("/healthz")["sources"] if source["error"]]
            assert abs(since - time.time() - shift) < PATIENCE
            time.sleep(HOLD)
        world.wait_well()


def test_out_of_file_descriptors(world: World) -> None:
    """Envoys that connect while there is no descriptor left are served once there are some again."""
    process = psutil.Process(world.daemon.server.pid)
    highest = max(int(file.name) for file in Path(f"/proc/{process.pid}/fd").iterdir())
    with world.unharmed(world.edit, world.move, world.renew), ExitStack() as stack:
        with limited(world.daemon, resource.RLIMIT_NOFILE, highest + 1):
            for port in [world.daemon.xds_port, world.daemon.admin_port] * 40:
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            before = sum(process.cpu_times()[:2])
            time.sleep(HOLD)
            assert sum(process.cpu_times()[:2]) - before < 0.75 * HOLD
            assert process.num_fds() == highest + 1
            text = world.put_edit()
        world.site.wait_for("edited.test", 200, text, PATIENCE)
        assert asyncio.run(is_served(world.daemon.xds_port))


async def is_served(port: int) -> bool:
    """Whether a new client gets clusters."""
    async with DeltaClient(f"127.0.0.1:{port}") as client:
        await client.subscribe(CLUSTER)
        return bool((await client.accept(PATIENCE)).resources)
