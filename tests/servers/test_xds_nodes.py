"""Roles, nodes, per-type services and requests that no Envoy makes, on a raw client against the real server."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from tests.xds_client import DELTA_ADS, ROLE, DeltaClient, build_node
from tests.xds_world import connected, in_loop, names, open_world, removed, resources


@in_loop
async def test_an_unknown_role_waits() -> None:
    """A role that nobody published is told nothing, not that there is nothing."""
    async with open_world() as world, DeltaClient(world.address) as client:
        await client.subscribe(CLUSTER)
        await client.subscribe(ENDPOINTS, "a")
        assert await client.is_quiet()
        world.publish(clusters=resources("a"), endpoints=resources("a"))
        steps = [(step.type_url, names(step)) for step in await client.settle()]
        assert steps == [(CLUSTER, ["a"]), (ENDPOINTS, ["a"])]


@in_loop
async def test_the_fast_path_alone_does_not_make_a_role_known() -> None:
    """Endpoints of a role without its first full publication are kept and not sent."""
    async with open_world() as world, DeltaClient(world.address) as client:
        await client.subscribe(ENDPOINTS, "a", "b", held={"b": "1"})
        world.cache.publish_type(ROLE, ENDPOINTS, resources("a"))
        assert await client.is_quiet()
        world.publish(endpoints=resources("a", "b"))
        assert names(await client.accept()) == ["a", "b"]


@in_loop
async def test_roles_are_served_apart() -> None:
    """A publication for one role does not reach the Envoys of another."""
    async with open_world() as world:
        world.publish(clusters=resources("a"))
        world.publish_types({CLUSTER: resources("b")}, "other~proxy")
        async with DeltaClient(world.address) as one, DeltaClient(world.address, "other~proxy") as other:
            await one.subscribe(CLUSTER)
            await other.subscribe(CLUSTER)
            assert (names(await one.accept()), names(await other.accept())) == (["a"], ["b"])
            world.publish_types({CLUSTER: resources("b", "c")}, "other~proxy")
            assert names(await other.accept()) == ["c"]
            assert await one.is_quiet()


@in_loop
async def test_a_role_that_is_missing_from_a_publication_stays() -> None:
    """Only an explicit removal takes a proxy's configuration away."""
    async with connected(clusters=resources("a")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        world.cache.publish({})
        assert await client.is_quiet()
        world.cache.remove(ROLE)
        assert removed(await client.accept()) == ["a"]


@pytest.mark.parametrize("role", [None, ""])
@in_loop
async def test_a_node_without_a_role_is_told_so(role: str | None) -> None:
    """It gets a listener that answers every request with what is to be done."""
    async with open_world() as world, DeltaClient(world.address, role) as client:
        await client.subscribe(LISTENER)
        assert names(await client.accept()) == ["listener-for-invalid-envoy"]
        await client.subscribe(ROUTES, "routes-for-invalid-envoy")
        response = await client.accept()
        assert b"node.metadata.role" in response.resources[0].resource.value


@in_loop
async def test_two_streams_of_one_role_get_the_same_bytes() -> None:
    """Streams in the same state share one encoded response."""
    async with connected(clusters=resources("a", "b")) as (world, one), DeltaClient(world.address) as two:
        for client in (one, two):
            await client.subscribe(CLUSTER)
            await client.accept()
        world.publish(clusters=resources("a", "b", a="changed"))
        first, second = await one.accept(), await two.accept()
        assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


@in_loop
async def test_a_stream_for_one_type_needs_no_type_url() -> None:
    """The delta method of a per-type service knows its type."""
    async with open_world() as world:
        world.publish(clusters=resources("a"))
        method = "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters"
        async with DeltaClient(world.address, method=method) as client:
            await client.subscribe("")
            response = await client.accept()
            assert (response.type_url, names(response)) == (CLUSTER, ["a"])


async def _ends_with(client: DeltaClient, code: grpc.StatusCode, text: str) -> None:
    assert await client.ending() == code
    assert text in await client.ending_text()


@in_loop
async def test_another_type_on_a_stream_for_one_type_is_refused() -> None:
    """A per-type stream says which type it serves."""
    async with open_world() as world:
        method = "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters"
        async with DeltaClient(world.address, method=method) as client:
            await client.subscribe(LISTENER)
            await _ends_with(client, grpc.StatusCode.INVALID_ARGUMENT, CLUSTER)


@in_loop
async def test_garbage_ends_the_stream() -> None:
    """Bytes that are no request are answered with a clear status, and the next stream works."""
    async with connected(clusters=resources("a")) as (world, client):
        await client.send_bytes(b"\xff\xff\xff")
        await _ends_with(client, grpc.StatusCode.INVALID_ARGUMENT, "not a discovery request")
        async with DeltaClient(world.address) as other:
            await other.subscribe(CLUSTER)
            assert names(await other.accept()) == ["a"]


@in_loop
async def test_a_missing_type_is_refused() -> None:
    """A request on the aggregated stream must name its type."""
    async with connected() as (_, client):
        await client.subscribe("")
        await _ends_with(client, grpc.StatusCode.INVALID_ARGUMENT, "type_url")


@in_loop
async def test_too_many_types_are_refused() -> None:
    """A client cannot make the server remember any number of types."""
    async with connected() as (_, client):
        for number in range(25):
            await client.subscribe(f"type.googleapis.com/type{number}", "a")
        await _ends_with(client, grpc.StatusCode.INVALID_ARGUMENT, "at most")


@in_loop
async def test_an_overlong_name_is_refused() -> None:
    """A client cannot make the server remember names of any length."""
    async with connected() as (_, client):
        await client.subscribe(CLUSTER, "x" * 5_000)
        await _ends_with(client, grpc.StatusCode.INVALID_ARGUMENT, "characters")


@in_loop
async def test_half_closing_ends_the_stream() -> None:
    """A client that has nothing more to say is let go."""
    async with connected(clusters=resources("a")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        await client.done_writing()
        assert await client.ending() == grpc.StatusCode.OK
        await world.until(lambda: not world.cache.clients())


@in_loop
async def test_half_closing_while_a_response_is_under_way() -> None:
    """The stream ends well also for who closes its side the moment the first response is there, again and again."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, get_context("spawn")) as others:
        async with connected(clusters=resources("a")) as (world, _):
            ends = await loop.run_in_executor(others, _half_close, world.address, 1_000)
    assert ends == {grpc.StatusCode.OK: 1_000}


def _half_close(address: str, times: int) -> Counter[grpc.StatusCode]:
    """How so many streams end, of a client in a process of its own: it must not wait for the server's turn."""
    request = discovery_pb2.DeltaDiscoveryRequest(node=build_node(ROLE), type_url=CLUSTER).SerializeToString()

    def end_one(channel: Any) -> grpc.StatusCode:
        answered = threading.Event()
        call = channel.stream_stream(DELTA_ADS)(_once(request, answered), timeout=60)
        assert next(call)
        answered.set()
        return call.code()  # type: ignore[no-any-return]

    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(10) as threads:
        return Counter(threads.map(end_one, [channel] * times))


def _once(request: bytes, answered: threading.Event) -> Iterator[bytes]:
    yield request
    answered.wait(60)
