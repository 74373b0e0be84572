"""Delta protocol, make before break: a raw client against the real server."""

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource
from tests.xds_client import DeltaClient
from tests.xds_world import connected, in_loop, names, removed, resources


async def subscribe_all(client: DeltaClient) -> None:
    """Asks for clusters, endpoints a and b, listeners and routes r, and accepts what comes."""
    await client.subscribe(CLUSTER)
    await client.subscribe(ENDPOINTS, "a", "b")
    await client.subscribe(LISTENER)
    await client.subscribe(ROUTES, "r")
    await client.settle()


def everything(*clusters: str, routes: str = "r", listener: str = "l") -> dict[str, dict[str, Resource]]:
    """Clusters with endpoints, a listener and routes."""
    return {
        "clusters": resources(*clusters),
        "endpoints": resources(*clusters),
        "listeners": resources("l", l=listener),
        "routes": resources("r", r=routes),
    }


@in_loop
async def test_clusters_go_before_listeners_and_routes() -> None:
    """Listeners and routes of a publication wait until its clusters were accepted."""
    async with connected(**everything("a")) as (world, client):
        await subscribe_all(client)
        world.publish(**everything("a", "b", routes="to b", listener="with b"))
        clusters = await client.receive()
        assert (clusters.type_url, names(clusters)) == (CLUSTER, ["b"])
        endpoints = await client.accept()
        assert (endpoints.type_url, names(endpoints)) == (ENDPOINTS, ["b"])
        assert await client.is_quiet()
        await client.ack(clusters)
        assert [(await client.accept()).type_url for _ in range(2)] == [LISTENER, ROUTES]


@in_loop
async def test_clusters_are_removed_after_routes() -> None:
    """A cluster goes when the routes that no longer use it were accepted, and its endpoints after it."""
    async with connected(**everything("a", "b", routes="to b")) as (world, client):
        await subscribe_all(client)
        world.publish(**everything("a", routes="to a"))
        routes = await client.receive()
        assert routes.type_url == ROUTES
        assert await client.is_quiet()
        await client.ack(routes)
        clusters = await client.accept()
        assert (clusters.type_url, removed(clusters)) == (CLUSTER, ["b"])
        endpoints = await client.accept()
        assert (endpoints.type_url, removed(endpoints)) == (ENDPOINTS, ["b"])


@in_loop
async def test_a_replaced_cluster_is_added_routed_to_and_the_old_one_removed() -> None:
    """The three steps of one publication come in the order in which no request meets a missing cluster."""
    async with connected(**everything("a")) as (world, client):
        await subscribe_all(client)
        world.publish(**everything("b", routes="to b"))
        steps = [(step.type_url, names(step), removed(step)) for step in await client.settle()]
        assert steps == [
            (CLUSTER, ["b"], []),
            (ENDPOINTS, ["b"], []),
            (ROUTES, ["r"], []),
            (CLUSTER, [], ["a"]),
            (ENDPOINTS, [], ["a"]),
        ]


@in_loop
async def test_endpoints_of_a_changed_cluster_are_sent_again() -> None:
    """Envoy warms a changed cluster only when its endpoints arrive again, changed or not."""
    async with connected(**everything("a", "b")) as (world, client):
        await subscribe_all(client)
        same = everything("a", "b")
        world.publish(**{**same, "clusters": resources("a", "b", a="changed")})
        steps = [(step.type_url, names(step)) for step in await client.settle()]
        assert steps == [(CLUSTER, ["a"]), (ENDPOINTS, ["a"])]


@in_loop
async def test_endpoints_are_sent_again_to_a_client_that_comes_back_to_a_changed_cluster() -> None:
    """The same when the cluster changed while the client was away."""
    async with connected(**everything("a", "b")) as (world, client):
        await subscribe_all(client)
        world.publish(**{**everything("a", "b"), "clusters": resources("a", "b", a="changed")})
        async with DeltaClient(world.address) as again:
            held = {"a": resources("a")["a"].version, "b": resources("b")["b"].version}
            await again.subscribe(ENDPOINTS, "a", "b", held=held)
            await again.subscribe(CLUSTER, held=held)
            steps = [(step.type_url, names(step)) for step in await again.settle()]
            assert steps == [(CLUSTER, ["a"]), (ENDPOINTS, ["a"])]


@in_loop
async def test_an_endpoint_change_sends_only_endpoints() -> None:
    """Moving instances touches no cluster, listener or route."""
    async with connected(**everything("a", "b")) as (world, client):
        await subscribe_all(client)
        world.publish(**{**everything("a", "b"), "endpoints": resources("a", "b", b="moved")})
        steps = [(step.type_url, names(step)) for step in await client.settle()]
        assert steps == [(ENDPOINTS, ["b"])]


@in_loop
async def test_a_rejected_cluster_does_not_hold_routes_back() -> None:
    """A NACK is an answer: what waits goes on."""
    async with connected(**everything("a")) as (world, client):
        await subscribe_all(client)
        world.publish(**everything("a", "b", routes="to b"))
        await client.nack(await client.receive(), "b is bad")
        assert [(await client.accept()).type_url for _ in range(2)] == [ENDPOINTS, ROUTES]


@in_loop
async def test_a_client_that_comes_back_is_heard_out() -> None:
    """Its requests come one by one: a cluster does not go before the one for the routes that use it has come."""
    async with connected(**everything("a")) as (world, client):
        await subscribe_all(client)
        world.publish(**everything("b", routes="to b"))
        async with DeltaClient(world.address) as again:
            await again.subscribe(CLUSTER, held=client.held[CLUSTER])
            clusters = await again.accept()
            assert (names(clusters), removed(clusters)) == (["b"], [])
            await again.subscribe(ROUTES, "r", held=client.held[ROUTES])
            assert names(await again.accept()) == ["r"]
            assert removed(await again.accept()) == ["a"]
