"""One measurement: a real Consul with N virtual services, one gloo-nomad, one raw delta client."""

import asyncio
import json
import os
import socket
import statistics
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from gloo_nomad.demo.consul import ConsulAgent, start_consul
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerProcess, start_process, wait_ready
from gloo_nomad.envoy.names import split_routes_name
from gloo_nomad.resources import ROUTES, VIRTUAL_HOST
from tests.benchmarks.objects import configuration, virtual_service, virtual_service_key
from tests.xds_client import DeltaClient

ROUTE_CONFIG = "listener-::-8080-routes"
PREFIX = "gloo/gateway.solo.io/v1/VirtualService/"
TRANSACTION = 64
READS = 7
IDLE_SECONDS = 10.0
WARM_UP_SECONDS = 25.0
"""Kinds with many keys are cut into shards when the program has run for 20 seconds."""


@dataclass(frozen=True)
class Figures:
    """Seconds, CPU seconds and MiB of one configuration size."""

    virtual_services: int
    upstreams: int
    load: float
    change_median: float
    change_max: float
    cpu_per_change: float
    memory: float
    idle_cpu: float
    route_bytes: int
    consul_read: float


def measure(virtual_services: int, upstreams: int, changes: int, folder: Path) -> Figures:
    """Runs everything for one size and stops it again."""
    with ExitStack() as stack:
        consul = start_consul(folder / "consul")
        stack.callback(consul.stop)
        fill(consul, configuration(virtual_services, upstreams))
        target = f"127.0.0.1:{free_port()}"
        started = time.perf_counter()
        server = start_gloo(consul, target, folder)
        stack.callback(server.stop)
        bench = Bench(consul, psutil.Process(server.pid), target, virtual_services, upstreams)
        return asyncio.run(bench.run(changes, started))


def start_gloo(consul: ConsulAgent, target: str, folder: Path) -> ServerProcess:
    """The gloo role, alone."""
    program = Path(sys.executable).parent / "gloo-nomad"
    command: list[str | Path] = [program, "run", "--role", "gloo", "--consul-address", consul.address]
    command += ["--xds-bind", target, "--admin-bind", f"127.0.0.1:{free_port()}"]
    server = start_process("gloo", command, folder / "gloo.log", env=dict(os.environ))
    wait_ready(server, lambda: _listens(target))
    return server


def _listens(target: str) -> bool:
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=1):
        return True


def fill(consul: ConsulAgent, pairs: Iterable[tuple[str, str]]) -> None:
    """Writes keys in transactions."""
    batch: list[dict[str, object]] = []
    for key, value in pairs:
        batch.append({"KV": {"Verb": "set", "Key": key, "Value": b64encode(value.encode()).decode()}})
        if len(batch) == TRANSACTION:
            consul.request("PUT", "txn", json.dumps(batch).encode())
            batch = []
    if batch:
        consul.request("PUT", "txn", json.dumps(batch).encode())


@dataclass(frozen=True)
class Bench:
    """What is measured."""

    consul: ConsulAgent
    process: psutil.Process
    target: str
    count: int
    upstreams: int

    async def run(self, changes: int, started: float) -> Figures:
        """Loads, changes, waits; *started* is when the server was."""
        async with DeltaClient(self.target, node_id="benchmark") as client:
            await subscribe_routes(client)
            size = await wait_for(client, f"vs-{self.count - 1:05d}".encode(), 300.0)
            load = time.perf_counter() - started
            await asyncio.sleep(max(0.0, started + WARM_UP_SECONDS - time.perf_counter()))
            await settle(self.process)
            before = cpu_seconds(self.process)
            seconds = [await self._change(client, number) for number in range(changes)]
            cpu = (cpu_seconds(self.process) - before) / changes
            await settle(self.process)
            idle_from = cpu_seconds(self.process)
            await asyncio.sleep(IDLE_SECONDS)
            idle = (cpu_seconds(self.process) - idle_from) / IDLE_SECONDS
            memory = self.process.memory_info().rss / 2**20
        return Figures(
            virtual_services=self.count,
            upstreams=self.upstreams,
            load=load,
            change_median=statistics.median(seconds),
            change_max=max(seconds),
            cpu_per_change=cpu,
            memory=memory,
            idle_cpu=idle,
            route_bytes=size,
            consul_read=bare_read(self.consul),
        )

    async def _change(self, client: DeltaClient, number: int) -> float:
        """Seconds from the write of one virtual service to its new route in a response."""
        await asyncio.sleep(0.3)
        which = (number * 37) % self.count
        marker = f"change-{number}-"
        text = virtual_service(which, self.upstreams, marker).encode()
        started = time.perf_counter()
        await asyncio.to_thread(self.consul.put, virtual_service_key(which), text)
        await wait_for(client, marker.encode(), 120.0)
        return time.perf_counter() - started


async def subscribe_routes(client: DeltaClient, route_config: str = ROUTE_CONFIG) -> None:
    """Asks for routes in both forms: which of them there is, only the listener says."""
    await client.subscribe(ROUTES, route_config, split_routes_name(route_config))
    await client.subscribe(VIRTUAL_HOST)


async def wait_for(client: DeltaClient, needle: bytes, within: float) -> int:
    """Takes responses until one has *needle*; how many bytes of routes came in that one."""
    deadline = time.monotonic() + within
    while True:
        response = await client.receive(max(0.1, deadline - time.monotonic()))
        arrived = [bytes(resource.resource.value) for resource in response.resources]
        await client.ack(response)
        if any(needle in body for body in arrived):
            return sum(map(len, arrived))


async def settle(process: psutil.Process) -> None:
    """Waits until the process has nothing to do any more: statuses are written after serving."""
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline:
        before = cpu_seconds(process)
        await asyncio.sleep(2.0)
        if cpu_seconds(process) - before < 0.06:
            return


def cpu_seconds(process: psutil.Process) -> float:
    """What a process has used so far."""
    times = process.cpu_times()
    return times.user + times.system


def bare_read(consul: ConsulAgent) -> float:
    """Median seconds that Consul needs to hand over the prefix to a plain reader."""
    seconds = []
    for _ in range(READS):
        started = time.perf_counter()
        with urllib.request.urlopen(f"http://{consul.address}/v1/kv/{PREFIX}?recurse", timeout=60) as answer:
            answer.read()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
