"""What goes wrong in a run: faults of Consul and OpenBao, cut connections, streams that come and go, garbage."""

import asyncio
import gc
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from gloo_nomad.resources import CLUSTER, LISTENER
from tests.faults import Fault, Garbage, Proxy, Reset, Slow, Status, Truncated, with_index
from tests.soak.churn import Churn
from tests.soak.relay import Relay
from tests.soak.world import World
from tests.xds_client import DeltaClient, SotwClient

FAULTS: Final[dict[str, Fault | None]] = {
    "500": Status(500),
    "reset": Reset(),
    "slow": Slow(3.0),
    "garbage": Garbage(),
    "truncated": Truncated(),
    "429": Status(429),
    "down": None,
    "403": Status(403),
    "garbage JSON": Status(200, b'[{"Key":'),
}
_BROKEN_SECONDS: Final = 4.0
STREAMS: Final = 20


@dataclass
class Trouble:
    """Makes one piece of trouble after the other, in the same order for ever."""

    world: World
    churn: Churn
    relay: Relay
    made: int = 0
    _next: Iterator[Callable[[], AbstractContextManager[None]]] = field(init=False)

    def __post_init__(self) -> None:
        self._next = itertools.cycle(_faults(self.world))

    async def once(self) -> None:
        """One fault with an edit in the middle of it, and once more everybody connects anew."""
        self.made += 1
        with next(self._next)():
            await asyncio.sleep(_BROKEN_SECONDS / 2)
            await self.churn.edit()
            await asyncio.sleep(_BROKEN_SECONDS / 2)
        await self.churn.caught_up()
        self.relay.cut()
        await asyncio.gather(*(self._come_and_go(number) for number in range(STREAMS)))
        gc.collect()  # grpc keeps the connection of a closed channel of ours until the channel is collected
        await self._send_garbage()
        await self.churn.edit()
        await self.churn.caught_up()

    async def _come_and_go(self, number: int) -> None:
        """A stream that takes clusters and listeners, and ends without a word."""
        client = (DeltaClient, SotwClient)[number % 2]
        async with client(f"127.0.0.1:{self.world.daemon.xds_port}", node_id=f"stream-{self.made}-{number}") as stream:
            for type_url in (CLUSTER, LISTENER):
                await stream.subscribe(type_url)
                await stream.accept(30.0)

    async def _send_garbage(self) -> None:
        """Bytes that are no HTTP/2, and a stream of what is no request."""
        port = self.world.daemon.xds_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(OSError, TimeoutError):
            writer.write(b"\x00\xff" * 1000)
            await asyncio.wait_for(reader.read(), 10.0)
        writer.transport.abort()
        async with DeltaClient(f"127.0.0.1:{port}", node_id=f"garbage-{self.made}") as stream:
            await stream.send_bytes(b"\xff\xff\xff")
            await stream.ending()


def _faults(world: World) -> list[Callable[[], AbstractContextManager[None]]]:
    """All faults, of Consul and of OpenBao in turn, and an index of Consul that goes back."""
    proxies = (world.consul_proxy, world.bao_proxy)
    found = [_break(proxy, fault) for fault in FAULTS.values() for proxy in proxies]
    return [*found, _break(world.consul_proxy, with_index(1, times=20))]


def _break(proxy: Proxy, fault: Fault | None) -> Callable[[], AbstractContextManager[None]]:
    return proxy.down if fault is None else partial(proxy.fault, "/v1/", fault)
