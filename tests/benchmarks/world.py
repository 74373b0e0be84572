"""A real Consul with N virtual services, one daemon, and one raw delta client that has everything."""

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.consul import start_consul
from gloo_nomad.demo.openbao import OpenBao, start_openbao
from gloo_nomad.demo.ports import free_port
from gloo_nomad.envoy.names import certificate_name
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, SECRET
from tests.benchmarks.measure import (
    bare_read,
    cpu_seconds,
    fill,
    settle,
    start_gloo,
    subscribe_routes,
    wait_for,
    wait_for_statuses,
    warm_up_seconds,
)
from tests.benchmarks.objects import virtual_service_key
from tests.benchmarks.world_objects import SECRET_NAME, SERVICES, Layout, service_name
from tests.xds_client import DeltaClient

Result = TypeVar("Result")
Change = Callable[[int], tuple[bytes, Callable[[], object]]]
"""From the number of a change: what will be in the response, and what makes it."""
PATIENCE: Final = 300.0
PAUSE_SECONDS: Final = 0.3
CERTIFICATE: Final = certificate_name(Ref("gloo-system", SECRET_NAME))


@dataclass(frozen=True)
class Changes:
    """Milliseconds of each from the write to the response, the median of the bare reads between, and CPU of each."""

    taken: Sequence[float]
    read: float
    cpu: float


class World:
    """Servers that run; what is asynchronous runs in a loop that belongs to the world."""

    def __init__(self, layout: Layout, folder: Path, stack: ExitStack) -> None:
        self.layout = layout
        self.folder = folder
        self.target = f"127.0.0.1:{free_port()}"
        self.routes = f"listener-127.0.0.1-{layout.port}-routes"
        self.authority = Authority()
        self._runner = stack.enter_context(asyncio.Runner())
        self.consul = start_consul(folder / "consul")
        stack.callback(self.consul.stop)
        self.vault: OpenBao | None = None
        if layout.vault_poll:
            self.vault = start_openbao(folder / "openbao")
            stack.callback(self.vault.stop)
            self.vault.put_secret("gloo-system", SECRET_NAME, self.authority.issue("secure.example.com").build_secret())
        for number in range(SERVICES):
            self.consul.register(service_name(number), 9000 + number)
        fill(self.consul, layout.objects())
        self.client: DeltaClient | None = None
        self.start_process()
        stack.callback(self.stop_gloo)
        self.first_load = self._load()
        """Milliseconds of a start that finds no statuses."""

    def start_gloo(self) -> float:
        """Starts the daemon and the client; the milliseconds until the client has the last virtual service."""
        self.start_process()
        return self._load()

    def _load(self) -> float:
        self.run(self.connect())
        return (time.perf_counter() - self._started) * 1000

    def start_process(self) -> None:
        """Starts the daemon."""
        self._started = time.perf_counter()
        self.gloo = start_gloo(self.consul, self.target, self.folder, self.vault.environment if self.vault else {})
        self.process = psutil.Process(self.gloo.pid)

    def stop_gloo(self) -> None:
        """Stops the daemon and the client."""
        if self.client:
            self.run(self.client.__aexit__(None, None, None))
            self.client = None
        self.gloo.stop()

    async def connect(self) -> None:
        """Connects the client, and returns when it has the last virtual service."""
        self.client = DeltaClient(self.target, node_id="benchmark")
        await self.client.__aenter__()
        for type_url in (CLUSTER, ENDPOINTS, LISTENER):
            await self.client.subscribe(type_url)
        if self.vault:
            await self.client.subscribe(SECRET, CERTIFICATE)
        await subscribe_routes(self.client, self.routes)
        await wait_for(self.client, f"vs-{self.layout.size - 1:05d}".encode(), PATIENCE)

    def warm_up(self) -> None:
        """Waits until the daemon does what it does in the long run: all statuses are written, kinds are cut."""
        wait_for_statuses(self.consul)
        time.sleep(max(0.0, self._started + warm_up_seconds(self.layout.size) - time.perf_counter()))
        self.settle()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Runs something in the loop of the world."""
        return self._runner.run(coroutine)

    def settle(self) -> int:
        """Waits until the daemon has nothing to do any more; how many responses the client got meanwhile."""
        self.run(settle(self.process))
        return len(self.run(self.connected.settle()))

    @property
    def connected(self) -> DeltaClient:
        """The client."""
        assert self.client is not None
        return self.client

    @property
    def cpu(self) -> float:
        """CPU milliseconds of the daemon so far."""
        return cpu_seconds(self.process) * 1000

    @property
    def memory(self) -> float:
        """Resident MiB of the daemon."""
        return float(self.process.memory_info().rss / 2**20)

    def read(self) -> float:
        """Milliseconds that Consul needs to hand over all virtual services."""
        return bare_read(self.consul) * 1000

    def put(self, number: int, text: str) -> None:
        """Writes one of the N virtual services."""
        self.consul.put(virtual_service_key(number), text)

    def change(self, count: int, change: Change) -> Changes:
        """So many changes, one after the other; the daemon has to be at rest."""
        before = self.cpu
        pairs = [self.run(self._one(*change(number))) for number in range(count)]
        self.settle()
        return Changes([taken for taken, _ in pairs], statistics.median(read for _, read in pairs),
                       (self.cpu - before) / count)  # fmt: skip

    async def _one(self, needle: bytes, write: Callable[[], object]) -> tuple[float, float]:
        """Milliseconds from the write to the response, and those of a bare read just before."""
        read = await asyncio.to_thread(bare_read, self.consul, 1) * 1000
        await asyncio.sleep(PAUSE_SECONDS)
        started = time.perf_counter()
        await asyncio.to_thread(write)
        await wait_for(self.connected, needle, PATIENCE)
        return (time.perf_counter() - started) * 1000, read


@contextmanager
def opened_world(size: int, folder: Path, *, vault_poll: float = 0.0) -> Iterator[World]:
    """A world that is served; warm it up before changes are measured."""
    layout = Layout(size, upstreams_for(size), free_port(), free_port(), vault_poll)
    with ExitStack() as stack:
        yield World(layout, folder, stack)


def upstreams_for(size: int) -> int:
    """As many as the reference was measured with."""
    return min(size, 100 if size <= 1_000 else 300)
