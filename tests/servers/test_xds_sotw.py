"""State-of-the-world protocol, case by case: a raw client against the real server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from grpc import aio

from gloo_nomad.messages import to_bytes, version_of
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Resources
from tests.xds_client import ROLE, SotwClient, build_node
from tests.xds_world import World, in_loop, open_world, resources

Clusters = cluster_pb2.Cluster
Assignments = endpoint_pb2.ClusterLoadAssignment


@asynccontextmanager
async def connected(**types: Resources) -> AsyncIterator[tuple[World, SotwClient]]:
    """A server whose one role is served ``types``, and a client with that role."""
    async with open_world() as world:
        world.publish(**types)
        async with SotwClient(world.address) as client:
            yield world, client


def bodies(response: Any) -> list[str]:
    """The bodies in a response, in its order; unless changed they are the names."""
    return [resource.value.decode() for resource in response.resources]


@in_loop
async def test_no_names_mean_everything() -> None:
    """A request without names gets all resources of the type, sorted, with the type in each."""
    async with connected(clusters=resources("b", "a")) as (_, client):
        await client.subscribe(CLUSTER)
        response = await client.accept()
        assert (bodies(response), response.type_url) == (["a", "b"], CLUSTER)
        assert {resource.type_url for resource in response.resources} == {CLUSTER}
        assert await client.is_quiet()


@in_loop
async def test_star_means_everything() -> None:
    """The name ``*`` is a wildcard here as well."""
    async with connected(listeners=resources("a", "b")) as (_, client):
        await client.subscribe(LISTENER, "*")
        assert bodies(await client.accept()) == ["a", "b"]


@in_loop
async def test_names_get_only_themselves() -> None:
    """Named resources come alone, and names that do not exist are left out."""
    async with connected(routes=resources("a", "b", "c")) as (_, client):
        await client.subscribe(ROUTES, "c", "a", "none")
        assert bodies(await client.accept()) == ["a", "c"]


@in_loop
async def test_a_change_sends_all_that_is_asked_for() -> None:
    """Every response is the whole state."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        first = await client.accept()
        world.publish(clusters=resources("a", "b", b="changed"))
        second = await client.accept()
        assert bodies(second) == ["a", "changed"]
        assert first.version_info != second.version_info


@in_loop
async def test_a_removed_resource_is_left_out() -> None:
    """What is gone is missing from the next response."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        world.publish(clusters=resources("b"))
        assert bodies(await client.accept()) == ["b"]


@in_loop
async def test_the_same_content_is_not_sent() -> None:
    """A publication of equal versions sends nothing."""
    async with connected(clusters=resources("a")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        world.publish(clusters=resources("a"))
        assert await client.is_quiet()


@in_loop
async def test_a_change_of_what_is_not_asked_for_is_not_sent() -> None:
    """Other names of the type do not matter to a client with names."""
    async with connected(routes=resources("a", "b")) as (world, client):
        await client.subscribe(ROUTES, "a")
        await client.accept()
        world.publish(routes=resources("a", "b", b="changed"))
        assert await client.is_quiet()


@in_loop
async def test_the_version_is_made_of_content() -> None:
    """Two servers with the same content have the same version."""
    versions = []
    for _ in range(2):
        async with connected(clusters=resources("a", "b")) as (_, client):
            await client.subscribe(CLUSTER)
            versions.append((await client.accept()).version_info)
    assert versions[0] == versions[1]


@in_loop
async def test_a_client_that_comes_back_unchanged_gets_nothing() -> None:
    """A first request with the current version of exactly these names needs no response."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        version = (await client.accept()).version_info
        async with SotwClient(world.address) as again:
            await again.subscribe(CLUSTER, version=version)
            assert await again.is_quiet()


@in_loop
async def test_a_client_that_comes_back_with_other_names_gets_them() -> None:
    """A version belongs to the names it was sent for."""
    async with connected(routes=resources("a", "b")) as (world, client):
        await client.subscribe(ROUTES, "a")
        version = (await client.accept()).version_info
        async with SotwClient(world.address) as again:
            await again.subscribe(ROUTES, "a", "b", version=version)
            assert bodies(await again.accept()) == ["a", "b"]


@in_loop
async def test_a_name_more_is_answered() -> None:
    """Asking for one more name sends the names asked for."""
    async with connected(routes=resources("a", "b")) as (_, client):
        await client.subscribe(ROUTES, "a")
        await client.accept()
        await client.subscribe(ROUTES, "a", "b")
        assert bodies(await client.accept()) == ["a", "b"]


@in_loop
async def test_a_name_less_is_not_answered() -> None:
    """Giving a name up needs no response, and its changes are not sent."""
    async with connected(routes=resources("a", "b")) as (world, client):
        await client.subscribe(ROUTES, "a", "b")
        await client.accept()
        await client.subscribe(ROUTES, "a")
        assert await client.is_quiet()
        world.publish(routes=resources("a", "b", b="changed"))
        assert await client.is_quiet()
        world.publish(routes=resources("a", "b", a="changed"))
        assert bodies(await client.accept()) == ["changed"]


@in_loop
async def test_a_name_given_up_and_asked_for_again_is_sent() -> None:
    """A newly asked name is sent even if it was sent before."""
    async with connected(routes=resources("a", "b")) as (_, client):
        await client.subscribe(ROUTES, "a", "b")
        await client.accept()
        await client.subscribe(ROUTES, "a")
        await client.subscribe(ROUTES, "a", "b")
        assert bodies(await client.accept()) == ["a", "b"]


@in_loop
async def test_no_names_after_names_is_no_wildcard() -> None:
    """A client that named something and then nothing wants nothing."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER, "a")
        await client.accept()
        await client.subscribe(CLUSTER)
        world.publish(clusters=resources("a", "b", b="changed"))
        assert await client.is_quiet()


@in_loop
async def test_names_end_an_unspoken_wildcard() -> None:
    """After a request without names, one with names asks for these only."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        await client.subscribe(CLUSTER, "a")
        assert bodies(await client.accept()) == ["a"]
        world.publish(clusters=resources("a", "b", b="changed"))
        assert await client.is_quiet()


@in_loop
async def test_a_name_that_appears_later_is_pushed() -> None:
    """A name that did not exist stays asked for."""
    async with connected(routes=resources("a")) as (world, client):
        await client.subscribe(ROUTES, "late")
        assert bodies(await client.accept()) == []
        world.publish(routes=resources("a", "late"))
        assert bodies(await client.accept()) == ["late"]


@in_loop
async def test_a_stale_nonce_is_ignored() -> None:
    """A request that answers an earlier response changes nothing."""
    async with connected(routes=resources("a", "b")) as (world, client):
        await client.subscribe(ROUTES, "a")
        old = (await client.accept()).nonce
        world.publish(routes=resources("a", "b", a="changed"))
        await client.accept()
        await client.subscribe(ROUTES, "a", "b", nonce=old)
        assert await client.is_quiet()
        await client.subscribe(ROUTES, "a", "b")
        assert bodies(await client.accept()) == ["changed", "b"]


@in_loop
async def test_a_rejected_version_is_not_sent_again() -> None:
    """After a NACK the stream is quiet until something changes; the rejection is reported."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.nack(await client.receive(), "the listed ones are bad")
        assert await client.is_quiet()
        assert [(report[2], report[4]) for report in world.nacks] == [(CLUSTER, "the listed ones are bad")]
        world.publish(clusters=resources("a", "b", a="mended"))
        assert bodies(await client.accept()) == ["mended", "b"]


@in_loop
async def test_a_slow_reader_gets_the_newest_state() -> None:
    """Changes while a response waits for its answer pile up to one."""
    async with connected(clusters=resources("a")) as (world, client):
        await client.subscribe(CLUSTER)
        first = await client.receive()
        for number in range(20):
            world.publish(clusters=resources("a", a=f"{number}"))
        assert await client.is_quiet()
        await client.ack(first)
        assert bodies(await client.accept()) == ["19"]
        assert await client.is_quiet()


@in_loop
async def test_endpoints_of_a_changed_cluster_are_sent_again() -> None:
    """The version of endpoints counts their clusters, because Envoy warms a changed one only with new endpoints."""
    async with connected(clusters=resources("a", "b"), endpoints=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        await client.subscribe(ENDPOINTS, "a", "b")
        first = await client.accept()
        world.publish(clusters=resources("a", "b", a="changed"), endpoints=resources("a", "b"))
        assert (await client.accept()).type_url == CLUSTER
        second = await client.accept()
        assert (second.type_url, bodies(second)) == (ENDPOINTS, ["a", "b"])
        assert first.version_info != second.version_info


@in_loop
async def test_listeners_wait_for_clusters() -> None:
    """Listeners and routes of a publication wait until its clusters were accepted."""
    async with connected(clusters=resources("a"), listeners=resources("l"), routes=resources("r")) as (world, client):
        for type_url, names in ((CLUSTER, ()), (LISTENER, ()), (ROUTES, ("r",))):
            await client.subscribe(type_url, *names)
            await client.accept()
        world.publish(
            clusters=resources("a", "b"), listeners=resources("l", l="with b"), routes=resources("r", r="to b")
        )
        clusters = await client.receive()
        assert clusters.type_url == CLUSTER
        assert await client.is_quiet()
        await client.ack(clusters)
        assert [(await client.accept()).type_url for _ in range(2)] == [LISTENER, ROUTES]


@in_loop
async def test_an_unknown_role_waits() -> None:
    """A role that nobody published is told nothing."""
    async with open_world() as world, SotwClient(world.address) as client:
        await client.subscribe(CLUSTER)
        assert await client.is_quiet()
        world.publish(clusters=resources("a"))
        assert bodies(await client.accept()) == ["a"]


@in_loop
async def test_a_large_state_is_one_response() -> None:
    """There are no parts in this protocol: 12 MB of clusters come in one message."""
    texts = {f"c{number}": "x" * 1_000_000 for number in range(12)}
    async with connected(clusters=resources(*texts, **texts)) as (_, client):
        await client.subscribe(CLUSTER)
        assert len((await client.accept()).resources) == 12


_STREAMS = [
    ("/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters", CLUSTER),
    ("/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints", ENDPOINTS),
    ("/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners", LISTENER),
    ("/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes", ROUTES),
]


@pytest.mark.parametrize(("method", "type_url"), _STREAMS)
@in_loop
async def test_streams_for_one_type(method: str, type_url: str) -> None:
    """The per-type services serve everything to a first request without names or type."""
    async with open_world() as world:
        world.publish_types({type_url: resources("a", "b")})
        async with SotwClient(world.address, method=method) as client:
            await client.subscribe("")
            response = await client.receive()
            assert (response.type_url, bodies(response)) == (type_url, ["a", "b"])


async def fetch(world: World, method: str, role: str) -> Any:
    """One unary call."""
    async with aio.insecure_channel(world.address) as channel:
        request = discovery_pb2.DiscoveryRequest(node=build_node(role))
        call: Any = channel.unary_unary(method, None, None)
        return discovery_pb2.DiscoveryResponse.FromString(await call(request.SerializeToString()))


_FETCH = "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters"


@in_loop
async def test_fetch() -> None:
    """A unary call gets the state once, with messages that parse."""
    cluster = to_bytes(Clusters(name="a"))
    async with open_world() as world:
        world.publish(clusters={"a": Resource("a", version_of(cluster), cluster)})
        response = await fetch(world, _FETCH, ROLE)
        assert Clusters.FromString(response.resources[0].value).name == "a"


@in_loop
async def test_fetch_of_an_unknown_role_is_unavailable() -> None:
    """There is nothing to wait with in a unary call, and nothing is remembered of the role."""
    async with open_world() as world:
        with pytest.raises(aio.AioRpcError) as raised:
            await fetch(world, _FETCH, "nobody~published")
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "nobody~published" in str(raised.value.details())
        assert world.cache.snapshots() == {}
