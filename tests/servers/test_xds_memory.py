"""What the xDS server keeps of streams that are over: nothing, also where gRPC for Python would."""

import asyncio
import ctypes
import gc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from gloo_nomad.resources import CLUSTER
from tests.xds_client import DeltaClient, SotwClient
from tests.xds_world import World, in_loop, open_world, resources

STREAMS: Final = 1_000
AT_ONCE: Final = 20
BATCHES: Final = 4
MOST_BYTES: Final = 48
"""For each stream. A single ``grpc_op`` that is not freed takes 96."""

_NAMES: Final = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Mallinfo(ctypes.Structure):
    """What glibc says of its memory: https://man7.org/linux/man-pages/man3/mallinfo.3.html."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _NAMES)


def _in_use() -> int:
    """Bytes that were allocated outside Python's own arenas and are not freed."""
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


@in_loop
async def test_clients_that_vanish_leave_nothing() -> None:
    """Thousands of streams whose clients go without a word: native memory is what it was.

    The least growth of a few batches counts: what belongs to connections that are still being closed comes and goes.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as others:
        async with open_world() as world:
            world.publish(clusters=resources("a"))
            await _batch(world, others)
            before, growth = _in_use(), []
            for _ in range(BATCHES):
                await _batch(world, others)
                now = _in_use()
                growth.append((now - before) / STREAMS)
                before = now
    assert min(growth) < MOST_BYTES, growth


async def _batch(world: World, others: ProcessPoolExecutor) -> None:
    await asyncio.get_running_loop().run_in_executor(others, _come_and_go, world.address)
    await world.until(lambda: not world.cache.clients())
    await asyncio.sleep(0.5)


def _come_and_go(address: str) -> None:
    """So many streams of a process of its own, whose memory is not counted."""
    asyncio.run(_all_come_and_go(address))


async def _all_come_and_go(address: str) -> None:
    for _ in range(STREAMS // AT_ONCE):
        await asyncio.gather(*(_one_comes_and_goes(address, number) for number in range(AT_ONCE)))
        gc.collect()  # grpc keeps the connection of a closed channel until the channel is collected


async def _one_comes_and_goes(address: str, number: int) -> None:
    client = (DeltaClient, SotwClient)[number % 2]
    async with client(address, node_id=f"stream-{number}") as stream:
        await stream.subscribe(CLUSTER)
        await stream.accept(30.0)
