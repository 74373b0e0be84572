"""A site whose routes go to a real Envoy in one form or another, live, under traffic."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.fetch import Connection, fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from tests.pipeline.envoy_world import GATEWAY, World, make_world, virtual_service
from tests.xds_client import ROLE
from tests.xds_world import World as XdsWorld
from tests.xds_world import open_world

RunEnvoy = Callable[..., Envoy]


def mode(how: str) -> settings_pb2.Settings:
    """Settings with this ``virtualHostDiscovery``."""
    own = {"extensions": {"configs": {"gloo-nomad": {"virtualHostDiscovery": how}}}}
    return json_format.ParseDict(own, settings_pb2.Settings())


def gateway(port: int, name: str = "gw") -> str:
    """A gateway on a port of loopback."""
    return GATEWAY.replace('"::"', "127.0.0.1").replace("8080", str(port)).replace("name: gw,", f"name: {name},")


def answering(name: str, says: str = "", domain: str = "") -> str:
    """A virtual service that answers by itself."""
    route = f"{{matchers: [{{prefix: /}}], directResponseAction: {{status: 200, body: {says or name}}}}}"
    return virtual_service(route, name=name, domains=f"['{domain or name + '.test'}']")


def answering_all(count: int) -> str:
    """So many of them."""
    return "---\n".join(answering(f"vs{number}") for number in range(count))


@dataclass
class Site:
    """Objects, the server that serves what they mean, and a port of Envoy."""

    objects: World
    xds: XdsWorld
    port: int

    def put(self, *texts: str) -> None:
        """Stores objects and publishes what comes of them."""
        self.objects.put(*texts)
        self.publish()

    def remove(self, name: str) -> None:
        """Removes a virtual service."""
        self.objects.remove("VirtualService", name)
        self.publish()

    def use(self, how: str) -> None:
        """Serves routes in this form from now on."""
        self.objects.settings = mode(how)
        self.objects.translate()
        self.publish()

    def publish(self) -> None:
        """Publishes what the objects mean now."""
        self.xds.cache.publish({ROLE: self.objects.snapshot(ROLE)})

    def ask(self, host: str) -> str:
        """What is answered, or the status if it is not 200."""
        answer = fetch(self.port, "/", host=host)
        return answer.text if answer.status == 200 else str(answer.status)

    async def becomes(self, host: str, expected: str) -> None:
        """Asks until this is the answer."""
        await asyncio.to_thread(wait_until, lambda: self.ask(host) == expected, f"{host} to answer {expected}", 30.0)

    def sent(self, kind: str) -> float:
        """How many resources of a type were sent so far."""
        return self.xds.metric("gloo_nomad_xds_resources_total", type=kind)


@asynccontextmanager
async def serving(how: str, *objects: str) -> AsyncIterator[Site]:
    """A site without an Envoy yet."""
    port = free_port()
    async with open_world() as xds:
        site = Site(make_world(gateway(port), *objects), xds, port)
        site.use(how)
        yield site


@asynccontextmanager
async def running(run_envoy: RunEnvoy, how: str, *objects: str) -> AsyncIterator[tuple[Site, Envoy]]:
    """A site with an Envoy that must reject nothing."""
    async with serving(how, *objects) as site:
        envoy = await start(run_envoy, site)
        yield site, envoy
        assert site.xds.nacks == []


async def start(
    run_envoy: RunEnvoy, site: Site, *, ready: bool = True, delta: bool = True, drain_seconds: int = 600
) -> Envoy:
    """An Envoy of the site."""
    bootstrap = build_bootstrap(xds_port=site.xds.server.port, admin_port=free_port(), role=ROLE, delta=delta)
    return await asyncio.to_thread(run_envoy, bootstrap, ready=ready, drain_seconds=drain_seconds)


@dataclass
class Traffic:
    """Requests without a pause, and what was answered to them."""

    port: int
    hosts: tuple[str, ...]
    statuses: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)

    def on_new_connections(self) -> None:
        """A connection for each request."""
        while not self._stop.is_set():
            for host in self.hosts:
                try:
                    self.statuses[str(fetch(self.port, "/", host=host).status)] += 1
                except ConnectionRefusedError:
                    self.statuses["refused"] += 1

    def on_one_connection(self) -> None:
        """One connection as long as Envoy keeps it; then the next."""
        while not self._stop.is_set():
            try:
                self._use_connection()
            except OSError:
                self.statuses["closed"] += 1

    def _use_connection(self) -> None:
        with Connection(self.port, host=self.hosts[0]) as connection:
            while not self._stop.is_set():
                answer = connection.request("/")
                self.statuses[str(answer.status)] += 1
                if answer.headers.get("connection") == "close":
                    return

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """While the block runs."""
        threads = [threading.Thread(target=each) for each in (self.on_new_connections, self.on_one_connection)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30.0)
