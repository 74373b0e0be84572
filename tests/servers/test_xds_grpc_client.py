"""gRPC's own xDS client, a second independent one beside Envoy, finds services through the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gloo_nomad.messages import version_of
from gloo_nomad.resources import CLUSTER, ENDPOINTS, ROUTES, Resource
from tests.grpc_xds import Caller, Mesh, answering, build_bad_cluster, build_cluster, build_endpoints, calling
from tests.xds_client import ROLE
from tests.xds_world import in_loop, open_world

ONE, TWO = "SERVING", "NOT_SERVING"
"""What the two services answer."""


@asynccontextmanager
async def open_mesh() -> AsyncIterator[tuple[Mesh, Caller, int, int]]:
    """A cluster ``health`` with the first service, a client that reached it, and the ports of both services."""
    async with open_world() as world, answering(ONE) as one, answering(TWO) as two, calling(world.address) as caller:
        mesh = Mesh(world, {"health": (one,)}, {"health": 1})
        mesh.publish()
        assert await caller.call() == ONE
        yield mesh, caller, one, two


@pytest.mark.parametrize("late", [False, True], ids=["published", "published-later"])
@in_loop
async def test_a_call_through_grpc_xds(late: bool) -> None:
    """A client that knows only the xDS server reaches a service by its name, also if it has to wait for it."""
    async with open_world() as world, answering(ONE) as port, calling(world.address) as caller:
        mesh = Mesh(world, {"health": (port,)}, {"health": 1})
        if not late:
            mesh.publish()
        answer = asyncio.create_task(caller.call())
        if late:
            await world.until(lambda: len(world.cache.clients()) == 1)
            mesh.publish()
        assert await answer == ONE
        assert world.nacks == []
        assert world.metric("gloo_nomad_xds_acks_total", type="ClusterLoadAssignment") >= 1


@in_loop
async def test_an_instance_moves() -> None:
    """New endpoints of a cluster are used; nothing else is sent again."""
    async with open_mesh() as (mesh, caller, _, two):
        sent = mesh.world.metric("gloo_nomad_xds_responses_total", protocol="sotw", type="Cluster")
        mesh.ports["health"] = (two,)
        mesh.publish()
        await caller.until(TWO)
        assert mesh.world.metric("gloo_nomad_xds_responses_total", protocol="sotw", type="Cluster") == sent
        assert mesh.world.nacks == []


@in_loop
async def test_the_fast_path_of_endpoints() -> None:
    """Endpoints that are published by themselves, as instances come and go, are used as well."""
    async with open_mesh() as (mesh, caller, _, two):
        body = build_endpoints("health", (two,))
        endpoints = {"health": Resource("health", version_of(body), body)}
        mesh.world.cache.publish_type(ROLE, ENDPOINTS, endpoints)
        await caller.until(TWO)
        assert mesh.world.nacks == []


@in_loop
async def test_the_last_instance_goes_and_one_comes() -> None:
    """A cluster without instances answers UNAVAILABLE, and works again when it has one."""
    async with open_mesh() as (mesh, caller, one, _):
        mesh.ports["health"] = ()
        mesh.publish()
        await caller.until("UNAVAILABLE")
        mesh.ports["health"] = (one,)
        mesh.publish()
        await caller.until(ONE)


@in_loop
async def test_routes_lead_to_another_cluster() -> None:
    """A change of routes to a cluster that is new takes effect."""
    async with open_mesh() as (mesh, caller, _, two):
        mesh.ports["other"], mesh.routes = (two,), {"other": 1}
        mesh.publish()
        await caller.until(TWO)


@in_loop
async def test_a_cluster_is_replaced_without_a_failed_call() -> None:
    """While routes move to another cluster, and the old one is removed once they have, each call is answered."""
    async with open_mesh() as (mesh, caller, _, two):
        mesh.ports["next"], mesh.routes = (two,), {"next": 1}
        mesh.publish()
        answers = [await caller.call()]
        while answers[-1] != TWO and len(answers) < 1_000:
            answers.append(await caller.call())
        del mesh.ports["health"]
        mesh.publish()
        answers += [await caller.call() for _ in range(20)]
        assert answers[-1] == TWO
        assert set(answers) <= {ONE, TWO}


@in_loop
async def test_weights_split_calls() -> None:
    """Two clusters of one route both get calls."""
    async with open_mesh() as (mesh, caller, _, two):
        mesh.ports["other"], mesh.routes = (two,), {"health": 1, "other": 1}
        mesh.publish()
        await caller.until(TWO)
        await caller.until(ONE)


@in_loop
async def test_a_listener_goes_and_comes_back() -> None:
    """A removed listener is missing from the next state; calls fail until it is back."""
    async with open_mesh() as (mesh, caller, _, _):
        mesh.listens = False
        mesh.publish()
        await caller.until("UNAVAILABLE")
        mesh.listens = True
        mesh.publish()
        await caller.until(ONE)


@in_loop
async def test_a_rejected_cluster_is_named_and_the_last_good_one_used() -> None:
    """What gRPC refuses is reported by name; calls go on with what it had, and its recovery is reported."""
    async with open_mesh() as (mesh, caller, _, _):
        mesh.more = {CLUSTER: {"health": build_bad_cluster("health")}}
        mesh.publish()
        await mesh.world.until(lambda: bool(mesh.world.nacks))
        assert mesh.world.nacks[0][2:4] == (CLUSTER, ("health",))
        assert await caller.call() == ONE
        mesh.more = {CLUSTER: {"health": build_cluster("health")}, ENDPOINTS: {}}
        mesh.publish()
        await mesh.world.until(lambda: bool(mesh.world.recoveries))
        assert await caller.call() == ONE


@in_loop
async def test_a_rejected_route_keeps_the_old_ones() -> None:
    """Bytes that are no RouteConfiguration are refused, and the routes before stay in use."""
    async with open_mesh() as (mesh, caller, _, _):
        mesh.more = {ROUTES: {"routes": b"\xff\xff"}}
        mesh.publish()
        await mesh.world.until(lambda: bool(mesh.world.nacks))
        assert mesh.world.nacks[0][2] == ROUTES
        assert await caller.call() == ONE


@in_loop
async def test_a_lost_server_costs_no_call() -> None:
    """Calls are answered while the xDS server is away; the client comes back by itself and takes changes again."""
    async with answering(ONE) as one, answering(TWO) as two:
        async with open_world() as world:
            address = world.address
            Mesh(world, {"health": (one,)}, {"health": 1}).publish()
            away = calling(address)
            caller = await away.__aenter__()
            assert await caller.call() == ONE
        try:
            assert await caller.call() == ONE
            async with open_world(address) as world:
                Mesh(world, {"health": (two,)}, {"health": 1}).publish()
                await caller.until(TWO, within=60.0)
                assert world.nacks == []
        finally:
            await away.__aexit__(None, None, None)


@in_loop
async def test_only_what_is_asked_for_is_sent() -> None:
    """Resources of others in the role are not sent to a client that does not name them."""
    async with open_world() as world, answering(ONE) as port, calling(world.address) as caller:
        mesh = Mesh(world, {"health": (port,)}, {"health": 1})
        mesh.more = {
            CLUSTER: {f"other-{number}": build_cluster(f"other-{number}") for number in range(50)},
            ENDPOINTS: {f"other-{number}": build_endpoints(f"other-{number}", (port,)) for number in range(50)},
        }
        mesh.publish()
        assert await caller.call() == ONE
        assert world.metric("gloo_nomad_xds_resources_total", type="Cluster") == 1
        assert world.metric("gloo_nomad_xds_resources_total", type="ClusterLoadAssignment") == 1


@in_loop
async def test_the_client_is_described_and_forgotten() -> None:
    """While it is there it is among the clients, with its protocol; then it is gone."""
    async with open_world() as world, answering(ONE) as port:
        Mesh(world, {"health": (port,)}, {"health": 1}).publish()
        async with calling(world.address, "described") as caller:
            assert await caller.call() == ONE
            (client,) = world.cache.clients()
            assert (client.node.node_id, client.protocol) == ("described", "sotw")
        await world.until(lambda: world.cache.clients() == ())


@in_loop
async def test_a_service_that_nobody_published() -> None:
    """A name without a listener is UNAVAILABLE for that call alone; the client goes on with the others."""
    async with open_mesh() as (_, caller, _, _):
        assert await caller.call("xds:///nobody.test", 3.0) in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert await caller.call() == ONE
