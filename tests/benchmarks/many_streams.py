"""Many Envoys: ``python -m tests.benchmarks.many_streams [STREAMS] [SECONDS] [INTERVAL]``; by default 200 for 10 s.

So many raw delta streams, spread over a few client processes, ask one server in a process of its own for 1,000 virtual
hosts and the endpoints of 100 clusters. A change is published every INTERVAL seconds (0.25), now a virtual host, now an
endpoint set; each stream notes when it has it. What counts: the time from publication to the client (its 50th and 99th
percentile over all streams and changes), that no stream misses any or ends, and that the server's memory stays.
``BENCH_JSON=file`` writes the figures.
"""

import asyncio
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import psutil
import structlog
from envoy.service.discovery.v3 import discovery_pb2
from grpc import aio

from gloo_nomad.messages import version_of
from gloo_nomad.resources import ENDPOINTS, ROUTES, VIRTUAL_HOST, Resource, Resources, XdsSnapshot
from tests.xds_client import DELTA_ADS, ROLE, build_node
from tests.xds_world import World, open_world

CLIENTS: Final = 2
"""Processes of the clients."""
HOSTS: Final = 1_000
CLUSTERS: Final = 100
BODY_BYTES: Final = 500
STAMP_BYTES: Final = 8
WAIT_SECONDS: Final = 120.0
WARM_UP_CHANGES: Final = 40
"""Memory is compared from then on: buffers have grown to what they need."""


@dataclass(frozen=True)
class Figures:
    """Milliseconds from publication to a client, and what the server needed; memory in MiB."""

    streams: int
    seconds: float
    changes: int
    median: float
    p99: float
    largest: float
    missed: int
    ended: int
    cpu_per_change: float
    memory_before: float
    memory_after: float


def build(name: str, stamp: int = 0) -> Resource:
    """A resource that says when it was published, in nanoseconds."""
    body = stamp.to_bytes(STAMP_BYTES, "big") + name.encode().ljust(BODY_BYTES, b".")
    return Resource(name, version_of(body), body)


class Publisher:
    """What is served, and how it changes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._hosts: Resources = {name: build(name) for name in (f"r/{number:05d}" for number in range(HOSTS))}
        self._endpoints: Resources = {name: build(name) for name in (f"c{number:03d}" for number in range(CLUSTERS))}
        self._routes = {"r": build("r")}
        self.publish()

    def publish(self) -> None:
        """Publishes all."""
        types = {ROUTES: self._routes, VIRTUAL_HOST: self._hosts, ENDPOINTS: self._endpoints}
        self._world.cache.publish({ROLE: XdsSnapshot(types)})

    def change(self, number: int) -> None:
        """Publishes one change."""
        stamp = time.monotonic_ns()
        if number % 2:
            name = f"r/{number % HOSTS:05d}"
            self._hosts = {**self._hosts, name: build(name, stamp)}
        else:
            name = f"c{number % CLUSTERS:03d}"
            self._endpoints = {**self._endpoints, name: build(name, stamp)}
        self.publish()


async def serve_changes(streams: int, seconds: float, interval: float, pipe: Connection) -> None:
    """The server's process: says its port, waits for the clients, changes things, says what that cost."""
    process = psutil.Process()
    async with open_world() as world:
        publisher = Publisher(world)
        pipe.send(world.server.port)
        await asyncio.to_thread(pipe.recv)
        assert len(world.cache.clients()) == streams
        await asyncio.sleep(2.0)
        cpu, memory, changes = sum(process.cpu_times()[:2]), process.memory_info().rss, 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            publisher.change(changes)
            changes += 1
            if changes == WARM_UP_CHANGES:
                memory = process.memory_info().rss
            await asyncio.sleep(interval)
        await asyncio.sleep(2.0)
        used = (sum(process.cpu_times()[:2]) - cpu) / changes
        pipe.send((changes, len(world.cache.clients()), used, memory / 2**20, process.memory_info().rss / 2**20))
        await asyncio.to_thread(pipe.recv)


class Stream:
    """One client: acknowledges everything, and notes how long each stamped resource was on its way."""

    def __init__(self, target: str, number: int) -> None:
        channel: Any = aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        self._channel = channel
        self._call = channel.stream_stream(DELTA_ADS)()
        self._number = number
        self.seconds: list[float] = []
        self.ready = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        """Asks for everything and takes what comes, until it is cancelled or the stream ends."""
        node = build_node(ROLE, f"node-{self._number}")
        names = {ROUTES: ["r"], VIRTUAL_HOST: [], ENDPOINTS: [f"c{number:03d}" for number in range(CLUSTERS)]}
        for type_url, wanted in names.items():
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=wanted)
            if type_url == ROUTES:
                request.node.CopyFrom(node)
            await self._call.write(request.SerializeToString())
        waiting = set(names)
        while (payload := await self._call.read()) is not aio.EOF:  # type: ignore[attr-defined]
            response = discovery_pb2.DeltaDiscoveryResponse.FromString(payload)
            self._note(response, time.monotonic_ns())
            waiting.discard(response.type_url)
            if not waiting:
                self.ready.set()
            answer = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            await self._call.write(answer.SerializeToString())
        self.ended = True

    def _note(self, response: Any, now: int) -> None:
        for resource in response.resources:
            stamp = int.from_bytes(resource.resource.value[:STAMP_BYTES], "big")
            if stamp:
                self.seconds.append((now - stamp) / 1e9)

    async def close(self) -> None:
        """Ends the stream."""
        self._call.cancel()
        await self._channel.close()


async def take_changes(target: str, numbers: range, pipe: Connection) -> None:
    """A client process: opens its streams, says so, and on request what they noted."""
    streams = [Stream(target, number) for number in numbers]
    tasks = [asyncio.create_task(stream.run()) for stream in streams]
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*(stream.ready.wait() for stream in streams))
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    pipe.send([(stream.ended, stream.seconds) for stream in streams])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(stream.close() for stream in streams))


def _run_server(streams: int, seconds: float, interval: float, pipe: Connection) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(serve_changes(streams, seconds, interval, pipe))


def _run_client(target: str, numbers: range, pipe: Connection) -> None:
    asyncio.run(take_changes(target, numbers, pipe))


def measure(streams: int, seconds: float, interval: float) -> Figures:
    """Starts the processes, lets them run and puts together what they say."""
    context = multiprocessing.get_context("spawn")
    server, server_end = context.Pipe()
    processes = [context.Process(target=_run_server, args=(streams, seconds, interval, server_end))]
    processes[0].start()
    target, clients = f"127.0.0.1:{server.recv()}", []
    for number in range(CLIENTS):
        client, client_end = context.Pipe()
        numbers = range(number, streams, CLIENTS)
        processes.append(context.Process(target=_run_client, args=(target, numbers, client_end)))
        processes[-1].start()
        clients.append(client)
    for client in clients:
        client.recv()
    server.send("go")
    changes, open_streams, cpu, before, after = server.recv()
    noted = []
    for client in clients:
        client.send("report")
        noted += client.recv()
    server.send("end")
    for process in processes:
        process.join(WAIT_SECONDS)
    return build_figures(streams, seconds, (changes, open_streams, cpu, before, after), noted)


def build_figures(
    streams: int,
    seconds: float,
    server: tuple[int, int, float, float, float],
    noted: Sequence[tuple[bool, list[float]]],
) -> Figures:
    """Percentiles over all streams and changes."""
    changes, open_streams, cpu, before, after = server
    times = sorted(taken for _, each in noted for taken in each)
    return Figures(
        streams,
        seconds,
        changes,
        times[len(times) // 2] * 1000,
        times[int(len(times) * 0.99)] * 1000,
        times[-1] * 1000,
        sum(changes - len(each) for _, each in noted),
        sum(ended for ended, _ in noted) + streams - open_streams,
        cpu,
        before,
        after,
    )


def main(streams: int = 200, seconds: float = 10.0, interval: float = 0.25) -> None:
    """Measures and prints."""
    found = measure(streams, seconds, interval)
    print(
        f"{found.streams} streams, {found.changes} changes in {found.seconds:.0f} s: "
        f"{found.median:.0f} ms at the median, {found.p99:.0f} ms at the 99th percentile, "
        f"{found.largest:.0f} ms at most; "
        f"{found.missed} missed, {found.ended} streams ended; {found.cpu_per_change * 1000:.0f} ms CPU for a change; "
        f"memory {found.memory_before:.0f} MiB, then {found.memory_after:.0f} MiB"
    )
    if target := os.environ.get("BENCH_JSON"):
        Path(target).write_text(json.dumps(asdict(found), indent=2) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *map(float, sys.argv[2:4]))
