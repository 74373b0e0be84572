"""Nothing is sent twice, nothing is encoded twice, and who does not read costs nothing."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest
from grpc import aio

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST
from gloo_nomad.xds import wire
from tests.pipeline.envoy_world import GATEWAY, TO_UP, make_world, upstream, virtual_service
from tests.xds_client import ROLE, DeltaClient
from tests.xds_world import connected, in_loop, names, open_world, removed, resources

HOSTS = 40
ALWAYS = {"extensions": {"configs": {"gloo-nomad": {"virtualHostDiscovery": "always"}}}}
SPLIT = "listener-::-8080-routes-vhds"


def objects(marker: str = "/") -> list[str]:
    """A gateway with virtual hosts; *marker* is the path of one of them."""
    found = [GATEWAY, upstream()]
    for number in range(HOSTS):
        path = marker if number == 7 else "/"
        found.append(
            virtual_service(TO_UP.replace("prefix: /", f"prefix: {path}"), name=f"vs{number}", domains=f"[a{number}]")
        )
    return found


async def subscribe(client: DeltaClient, held: dict[str, dict[str, str]] | None = None) -> None:
    """Asks for everything, as an Envoy does."""
    had = held or {}
    for type_url, wanted in ((CLUSTER, ()), (LISTENER, ()), (ROUTES, (SPLIT,)), (VIRTUAL_HOST, ())):
        await client.subscribe(type_url, *wanted, held=had.get(type_url))


@in_loop
async def test_one_changed_endpoint_of_many_clusters() -> None:
    """Of 5,000 endpoint sets the one that changed is sent, by the whole way and by the quick one."""
    many = [f"cluster-{number}" for number in range(5_000)]
    async with connected(endpoints=resources(*many)) as (world, client):
        await client.subscribe(ENDPOINTS, *many)
        assert sum(len(names(response)) for response in await client.settle(1.0)) == 5_000
        world.publish(endpoints=resources(*many, **{"cluster-17": "moved"}))
        response = await client.accept()
        assert (names(response), removed(response)) == (["cluster-17"], [])
        assert response.ByteSize() < 400
        moved = {"cluster-17": "moved", "cluster-18": "moved"}
        world.cache.publish_type(ROLE, ENDPOINTS, resources(*many, **moved))
        assert names(await client.accept()) == ["cluster-18"]
        assert await client.is_quiet()


@in_loop
async def test_objects_written_again_as_they_are() -> None:
    """New messages with the content of the old ones are nothing new to Envoy; neither is a new process."""
    found = make_world(*objects(), settings=ALWAYS)
    async with open_world() as xds:
        xds.cache.publish({ROLE: found.snapshot()})
        async with DeltaClient(xds.address) as client:
            await subscribe(client)
            assert {response.type_url for response in await client.settle()} == {
                CLUSTER,
                LISTENER,
                ROUTES,
                VIRTUAL_HOST,
            }
            found.put(*objects())
            xds.cache.publish({ROLE: found.snapshot()})
            assert await client.is_quiet(0.5)
            found.put(*objects("/new"))
            xds.cache.publish({ROLE: found.snapshot()})
            assert names(await client.accept()) == [f"{SPLIT}/gloo-system_vs7"]
            held = client.held
    fresh = make_world(*objects("/new"), settings=ALWAYS)
    async with open_world() as xds, DeltaClient(xds.address) as client:
        xds.cache.publish({ROLE: fresh.snapshot()})
        await subscribe(client, held)
        assert await client.is_quiet(0.5)


@in_loop
async def test_encoded_once_for_all_streams() -> None:
    """20 streams that get the same change at the same time get the same bytes, made once."""
    encoded: list[str] = []
    build = wire.build_delta_bytes

    def count(outgoing: wire.Outgoing) -> bytes:
        encoded.append(outgoing.type_url)
        return build(outgoing)

    async with open_world() as world, AsyncExitStack() as stack:
        world.publish(virtual_hosts=resources("r/a", "r/b"))
        clients = [await stack.enter_async_context(DeltaClient(world.address)) for _ in range(20)]
        for client in clients:
            await client.subscribe(VIRTUAL_HOST)
            await client.accept()
        await world.until(lambda: all(found.types[0].is_current for found in world.cache.clients()))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wire, "build_delta_bytes", count)
            world.publish(virtual_hosts=resources("r/a", "r/b", **{"r/a": "changed"}))
            answers = await asyncio.gather(*(client.accept() for client in clients))
        assert {tuple(names(answer)) for answer in answers} == {("r/a",)}
        assert encoded == [VIRTUAL_HOST]


@in_loop
async def test_who_does_not_read_costs_no_memory() -> None:
    """A stream that takes nothing is owed names, not versions: 60 changes of 4 MB leave nothing behind."""
    async with connected(virtual_hosts=resources("r/a")) as (world, client):
        stuck = await open_stuck(world.address)
        await world.until(lambda: len(world.cache.clients()) == 1)
        await client.subscribe(VIRTUAL_HOST)
        await client.accept()
        before = 0
        for number in range(60):
            world.publish(virtual_hosts=resources("r/a", **{"r/a": str(number).ljust(4_000_000, "x")}))
            response = await client.accept()
            assert bytes(response.resources[0].resource.value).startswith(f"{number}x".encode())
            before = psutil.Process().memory_info().rss if number == 9 else before
        assert psutil.Process().memory_info().rss - before < 60 * 2**20
        stuck.cancel()


async def open_stuck(target: str) -> Any:
    """A stream that asks for all virtual hosts and never reads."""
    channel: Any = aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
    reader = DeltaClient(target, node_id="stuck")
    reader._call = call = channel.stream_stream(reader.method)()
    await reader.subscribe(VIRTUAL_HOST)
    return call
