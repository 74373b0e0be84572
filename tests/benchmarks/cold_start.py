"""A cold start with much to read: ``python -m tests.benchmarks.cold_start [SERVICES]``.

As many virtual services in YAML, Upstreams and Consul services, each of these with fifteen instances. Measured are the
seconds until the routes and the endpoints of every service have reached a raw delta client, and until then and for
half a minute after (kinds are cut into shards meanwhile) the greatest memory and number of connections to Consul.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from envoy.config.endpoint.v3 import endpoint_pb2

from gloo_nomad.demo.consul import ConsulAgent, start_consul
from gloo_nomad.demo.ports import free_port
from gloo_nomad.resources import ENDPOINTS
from tests.benchmarks.measure import (
    TRANSACTION,
    bare_read,
    cpu_seconds,
    fill,
    queued_seconds,
    start_gloo,
    subscribe_routes,
)
from tests.benchmarks.objects import GATEWAY, GATEWAY_KEY, virtual_service, virtual_service_key
from tests.xds_client import DeltaClient

INSTANCES: Final = 15
SETTINGS_KEY: Final = "gloo/gloo.solo.io/v1/Settings/gloo-system/default"
SETTINGS: Final = """\
metadata: {name: default, namespace: gloo-system}
consul: {serviceDiscovery: {}}
"""
LATER_SECONDS: Final = 30.0
PATIENCE: Final = 300.0


def objects(count: int) -> Iterator[tuple[str, str]]:
    """Keys and values."""
    yield GATEWAY_KEY, GATEWAY
    yield SETTINGS_KEY, SETTINGS
    for number in range(count):
        name = f"upstream-{number:04d}"
        text = f"metadata: {{name: {name}, namespace: gloo-system}}\nconsul: {{serviceName: service-{number:04d}}}\n"
        yield f"gloo/gloo.solo.io/v1/Upstream/gloo-system/{name}", text
        yield virtual_service_key(number), virtual_service(number, count)


def register(consul: ConsulAgent, count: int) -> None:
    """Registers the services on a node for each of their instances, as agents on other machines would."""
    for node in range(INSTANCES):
        body = {"Node": f"node-{node}", "Address": f"10.0.0.{node + 1}"}
        consul.request("PUT", "catalog/register", json.dumps(body).encode())
    operations: list[dict[str, Any]] = []
    for number in range(count * INSTANCES):
        service, node = divmod(number, INSTANCES)
        instance = {"ID": f"service-{service:04d}", "Service": f"service-{service:04d}", "Port": 1000 + service}
        operations.append({"Service": {"Verb": "set", "Node": f"node-{node}", "Service": instance}})
        if len(operations) == TRANSACTION or number == count * INSTANCES - 1:
            consul.request("PUT", "txn", json.dumps(operations).encode())
            operations = []


@dataclass
class Greatest:
    """What a process had at most, as far as it was looked at."""

    process: psutil.Process
    consul_port: int
    memory: float = 0.0
    """MiB."""
    connections: int = 0

    async def watch(self) -> None:
        """Looks for ever."""
        while True:
            found = await asyncio.to_thread(self.process.net_connections, "tcp")
            there = sum(bool(c.raddr) and c.raddr.port == self.consul_port for c in found)
            self.connections = max(self.connections, there)
            self.memory = max(self.memory, self.process.memory_info().rss / 2**20)
            await asyncio.sleep(0.2)


async def follow(target: str, count: int) -> tuple[float, float]:
    """When the last route and the last endpoint arrived, on the performance counter."""
    routes, waiting = 0.0, {f"service-{number:04d}" for number in range(count)}
    deadline = time.perf_counter() + PATIENCE
    last = f"vs-{count - 1:05d}".encode()
    async with DeltaClient(target) as client:
        await subscribe_routes(client)
        await client.subscribe(ENDPOINTS)
        while not routes or waiting:
            response = await client.receive(max(0.1, deadline - time.perf_counter()))
            await client.ack(response)
            bodies = [resource.resource.value for resource in response.resources]
            if response.type_url == ENDPOINTS:
                waiting.difference_update(_complete(bodies))
            elif any(last in body for body in bodies):
                routes = time.perf_counter()
        return routes, time.perf_counter()


def _complete(bodies: list[bytes]) -> Iterator[str]:
    """Services all of whose instances are there; each has a port of its own."""
    for body in bodies:
        assignment = endpoint_pb2.ClusterLoadAssignment.FromString(body)
        found = [endpoint for group in assignment.endpoints for endpoint in group.lb_endpoints]
        if len(found) == INSTANCES:
            yield f"service-{found[0].endpoint.address.socket_address.port_value - 1000:04d}"


@dataclass(frozen=True)
class Found:
    """Seconds since the start of the program, CPU seconds until all endpoints were served, MiB."""

    routes: float
    endpoints: float
    cpu: float
    queued: float
    """Seconds of these during which threads waited for a core, because others had them."""
    memory: float
    connections: int
    consul_read: float


async def measure_start(consul: ConsulAgent, count: int, folder: Path) -> Found:
    """Starts the program."""
    target, read = f"127.0.0.1:{free_port()}", bare_read(consul)
    started = time.perf_counter()
    server = start_gloo(consul, target, folder)
    process = psutil.Process(server.pid)
    greatest = Greatest(process, consul.port)
    watching = asyncio.create_task(greatest.watch(), name="greatest")
    try:
        routes, endpoints = await follow(target, count)
        cpu, queued = cpu_seconds(process), queued_seconds(process)
        await asyncio.sleep(LATER_SECONDS)
    finally:
        watching.cancel()
        server.stop()
    return Found(routes - started, endpoints - started, cpu, queued, greatest.memory, greatest.connections, read)


def measure(count: int, folder: Path) -> Found:
    """Fills a Consul, and measures."""
    with ExitStack() as stack:
        consul = start_consul(folder / "consul")
        stack.callback(consul.stop)
        fill(consul, objects(count))
        register(consul, count)
        return asyncio.run(measure_start(consul, count, folder))


def main(count: int) -> None:
    """Measures, and prints what was found."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(count, Path(folder))
    print(f"{count} virtual services, {count} services, {count * INSTANCES} instances")
    print(f"routes served after {found.routes:.1f} s, all endpoints after {found.endpoints:.1f} s")
    print(f"until then {found.cpu:.1f} CPU seconds, and {found.queued:.1f} s of waiting for a core")
    print(f"memory at most {found.memory:.0f} MiB")
    print(f"connections to Consul at most {found.connections}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
