"""State-of-the-world protocol, make before break: a raw client against the real server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from envoy.config.endpoint.v3 import endpoint_pb2

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from tests.servers.test_xds_delta_order import everything
from tests.xds_client import SotwClient
from tests.xds_world import World, in_loop, open_world, resources

ALL = {CLUSTER: (), ENDPOINTS: ("a", "b"), LISTENER: (), ROUTES: ("r",)}


@asynccontextmanager
async def subscribed(*clusters: str, routes: str = "r") -> AsyncIterator[tuple[World, SotwClient]]:
    """A client that has clusters, endpoints a and b, listeners and routes r."""
    async with open_world() as world, SotwClient(world.address) as client:
        world.publish(**everything(*clusters, routes=routes))
        for type_url, names in ALL.items():
            await client.subscribe(type_url, *names)
            await client.accept()
        yield world, client


def step(response: Any) -> tuple[str, list[str]]:
    """The type of a response and the bodies in it."""
    return response.type_url, [resource.value.decode() for resource in response.resources]


async def settle(client: SotwClient) -> list[tuple[str, list[str]]]:
    """Accepts responses until none comes any more."""
    steps = []
    while not await client.is_quiet(0.2):
        steps.append(step(await client.accept()))
    return steps


@in_loop
async def test_a_cluster_is_left_out_after_routes() -> None:
    """A cluster is in the responses until the routes without it were accepted, and its endpoints as long as it is."""
    async with subscribed("a", "b", routes="to b") as (world, client):
        world.publish(**everything("a", routes="to a"))
        routes = await client.receive()
        assert step(routes) == (ROUTES, ["to a"])
        assert await client.is_quiet()
        await client.ack(routes)
        assert await settle(client) == [(CLUSTER, ["a"]), (ENDPOINTS, ["a"])]


@in_loop
async def test_a_replaced_cluster_is_added_routed_to_and_the_old_one_left_out() -> None:
    """The three steps of one publication come in the order in which no request meets a missing cluster."""
    async with subscribed("a") as (world, client):
        world.publish(**everything("b", routes="to b"))
        assert await settle(client) == [
            (CLUSTER, ["a", "b"]),
            (ENDPOINTS, ["a", "b"]),
            (ROUTES, ["to b"]),
            (CLUSTER, ["b"]),
            (ENDPOINTS, ["b"]),
        ]


@in_loop
async def test_what_is_gone_stays_as_it_was_sent_last() -> None:
    """A change that the client was not sent is not sent any more when the cluster is gone."""
    async with subscribed("a", "b") as (world, client):
        world.publish(**{**everything("a", "b"), "clusters": resources("a", "b", a="changed")})
        clusters = await client.receive()
        assert step(await client.accept()) == (ENDPOINTS, ["a", "b"])
        world.publish(**{**everything("a", "b"), "clusters": resources("a", "b", a="changed", b="unseen")})
        world.publish(**{**everything("a", "c", routes="to c"), "clusters": resources("a", "c", a="changed")})
        await client.ack(clusters)
        assert await settle(client) == [
            (CLUSTER, ["changed", "b", "c"]),
            (ROUTES, ["to c"]),
            (CLUSTER, ["changed", "c"]),
            (ENDPOINTS, ["a"]),
        ]


@in_loop
async def test_endpoints_that_were_given_up_need_no_response() -> None:
    """Envoy gives the endpoints of a cluster up before it accepts the clusters without it."""
    async with subscribed("a", "b") as (world, client):
        world.publish(**everything("a"))
        clusters = await client.receive()
        assert step(clusters) == (CLUSTER, ["a"])
        await client.subscribe(ENDPOINTS, "a")
        await client.ack(clusters)
        assert await client.is_quiet()


@in_loop
async def test_endpoints_of_a_cluster_that_went_before_it_was_warm() -> None:
    """Envoy accepts no clusters before it has endpoints for each: those that are gone it has none of."""
    async with subscribed("a") as (world, client):
        world.publish(**{**everything("a", "c", routes="to c"), "endpoints": resources("a")})
        clusters = await client.receive()
        assert step(clusters) == (CLUSTER, ["a", "c"])
        world.publish(**everything("a"))
        await client.subscribe(ENDPOINTS, "a", "c")
        endpoints = await client.accept()
        empty = endpoint_pb2.ClusterLoadAssignment.FromString(endpoints.resources[1].value)
        assert (empty.cluster_name, len(empty.endpoints)) == ("c", 0)
        await client.ack(clusters)
        assert await settle(client) == [(CLUSTER, ["a"]), (ENDPOINTS, ["a"])]


@in_loop
async def test_rejected_routes_keep_no_cluster() -> None:
    """A NACK is an answer: the cluster goes."""
    async with subscribed("a", "b") as (world, client):
        world.publish(**everything("a", routes="bad"))
        await client.nack(await client.receive(), "r is bad")
        steps = dict(await settle(client))
        assert steps[CLUSTER] == ["a"]


@in_loop
async def test_a_cluster_that_comes_back_was_never_gone() -> None:
    """Put back before it was left out, it needs no response."""
    async with subscribed("a", "b") as (world, client):
        world.publish(**everything("a", routes="to a"))
        routes = await client.receive()
        world.publish(**everything("a", "b", routes="to a"))
        await client.ack(routes)
        assert await client.is_quiet()


@in_loop
async def test_a_client_that_comes_back_unchanged_loses_no_cluster() -> None:
    """Its version says what it has, so that it is treated like one that never left."""
    async with subscribed("a") as (world, client):
        versions = {type_url: client.version(type_url) for type_url in ALL}
        async with SotwClient(world.address) as again:
            for type_url, names in ALL.items():
                await again.subscribe(type_url, *names, version=versions[type_url])
            assert await again.is_quiet()
            world.publish(**everything("b", routes="to b"))
            kinds = [(await again.accept()).type_url for _ in range(5)]
            assert kinds == [CLUSTER, ENDPOINTS, ROUTES, CLUSTER, ENDPOINTS]


@in_loop
async def test_a_client_that_comes_back_to_a_change_is_sent_what_there_is() -> None:
    """What it has that is gone, no server can know: the clusters come without it, before the routes do."""
    async with subscribed("a") as (world, client):
        versions = {type_url: client.version(type_url) for type_url in ALL}
        world.publish(**everything("b", routes="to b"))
        async with SotwClient(world.address) as again:
            for type_url, names in ALL.items():
                await again.subscribe(type_url, *names, version=versions[type_url])
            assert await settle(again) == [(CLUSTER, ["b"]), (ENDPOINTS, ["b"]), (ROUTES, ["to b"])]
