"""From ``consul kv put`` to the first 200 through Envoy: ``python -m tests.benchmarks.envoy_in_the_loop [SIZE,...]``.

A real Consul, one ``gloo-nomad run --role gloo``, one real Envoy, and beside it a raw delta client that says when the
change was sent: what is left of the time is Envoy's own. Each change is a new virtual service of ten routes for a host
that was answered with 404 before. ``CHANGES=20`` chooses how many, ``BENCH_JSON=file`` where to write the figures, and
``FORM=scoped`` the ``virtualHostDiscovery``.
Routes are plain (a host, a path, an upstream), as in what the marks were taken from; ``RICH=1`` takes those of ``make
bench``, which cost Envoy four times as much.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table

from gloo_nomad.demo.consul import ConsulAgent, start_consul
from gloo_nomad.demo.envoy import build_bootstrap, start_envoy
from gloo_nomad.demo.ports import free_port
from gloo_nomad.resources import ROUTES as ENVOY_ROUTES
from gloo_nomad.resources import VIRTUAL_HOST
from tests.benchmarks.measure import (
    bare_read,
    cpu_seconds,
    fill,
    settle,
    start_gloo,
    wait_for,
    wait_for_statuses,
    warm_up_seconds,
)
from tests.benchmarks.objects import GATEWAY_KEY, ROUTES, configuration, virtual_service_key
from tests.benchmarks.requests import Requests, first_answer
from tests.xds_client import DeltaClient

SIZES: Final = "20,200,1000,3000,10000"
MARKS: Final = {20: 50, 200: 80, 1_000: 150, 3_000: 300, 10_000: 700}
"""Milliseconds that a change may take at the median, on an idle machine of two cores."""
TO_UPSTREAM: Final = "routeAction: {{single: {{upstream: {{name: upstream-{:04d}, namespace: gloo-system}}}}}}"
SETTINGS_KEY: Final = "gloo/gloo.solo.io/v1/Settings/gloo-system/default"
SETTINGS: Final = """
metadata: {{name: default, namespace: gloo-system}}
extensions: {{configs: {{gloo-nomad: {{virtualHostDiscovery: {}}}}}}}
"""
ALWAYS: Final = 99_999
ANSWER: Final = "directResponseAction: {status: 200, body: served}"


@dataclass(frozen=True)
class Figure:
    """Milliseconds from ``consul kv put``: to the delta response, to the first 200, and what lies between the two."""

    virtual_services: int
    response: float
    answer: float
    answer_p99: float
    answer_max: float
    envoy: float
    gloo_cpu: float
    envoy_cpu: float
    """CPU milliseconds for a change; those of ``gloo`` with the statuses that it writes afterwards."""
    consul_read: float
    """What Consul alone needs to hand over all virtual services."""
    start: float
    """Seconds until a new Envoy answers, objects not counted."""


@dataclass(frozen=True)
class Bench:
    """Servers that run."""

    consul: ConsulAgent
    gloo: psutil.Process
    target: str
    port: int
    size: int
    folder: Path

    async def run(self, changes: int) -> Figure:
        """Starts an Envoy and changes things."""
        bootstrap = build_bootstrap(xds_port=int(self.target.rpartition(":")[2]), admin_port=free_port())
        async with DeltaClient(self.target, node_id="beside") as client:
            await client.subscribe(ENVOY_ROUTES)
            await client.subscribe(VIRTUAL_HOST)
            await wait_for(client, f"vs-{self.size - 1:05d}".encode(), 300.0)
            started = time.perf_counter()
            envoy = await asyncio.to_thread(start_envoy, self.folder, bootstrap)
            try:
                await first_answer(self.port, host_name(ALWAYS), "/part-0", 300.0)
                start = time.perf_counter() - started
                await asyncio.to_thread(wait_for_statuses, self.consul)
                await asyncio.sleep(warm_up_seconds(self.size))
                await settle(self.gloo)
                both = (self.gloo, psutil.Process(envoy.server.pid))
                before = [cpu_seconds(process) for process in both]
                async with Requests(self.port) as requests:
                    found = [await self._change(client, requests, number) for number in range(changes)]
                await settle(self.gloo)
                gloo, own = (cpu_seconds(process) - was for process, was in zip(both, before, strict=True))
            finally:
                await asyncio.to_thread(envoy.stop)
        return self._figure(found, gloo / changes * 1000, own / changes * 1000, start)

    def _figure(self, found: Sequence[tuple[float, float]], gloo: float, envoy: float, start: float) -> Figure:
        answers = sorted(answer for _, answer in found)
        return Figure(
            self.size,
            statistics.median(response for response, _ in found) * 1000,
            statistics.median(answers) * 1000,
            answers[round(0.99 * (len(answers) - 1))] * 1000,
            answers[-1] * 1000,
            statistics.median(answer - response for response, answer in found) * 1000,
            gloo,
            envoy,
            bare_read(self.consul) * 1000,
            start,
        )

    async def _change(self, client: DeltaClient, requests: Requests, number: int) -> tuple[float, float]:
        """Seconds until the delta response, and until the first 200."""
        await asyncio.sleep(0.3)
        which = self.size + 1 + number
        host, text = host_name(which), build_service(which)
        assert (await requests.ask(host, "/part-9"))[0] == 404
        answered = asyncio.create_task(requests.until(host, "/part-9", b"served", 120.0))
        started = time.perf_counter()
        await asyncio.to_thread(self.consul.put, virtual_service_key(which), text.encode())
        await wait_for(client, host.encode(), 120.0)
        response = time.perf_counter() - started
        return response, await answered - started


def build_service(number: int, action: str = ANSWER) -> str:
    """A virtual service of ten routes that are matched by host and path."""
    routes = "".join(f"  - {{matchers: [{{prefix: /part-{route}}}], {action}}}\n" for route in range(ROUTES))
    return (
        f"metadata: {{name: vs-{number:05d}, namespace: gloo-system}}\n"
        f"virtualHost:\n  domains: [{host_name(number)}]\n  routes:\n{routes}"
    )


def host_name(number: int) -> str:
    """The domain of the virtual service of that number."""
    return f"host-{number:05d}.example.com"


def build_objects(size: int, upstreams: int, port: int) -> Iterator[tuple[str, str]]:
    """Everything to begin with, on a port of loopback, and one virtual service that always answers."""
    found = dict(configuration(size, upstreams))
    found[GATEWAY_KEY] = found[GATEWAY_KEY].replace('"::"', "127.0.0.1").replace("8080", str(port))
    for number in range(size) if not os.environ.get("RICH") else ():
        found[virtual_service_key(number)] = build_service(number, TO_UPSTREAM.format(number % upstreams))
    found[SETTINGS_KEY] = SETTINGS.format(os.environ.get("FORM", "auto"))
    yield from found.items()
    yield virtual_service_key(ALWAYS), build_service(ALWAYS)


def measure(size: int, changes: int, folder: Path) -> Figure:
    """Runs everything for one size and stops it again."""
    port, upstreams = free_port(), max(1, min(300, size // 10))
    with ExitStack() as stack:
        consul = start_consul(folder / "consul")
        stack.callback(consul.stop)
        fill(consul, build_objects(size, upstreams, port))
        target = f"127.0.0.1:{free_port()}"
        gloo = start_gloo(consul, target, folder)
        stack.callback(gloo.stop)
        bench = Bench(consul, psutil.Process(gloo.pid), target, port, size, folder)
        return asyncio.run(bench.run(changes))


def build_table(found: Sequence[Figure]) -> Table:
    """One row for each size."""
    table = Table("virtual services", "put to response", "put to first 200 (p99)", "mark", "Envoy's own",
                  "CPU of gloo", "of Envoy", "bare Consul read", "new Envoy")  # fmt: skip
    for row in found:
        table.add_row(
            f"{row.virtual_services:,}",
            f"{row.response:.0f} ms",
            f"{row.answer:.0f} ms ({row.answer_p99:.0f})",
            f"{MARKS[row.virtual_services]} ms" if row.virtual_services in MARKS else "",
            f"{row.envoy:.0f} ms",
            f"{row.gloo_cpu:.0f} ms",
            f"{row.envoy_cpu:.0f} ms",
            f"{row.consul_read:.0f} ms",
            f"{row.start:.1f} s",
        )
    return table


def main(sizes: str) -> None:
    """Measures each size and prints what was found."""
    changes, found = int(os.environ.get("CHANGES", "20")), []
    for size in map(int, sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(size, changes, Path(folder)))
    Console(width=140).print(build_table(found))
    if target := os.environ.get("BENCH_JSON"):
        Path(target).write_text(json.dumps([asdict(row) for row in found], indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else SIZES)
