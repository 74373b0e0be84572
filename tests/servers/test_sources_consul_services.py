"""Instances and names of services, from a real agent."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

import psutil
import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.sources.consul_catalog import ConsulCatalog, Names
from gloo_nomad.store.services import Instance, Place
from tests.consul_services import instances_of, listening, new_service, ports_of
from tests.faults import Proxy, Status
from tests.source_listener import open_client

pytestmark = pytest.mark.consul

OUTAGE = 12.0
"""Seconds."""
READINGS = ["", "consistent", "cached"]


@pytest.fixture
def service(consul: ConsulAgent) -> Iterator[str]:
    """A name of a service that no other test has."""
    with new_service(consul) as name:
        yield name


@pytest.mark.parametrize("reading", READINGS, ids=["stale", "consistent", "cached"])
def test_instances_come_and_go(consul: ConsulAgent, service: str, reading: str) -> None:
    """Instances are followed with address, tags and weight; a service without any is empty and not unknown."""

    async def run() -> None:
        place = str(Place(reading=reading))
        async with listening(consul.port) as (source, listener):
            source.want(frozenset({(place, service)}))
            await listener.until(lambda: ports_of(listener, service, place) == [])
            assert source.state.listed

            first = await asyncio.to_thread(
                consul.register, service, 8001, Tags=["b", "a"], Weights={"Passing": 3, "Warning": 1}
            )
            await listener.until(lambda: ports_of(listener, service, place) == [8001])
            assert instances_of(listener, service, place) == (Instance("127.0.0.1", 8001, first, ("a", "b"), "dc1", 3),)
            await asyncio.to_thread(consul.register, service, 7001, Address="")
            await listener.until(lambda: ports_of(listener, service, place) == [7001, 8001])

            await asyncio.to_thread(consul.deregister, first)
            await listener.until(lambda: ports_of(listener, service, place) == [7001])

    asyncio.run(run())


def test_only_passing_instances(consul: ConsulAgent, service: str) -> None:
    """An instance leaves when its check is critical or a warning, and comes back when it passes."""
    check = {"CheckID": f"{service}-check", "TTL": "600s", "Status": "passing"}
    consul.register(service, 8001, Check=check)

    async def run() -> None:
        async with listening(consul.port) as (source, listener):
            source.want(frozenset({("", service)}))
            await listener.until(lambda: ports_of(listener, service) == [8001])
            for state, ports in (("fail", []), ("pass", [8001]), ("warn", []), ("pass", [8001])):
                await asyncio.to_thread(consul.request, "PUT", f"agent/check/{state}/{service}-check")
                await listener.until(lambda ports=ports: ports_of(listener, service) == ports)  # type: ignore[misc]

    asyncio.run(run())


def test_what_nobody_reads_is_no_change(consul: ConsulAgent, service: str) -> None:
    """An instance that is registered again with other metadata wakes the query and is not said."""
    consul.register(service, 8001, Meta={"version": "1"})

    async def run() -> None:
        async with listening(consul.port) as (source, listener):
            source.want(frozenset({("", service)}))
            await listener.until(lambda: ports_of(listener, service) == [8001])
            before = len(listener.changes)
            await asyncio.to_thread(consul.register, service, 8001, Meta={"version": "2"})
            await listener.quiet(1)
            assert len(listener.changes) == before

    asyncio.run(run())


def test_unwanted_services_are_forgotten(consul: ConsulAgent, service: str) -> None:
    """A service that nobody wants any more is deleted and not watched; wanted again it is read again."""
    consul.register(service, 8001)

    async def run() -> None:
        async with listening(consul.port) as (source, listener):
            source.want(frozenset({("", service), ("dc1", service)}))
            await listener.until(lambda: ports_of(listener, service) == ports_of(listener, service, "dc1") == [8001])

            source.want(frozenset())
            await listener.until(lambda: ports_of(listener, service) is None)
            assert not [task for task in asyncio.all_tasks() if service in task.get_name()]

            source.want(frozenset({("", service)}))
            await listener.until(lambda: ports_of(listener, service) == [8001])

    asyncio.run(run())


def test_more_services_than_queries(consul: ConsulAgent) -> None:
    """With more wanted services than queries all are read, in few changes, and changes of each are seen."""
    names = [f"sources-many-{i}" for i in range(40)]
    for i, name in enumerate(names):
        consul.register(name, 9000 + i)

    async def run() -> None:
        process = psutil.Process()
        async with listening(consul.port, max_queries=5) as (source, listener):
            source.want(frozenset(("", name) for name in names))
            await listener.until(lambda: all(ports_of(listener, name) for name in names))
            assert source.state.listed
            assert len(listener.changes) < 30
            ours = [c for c in process.net_connections("tcp") if c.raddr and c.raddr.port == consul.port]
            assert len([c for c in ours if c.status == "ESTABLISHED"]) <= 5 + 8 + 2 + 1

            for name in (names[0], names[-1]):
                await asyncio.to_thread(consul.register, name, 9999, instance=f"{name}-second")
            await listener.until(lambda: 9999 in (ports_of(listener, names[0]) or ()))
            await listener.until(lambda: 9999 in (ports_of(listener, names[-1]) or ()))

    try:
        asyncio.run(run())
    finally:
        for i, name in enumerate(names):
            consul.deregister(f"{name}-{9000 + i}")
        for name in (names[0], names[-1]):
            consul.deregister(f"{name}-second")


def test_an_outage_is_no_long_comparison(consul: ConsulAgent) -> None:
    """With more services than queries changes are seen at once after nodes could not be read for a while."""
    names, nodes = [f"sources-outage-{number}" for number in range(4)], "/v1/catalog/node-services/"
    for number, name in enumerate(names):
        consul.register(name, 9000 + number, instance=name)

    async def run(proxy: Proxy) -> None:
        async with listening(proxy.port, max_queries=2) as (source, listener):
            source.want(frozenset(("", name) for name in names))
            await listener.until(lambda: all(ports_of(listener, name) for name in names))
            await listener.until(lambda: proxy.count(nodes))
            await listener.quiet(1)
            with proxy.fault(nodes, Status(500)):
                await asyncio.to_thread(consul.register, names[0], 9100, instance=names[0])
                await listener.until(lambda: bool(source.state.last_error))
                await asyncio.sleep(OUTAGE)
                assert ports_of(listener, names[0]) == [9000]
            await listener.until(lambda: ports_of(listener, names[0]) == [9100])
            await asyncio.to_thread(consul.register, names[0], 9101, instance=names[0])
            await listener.until(lambda: ports_of(listener, names[0]) == [9101], seconds=OUTAGE / 2)

    try:
        with Proxy(consul.port) as proxy:
            asyncio.run(run(proxy))
    finally:
        for name in names:
            consul.deregister(name)


def test_instances_stay_while_consul_is_away(new_consul: Callable[..., ConsulAgent]) -> None:
    """Without Consul nothing is said and the instances stay; with it again they are read again."""
    first = new_consul()
    first.register("web", 8001)

    async def run() -> None:
        async with listening(first.port) as (source, listener):
            source.want(frozenset({("", "web")}))
            await listener.until(lambda: ports_of(listener, "web") == [8001])
            await asyncio.to_thread(first.stop)
            await listener.until(lambda: source.state.last_error)
            await asyncio.sleep(1)
            assert ports_of(listener, "web") == [8001]

            second = await asyncio.to_thread(lambda: new_consul(port=first.port))
            await asyncio.to_thread(second.register, "web", 8002)
            await listener.until(lambda: ports_of(listener, "web") == [8002])
            assert source.state.last_error == ""

    asyncio.run(run())


def test_unknown_datacenter(consul: ConsulAgent, service: str) -> None:
    """A datacenter that does not exist is an error of that part, and others are served."""
    consul.register(service, 8001)

    async def run() -> None:
        async with listening(consul.port) as (source, listener):
            source.want(frozenset({("", service), ("mars", service)}))
            await listener.until(lambda: ports_of(listener, service) == [8001])
            await listener.until(lambda: source.state.errors.get(f"{service}@mars"))
            assert ports_of(listener, service, "mars") is None
            assert not source.state.listed

    asyncio.run(run())


@asynccontextmanager
async def _catalog(agent: ConsulAgent, *datacenters: str) -> AsyncIterator[list[Mapping[str, Names]]]:
    client = open_client(agent)
    seen: list[Mapping[str, Names]] = []
    catalog = ConsulCatalog(client, datacenters)

    async def listen() -> None:
        async for names in catalog.watch_names():
            seen.append(names)  # noqa: PERF401  # as they come, not at the end

    task = asyncio.create_task(listen())
    yield seen
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


@pytest.mark.parametrize("datacenters", [(), ("dc1",)], ids=["all", "named"])
def test_names(consul: ConsulAgent, service: str, datacenters: tuple[str, ...]) -> None:
    """Names come with the tags of all instances, change with them, and go with the last instance."""

    async def run() -> None:
        async with _catalog(consul, *datacenters) as seen:

            async def until(tags: tuple[str, ...] | None) -> None:
                async with asyncio.timeout(10):
                    while not seen or seen[-1]["dc1"].get(service) != tags:  # noqa: ASYNC110  # a list has no events
                        await asyncio.sleep(0.02)

            await until(None)
            await asyncio.to_thread(consul.register, service, 8001, Tags=["b"])
            await until(("b",))
            await asyncio.to_thread(consul.register, service, 8002, Tags=["a"])
            await until(("a", "b"))
            await asyncio.to_thread(consul.deregister, f"{service}-8001")
            await until(("a",))
            await asyncio.to_thread(consul.deregister, f"{service}-8002")
            await until(None)
            assert all(before != after for before, after in itertools.pairwise(seen))

    asyncio.run(run())
