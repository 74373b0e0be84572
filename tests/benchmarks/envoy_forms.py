"""What Envoy needs for a change, by the form of its routes: ``python -m tests.benchmarks.envoy_forms [SIZE,SIZE,...]``.

From the publication of one changed virtual host of ten routes to the first changed answer of a real Envoy, with an idle
server in the same process; medians. The forms: one RouteConfiguration; virtual hosts as resources of their own; a
RouteConfiguration for each host, found by the host header (scoped routes); and virtual hosts that Envoy asks for when
the first request for them comes. The daemon does not offer the last one; the server here breaks the protocol for it.
``BENCH_JSON=file`` writes the figures, too.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import psutil
from envoy.config.core.v3 import config_source_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2
from envoy.extensions.filters.http.on_demand.v3 import on_demand_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from rich.console import Console
from rich.table import Table

from gloo_nomad.demo.envoy import build_bootstrap, start_envoy
from gloo_nomad.demo.ports import free_port
from gloo_nomad.messages import to_bytes, typed_config, version_of
from gloo_nomad.resources import LISTENER, ROUTES, SCOPED_ROUTES, VIRTUAL_HOST, Resource, XdsSnapshot
from gloo_nomad.xds.delta import DeltaSession
from gloo_nomad.xds.lane import DeltaLane
from tests.benchmarks.requests import Requests, first_answer
from tests.xds_client import ROLE
from tests.xds_messages import build_listener
from tests.xds_world import open_world

SIZES: Final = "200,1000,3000,10000"
CHANGES: Final = 9
ROUTES_EACH: Final = 10
_ADS: Final = config_source_pb2.ConfigSource(
    ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
)
Hosts = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """Milliseconds from publication to the first changed answer, those of Envoy's CPU; seconds of a new Envoy."""

    form: str
    hosts: int
    median: float
    largest: float
    cpu: float
    first: float
    """Milliseconds of a first request for a host."""
    start: float
    memory: float
    """MiB of Envoy."""


def build_host(number: int, says: str = "first") -> Any:
    """A virtual host of ten routes that answer with *says*."""
    host = route_components_pb2.VirtualHost(name=f"host-{number:05d}", domains=[f"host-{number:05d}.test"])
    for index in range(ROUTES_EACH):
        route = host.routes.add(name=f"route-{index}", match=route_components_pb2.RouteMatch(prefix=f"/part-{index}"))
        route.direct_response.status = 200
        route.direct_response.body.inline_string = says
    return host


def _resource(name: str, message: Any) -> Resource:
    body = to_bytes(message)
    return Resource(name, version_of(body), body)


class Whole:
    """One RouteConfiguration; only the changed virtual host is serialised again, as the daemon does."""

    name = "one RouteConfiguration"

    def __init__(self, port: int, hosts: int) -> None:
        self.hosts = hosts
        self._listener = build_listener("listener", port, "routes")
        self._hosts = {number: self._field(build_host(number)) for number in range(hosts)}

    @staticmethod
    def _field(host: Any) -> bytes:
        return to_bytes(route_pb2.RouteConfiguration(virtual_hosts=[host]))

    def change(self, number: int, says: str) -> XdsSnapshot:
        """What is served after a change."""
        self._hosts[number] = self._field(build_host(number, says))
        body = to_bytes(route_pb2.RouteConfiguration(name="routes")) + b"".join(self._hosts.values())
        routes = {"routes": Resource("routes", says, body)}
        return XdsSnapshot({LISTENER: {"listener": self._listener}, ROUTES: routes})


class Split:
    """Virtual hosts as resources of their own."""

    name = "virtual hosts of their own"

    def __init__(self, port: int, hosts: int) -> None:
        self.hosts = hosts
        self._listener = build_listener("listener", port, "routes")
        config = route_pb2.RouteConfiguration(name="routes", vhds=route_pb2.Vhds(config_source=_ADS))
        self._routes = {"routes": _resource("routes", config)}
        self._hosts = dict(self._one(number, "first") for number in range(hosts))

    @staticmethod
    def _one(number: int, says: str) -> tuple[str, Resource]:
        host = build_host(number, says)
        host.name = f"routes/{host.name}"
        return host.name, _resource(host.name, host)

    def change(self, number: int, says: str) -> XdsSnapshot:
        """What is served after a change."""
        self._hosts = {**self._hosts, **dict([self._one(number, says)])}
        types = {LISTENER: {"listener": self._listener}, ROUTES: self._routes, VIRTUAL_HOST: self._hosts}
        return XdsSnapshot(types)


class OnDemandLane(DeltaLane):
    """Virtual hosts on a stream: who names none gets none, and an empty response that opens the listener."""

    def subscribe(self, subscribe: Collection[str], unsubscribe: Collection[str], held: Mapping[str, str]) -> None:
        """Takes the names of a request over."""
        self._greets = not self.subscription.started
        self.subscription.started = True
        super().subscribe(subscribe, unsubscribe, held)


class OnDemand(Split):
    """Virtual hosts that Envoy asks for one by one, by the host header."""

    name = "on demand"

    def __init__(self, port: int, hosts: int) -> None:
        super().__init__(port, hosts)
        self._listener = _edited_listener(port, _add_on_demand)

    @staticmethod
    def _one(number: int, says: str) -> tuple[str, Resource]:
        host = build_host(number, says)
        host.name = f"routes/{host.domains[0]}"
        return host.name, _resource(host.name, host)

    @staticmethod
    def serving() -> AbstractContextManager[Any]:
        """Makes the server of this process serve them so."""
        make_lane = DeltaSession.make_lane

        def make(session: DeltaSession, type_url: str) -> DeltaLane:
            return OnDemandLane(type_url, session.view) if type_url == VIRTUAL_HOST else make_lane(session, type_url)

        return patch.object(DeltaSession, "make_lane", make)


def _add_on_demand(manager: Any) -> None:
    router = hcm.HttpFilter.FromString(manager.http_filters[0].SerializeToString())
    del manager.http_filters[:]
    manager.http_filters.add(name="envoy.filters.http.on_demand", typed_config=typed_config(on_demand_pb2.OnDemand()))
    manager.http_filters.append(router)


class Scoped:
    """A RouteConfiguration for each host, found by the host header as it is."""

    name = "scoped routes"

    def __init__(self, port: int, hosts: int) -> None:
        self.hosts = hosts
        self._listener = _edited_listener(port, _use_scopes)
        self._scopes = dict(_scope(number) for number in range(hosts))
        self._routes = dict(self._one(number, "first") for number in range(hosts))

    @staticmethod
    def _one(number: int, says: str) -> tuple[str, Resource]:
        host = build_host(number, says)
        return host.name, _resource(host.name, route_pb2.RouteConfiguration(name=host.name, virtual_hosts=[host]))

    def change(self, number: int, says: str) -> XdsSnapshot:
        """What is served after a change."""
        self._routes = {**self._routes, **dict([self._one(number, says)])}
        types = {LISTENER: {"listener": self._listener}, ROUTES: self._routes, SCOPED_ROUTES: self._scopes}
        return XdsSnapshot(types)


def _scope(number: int) -> tuple[str, Resource]:
    host = build_host(number)
    scope = scoped_route_pb2.ScopedRouteConfiguration(name=host.name, route_configuration_name=host.name)
    scope.key.fragments.add(string_key=host.domains[0])
    return host.name, _resource(host.name, scope)


def _edited_listener(port: int, edit: Callable[[Any], None]) -> Resource:
    listener = listener_pb2.Listener.FromString(build_listener("listener", port, "routes").body)
    network_filter = listener.filter_chains[0].filters[0]
    manager = hcm.HttpConnectionManager()
    network_filter.typed_config.Unpack(manager)
    edit(manager)
    network_filter.typed_config.CopyFrom(typed_config(manager))
    return _resource("listener", listener)


def _use_scopes(manager: Any) -> None:
    scoped = manager.scoped_routes
    scoped.name = "scopes"
    scoped.rds_config_source.CopyFrom(_ADS)
    scoped.scoped_rds.scoped_rds_config_source.CopyFrom(_ADS)
    extractor = scoped.scope_key_builder.fragments.add().header_value_extractor
    extractor.name, extractor.element_separator, extractor.index = ":authority", ":", 0


FORMS: Final[tuple[Callable[[int, int], Any], ...]] = (Whole, Split, Scoped, OnDemand)


async def measure(form: Callable[[int, int], Any], hosts: int, folder: Path) -> Figure:
    """One form at one size."""
    port = free_port()
    served = form(port, hosts)
    how = served.serving() if isinstance(served, OnDemand) else nullcontext()
    with how:
        return await _measure(served, port, hosts, folder)


async def _measure(served: Any, port: int, hosts: int, folder: Path) -> Figure:
    async with open_world() as world:
        world.cache.publish({ROLE: served.change(0, "begin")})
        bootstrap = build_bootstrap(xds_port=world.server.port, admin_port=free_port(), role=ROLE)
        started = time.perf_counter()
        envoy = await asyncio.to_thread(start_envoy, folder, bootstrap)
        try:
            await first_answer(port, f"host-{hosts - 1:05d}.test", "/part-9", 300.0)
            start = time.perf_counter() - started
            process = psutil.Process(envoy.server.pid)
            async with Requests(port) as requests:
                found = [await _change(world, served, requests, number, process) for number in range(CHANGES)]
            memory = process.memory_info().rss / 2**20
        finally:
            await asyncio.to_thread(envoy.stop)
        assert world.nacks == []
    taken, used, first = zip(*found, strict=True)
    median, cpu, asked = (statistics.median(each) * 1000 for each in (taken, used, first))
    return Figure(served.name, hosts, median, max(taken) * 1000, cpu, asked, start, memory)


async def _change(
    world: Any, served: Any, requests: Requests, number: int, envoy: psutil.Process
) -> tuple[float, float, float]:
    """Seconds until the changed answer, CPU seconds that Envoy used until it was idle, seconds of the first request."""
    await asyncio.sleep(0.3)
    which, says = (number * 37) % served.hosts, f"change-{number}"
    asked = time.perf_counter()
    await requests.ask(f"host-{which:05d}.test", "/part-9")
    first = time.perf_counter() - asked
    snapshot, before = served.change(which, says), _cpu(envoy)
    started = time.perf_counter()
    world.cache.publish({ROLE: snapshot})
    taken = await requests.until(f"host-{which:05d}.test", "/part-9", says.encode(), 60.0) - started
    await asyncio.sleep(0.2)
    return taken, _cpu(envoy) - before, first


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main(sizes: str) -> None:
    """Measures all and prints a table."""
    found = []
    for hosts in map(int, sizes.split(",")):
        for form in FORMS:
            with tempfile.TemporaryDirectory() as folder:
                found.append(asyncio.run(measure(form, hosts, Path(folder))))
    table = Table(
        "virtual hosts", "form", "change to answer", "Envoy's CPU", "first request", "new Envoy answers", "its memory"
    )
    for row in found:
        times = (
            f"{row.median:.0f} ms ({row.largest:.0f})",
            f"{row.cpu:.0f} ms",
            f"{row.first:.1f} ms",
            f"{row.start:.1f} s",
        )
        table.add_row(f"{row.hosts:,}", row.form, *times, f"{row.memory:.0f} MiB")
    Console(width=130).print(table)
    if target := os.environ.get("BENCH_JSON"):
        Path(target).write_text(json.dumps([asdict(row) for row in found], indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else SIZES)
