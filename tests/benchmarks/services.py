"""``python -m tests.benchmarks.services``: from a change in Consul to new endpoints at a delta client.

``SERVICES=1000`` is how many services routes lead to, ``CHANGES=10`` how many changes of each kind are measured,
``BENCH_JSON=file`` where to write. Every second change is of a service that has a blocking query of its own, every
second one of a service that shares its wake-up with hundreds of others.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import yaml
from envoy.config.endpoint.v3 import endpoint_pb2
from rich.console import Console
from rich.table import Table

from gloo_nomad.demo.consul import ConsulAgent, start_consul
from gloo_nomad.demo.ports import free_port
from gloo_nomad.envoy.names import consul_cluster_name
from gloo_nomad.resources import ENDPOINTS
from tests.benchmarks.measure import fill, start_gloo
from tests.xds_client import DeltaClient

BATCH: Final = 60
PATIENCE: Final = 120.0
BOUND: Final = 0.25
"""Seconds in the median."""


def main() -> None:
    """Measures each kind of change and prints what was found."""
    count, changes = int(os.environ.get("SERVICES", "1000")), int(os.environ.get("CHANGES", "10"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        consul = start_consul(Path(folder) / "consul")
        stack.callback(consul.stop)
        register_services(consul, count)
        fill(consul, objects(count))
        target = f"127.0.0.1:{free_port()}"
        server = start_gloo(consul, target, Path(folder))
        stack.callback(server.stop)
        bench = Bench(consul, target, count)
        asyncio.run(bench.run(changes))
        connections = psutil.Process(server.pid).net_connections("tcp")
        held = [each for each in connections if each.raddr and each.raddr.port == consul.port]
    report(bench.seconds, count, len(held))


def report(seconds: dict[str, list[float]], count: int, connections: int) -> None:
    """Prints the table and writes the JSON."""
    table = Table("change", "median", "max", "changes")
    for name, found in seconds.items():
        table.add_row(name, f"{statistics.median(found) * 1000:.0f} ms", f"{max(found) * 1000:.0f} ms", str(len(found)))
    console = Console(width=100)
    console.print(f"{count:,} services; {connections} connections to Consul")
    console.print(table)
    everything = [second for found in seconds.values() for second in found]
    median = statistics.median(everything)
    console.print(f"median of all: {median * 1000:.0f} ms ({'within' if median <= BOUND else 'OVER'} 250 ms)")
    if target := os.environ.get("BENCH_JSON"):
        Path(target).write_text(json.dumps({"services": count, "connections": connections, "seconds": seconds}) + "\n")


def service_name(number: int) -> str:
    """The name of one of the services."""
    return f"svc-{number:05d}"


def register_services(consul: ConsulAgent, count: int) -> None:
    """One instance of each service on a node of its own, with a passing check."""
    consul.request("PUT", "catalog/register", json.dumps({"Node": "crowd", "Address": "127.0.0.1"}).encode())
    for start in range(0, count, BATCH // 2):
        operations: list[dict[str, Any]] = []
        for number in range(start, min(start + BATCH // 2, count)):
            name = service_name(number)
            service = {"ID": name, "Service": name, "Address": "127.0.0.1", "Port": 10_000 + number % 50_000}
            check = {"Node": "crowd", "CheckID": f"check-{name}", "Name": "c", "ServiceID": name, "Status": "passing"}
            operations.append({"Service": {"Verb": "set", "Node": "crowd", "Service": service}})
            operations.append({"Check": {"Verb": "set", "Check": check}})
        consul.request("PUT", "txn", json.dumps(operations).encode())


def objects(count: int) -> list[tuple[str, str]]:
    """Settings, a Gateway, and virtual services that lead to every service, twenty routes in each."""
    named = {"name": "gateway-proxy", "namespace": "gloo-system"}
    found = [
        (
            "gloo/gloo.solo.io/v1/Settings/gloo-system/default",
            {"consul": {"serviceDiscovery": {}}, "metadata": {**named, "name": "default"}},
        ),
        (
            "gloo/gateway.solo.io/v1/Gateway/gloo-system/gateway-proxy",
            {"metadata": named, "bindAddress": "::", "bindPort": 8080, "httpGateway": {}},
        ),
    ]
    for start in range(0, count, 20):
        routes = [
            {
                "matchers": [{"prefix": f"/{service_name(number)}"}],
                "routeAction": {"single": {"consul": {"serviceName": service_name(number)}}},
            }
            for number in range(start, min(start + 20, count))
        ]
        name = f"vs-{start:05d}"
        host: dict[str, Any] = {"metadata": {"name": name, "namespace": "gloo-system"}}
        host["virtualHost"] = {"domains": [f"{name}.test"], "routes": routes}
        found.append((f"gloo/gateway.solo.io/v1/VirtualService/gloo-system/{name}", host))
    return [(key, yaml.safe_dump(document)) for key, document in found]


def endpoint_count(body: bytes) -> int:
    """How many instances a ClusterLoadAssignment has."""
    message = endpoint_pb2.ClusterLoadAssignment.FromString(body)
    return sum(len(locality.lb_endpoints) for locality in message.endpoints)


@dataclass
class Bench:
    """What is measured: seconds by kind of change."""

    consul: ConsulAgent
    target: str
    count: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    _held: dict[str, int] = field(default_factory=dict)
    """Instances by cluster, as the client has them."""

    async def run(self, changes: int) -> None:
        """Loads everything, then makes the changes one after the other."""
        async with DeltaClient(self.target, node_id="benchmark") as client:
            names = [self._cluster(number) for number in range(self.count)]
            await client.subscribe(ENDPOINTS, *names)
            await self._until(client, lambda: sum(self._held.get(name, 0) > 0 for name in names) == self.count)
            await asyncio.sleep(3)
            for turn in range(changes):
                number = (turn * 7) % 80 if turn % 2 else self.count - 1 - (turn * 7) % max(1, self.count - 100)
                await self._change_all(client, number)

    async def _change_all(self, client: DeltaClient, number: int) -> None:
        name = service_name(number)
        check = {"CheckID": f"{name}-second", "TTL": "600s", "Status": "passing"}
        agent = partial(self.consul.request, "PUT")
        steps: list[tuple[str, Callable[[], object], int]] = [
            ("registered", partial(self.consul.register, name, 9, instance=f"{name}-second", Check=check), 2),
            ("critical", partial(agent, f"agent/check/fail/{name}-second"), 1),
            ("passing again", partial(agent, f"agent/check/pass/{name}-second"), 2),
            ("maintenance", partial(agent, f"agent/service/maintenance/{name}-second?enable=true"), 1),
            ("end of maintenance", partial(agent, f"agent/service/maintenance/{name}-second?enable=false"), 2),
            ("node maintenance", partial(agent, "agent/maintenance?enable=true"), 1),
            ("end of node maintenance", partial(agent, "agent/maintenance?enable=false"), 2),
            ("deregistered", partial(self.consul.deregister, f"{name}-second"), 1),
        ]
        for kind, step, expected in steps:
            await asyncio.sleep(0.3)
            started = time.perf_counter()
            await asyncio.to_thread(step)
            await self._until(client, lambda expected=expected: self._held[self._cluster(number)] == expected)  # type: ignore[misc]
            self.seconds.setdefault(kind, []).append(time.perf_counter() - started)

    def _cluster(self, number: int) -> str:
        return consul_cluster_name(service_name(number))

    async def _until(self, client: DeltaClient, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            response = await client.receive(max(0.1, deadline - time.monotonic()))
            for resource in response.resources:
                self._held[resource.name] = endpoint_count(resource.resource.value)
            await client.ack(response)


if __name__ == "__main__":
    main()
