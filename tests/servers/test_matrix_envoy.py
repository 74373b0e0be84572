"""The fault matrix, Envoys: what one of them does costs no other anything."""

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
import pytest

from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.resources import CLUSTER, LISTENER
from tests.fault_world import PATIENCE, World, open_world
from tests.xds_client import DeltaClient

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]
MANY = 1000
HOLD = 2.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all faults, one after the other."""
    with open_world(tmp_path_factory.mktemp("world")) as found:
        yield found


class Second:
    """Another Envoy, with a role and a port of its own."""

    def __init__(self, world: World) -> None:
        self.port = free_port()
        self._world = world
        self._bootstrap = build_bootstrap(
            xds_port=world.daemon.xds_port, admin_port=free_port(), role="gloo-system~second", node_id="second"
        )
        gateway = {"bindAddress": "127.0.0.1", "bindPort": self.port, "proxyNames": ["second"], "httpGateway": {}}
        world.daemon.put("Gateway", "second", gateway)
        self.envoy = self.start()

    def start(self) -> Envoy:
        """Starts it, anew if it ran before."""
        self.envoy = self._world.place.run_envoy(self._bootstrap, ready=True)
        return self.envoy

    def answers(self, text: str) -> bool:
        """Whether it serves the edited object as it is now."""
        return text in fetch(self.port, "/", host="edited.test").text


@pytest.fixture
def second(world: World) -> Iterator[Second]:
    """One that may be broken."""
    found = Second(world)
    yield found
    world.daemon.delete("Gateway", "second")
    found.envoy.stop()


def test_restarted(world: World, second: Second) -> None:
    """It has everything again, and what was new meanwhile; its end and its start are nothing to the others."""
    with world.unharmed():
        second.envoy.server.kill()
        world.edit()
        text = world.put_edit()
        second.start()
        wait_until(lambda: second.answers(text), "the restarted Envoy serving what is new", PATIENCE)


def test_never_reading(world: World, second: Second) -> None:
    """A stopped one takes nothing off its connection; the others are served at once, and it catches up later."""
    with world.unharmed():
        os.kill(second.envoy.server.pid, signal.SIGSTOP)
        try:
            for _ in range(20):
                world.edit()
            time.sleep(HOLD)
            text = world.put_edit()
            world.site.wait_for("edited.test", 200, text, PATIENCE)
        finally:
            os.kill(second.envoy.server.pid, signal.SIGCONT)
        wait_until(lambda: second.answers(text), "the woken Envoy serving what is new", PATIENCE)


def test_sending_garbage(world: World) -> None:
    """Neither bytes that are no HTTP, nor HTTP/1, nor messages that are none, nor a stream without a role."""
    with world.unharmed():
        for content in (
            b"\x00\xff" * 5000,
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff",
        ):
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", world.daemon.xds_port), timeout=10) as peer:
                    peer.sendall(content)
        assert asyncio.run(send_garbage(world.daemon.xds_port)) == {grpc.StatusCode.INVALID_ARGUMENT: 20}


async def send_garbage(port: int) -> dict[grpc.StatusCode, int]:
    """How streams end on which something comes that is no request."""
    ends: dict[grpc.StatusCode, int] = {}
    for _ in range(20):
        async with DeltaClient(f"127.0.0.1:{port}") as client:
            await client.send_bytes(b"\xff\xff\xff no request")
            code = await client.ending()
            ends[code] = ends.get(code, 0) + 1
    return ends


@contextmanager
def many_files() -> Iterator[None]:
    """This process may open as many files as it could be allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_at_once(world: World) -> None:
    """A thousand connections come, break and come back together: all are served, and nobody else notices."""
    with many_files(), world.unharmed():
        resource.prlimit(world.daemon.server.pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
        began = time.monotonic()
        held = asyncio.run(connect_many(world, {}))
        print(f"{MANY} new ones were served within {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        assert asyncio.run(connect_many(world, held)) == held
        print(f"{MANY} that came back were served within {time.monotonic() - began:.1f} s")
        wait_until(lambda: len(world.daemon.admin("/clients")) == 1, "only the Envoy being left", PATIENCE)


async def connect_many(world: World, held: dict[str, str]) -> dict[str, str]:
    """Opens them all at once, with what they hold; returns the listeners that each holds once it was answered."""
    clients = [DeltaClient(f"127.0.0.1:{world.daemon.xds_port}", node_id=f"node-{number}") for number in range(MANY)]

    async def ask(client: DeltaClient) -> dict[str, str]:
        await client.__aenter__()
        await client.subscribe(CLUSTER)
        await client.subscribe(LISTENER, held=held)
        while CLUSTER not in client.held or not client.held[LISTENER]:
            await client.accept(PATIENCE)
        return client.held[LISTENER]

    try:
        found = await asyncio.gather(*map(ask, clients))
        assert all(one == found[0] for one in found)
        return found[0]
    finally:
        with suppress(Exception):
            await asyncio.gather(*(client.__aexit__(None, None, None) for client in clients))
