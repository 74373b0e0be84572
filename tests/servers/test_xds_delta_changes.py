"""Delta protocol, what changes and how it is cut: a raw client against the real server."""

from gloo_nomad.resources import CLUSTER, ENDPOINTS, ROUTES
from tests.xds_client import ROLE
from tests.xds_world import connected, in_loop, names, removed, resources


@in_loop
async def test_only_what_changed_is_sent() -> None:
    """One changed resource of many travels alone."""
    many = [f"c{number:03}" for number in range(200)]
    async with connected(clusters=resources(*many)) as (world, client):
        await client.subscribe(CLUSTER)
        assert len(names(await client.accept())) == 200
        world.publish(clusters=resources(*many, c077="changed"))
        response = await client.accept()
        assert names(response) == ["c077"]
        assert response.resources[0].resource.value == b"changed"


@in_loop
async def test_the_same_content_in_new_objects_is_not_sent() -> None:
    """A publication that brings equal versions sends nothing."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        world.publish(clusters=resources("a", "b"))
        assert await client.is_quiet()


@in_loop
async def test_a_removed_resource_is_taken_away() -> None:
    """What a wildcard client had and is gone comes in removed_resources."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        world.publish(clusters=resources("a"))
        response = await client.accept()
        assert (names(response), removed(response)) == ([], ["b"])


@in_loop
async def test_a_resource_that_comes_and_goes_unseen_is_not_mentioned() -> None:
    """Between two responses only the newest state counts."""
    async with connected(clusters=resources("a")) as (world, client):
        await client.subscribe(CLUSTER)
        first = await client.receive()
        world.publish(clusters=resources("a", "brief", a="changed"))
        world.publish(clusters=resources("a", a="changed"))
        await client.ack(first)
        response = await client.accept()
        assert (names(response), removed(response)) == (["a"], [])


@in_loop
async def test_a_slow_reader_gets_the_newest_state() -> None:
    """While a response waits for its answer, changes pile up to one response with the last of each."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        first = await client.receive()
        for number in range(50):
            world.publish(clusters=resources("a", "b", a=f"{number}"))
        assert await client.is_quiet()
        await client.ack(first)
        response = await client.accept()
        assert [(resource.name, resource.resource.value) for resource in response.resources] == [("a", b"49")]
        assert await client.is_quiet()


@in_loop
async def test_a_change_that_is_undone_is_not_sent() -> None:
    """A resource that is back at the version that the client has needs no response."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        first = await client.receive()
        world.publish(clusters=resources("a", "b", a="changed"))
        world.publish(clusters=resources("a", "b"))
        await client.ack(first)
        assert await client.is_quiet()


@in_loop
async def test_one_publication_is_one_response_for_each_type() -> None:
    """Updates and removals of a publication come together."""
    async with connected(clusters=resources("a", "b", "c")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        world.publish(clusters=resources("a", "c", "d", a="changed"))
        response = await client.accept()
        assert (names(response), removed(response)) == (["a", "d"], ["b"])
        assert await client.is_quiet()


@in_loop
async def test_the_fast_path_replaces_one_type() -> None:
    """Endpoints are published without the rest."""
    async with connected(clusters=resources("a"), endpoints=resources("a")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        await client.subscribe(ENDPOINTS, "a")
        await client.accept()
        world.cache.publish_type(ROLE, ENDPOINTS, resources("a", a="moved"))
        assert names(await client.accept()) == ["a"]
        assert await client.is_quiet()


@in_loop
async def test_a_large_response_is_split() -> None:
    """Parts stay under the limit, follow each other without waiting, and only the last one removes."""
    big = {f"c{number}": "x" * 1_000_000 for number in range(8)}
    async with connected(clusters=resources("gone")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        world.publish(clusters=resources(*big, **big))
        parts = [await client.receive(), await client.receive(), await client.receive()]
        assert [len(names(part)) for part in parts] == [3, 3, 2]
        assert [removed(part) for part in parts] == [[], [], ["gone"]]
        assert all(part.ByteSize() <= 3 * 1024 * 1024 for part in parts)
        for part in parts:
            await client.ack(part)
        assert await client.is_quiet()


@in_loop
async def test_a_resource_larger_than_a_part_goes_alone() -> None:
    """A single big resource is not refused."""
    async with connected(routes=resources("a", "big", "c", big="x" * 20_000_000)) as (_, client):
        await client.subscribe(ROUTES)
        parts = [await client.accept(), await client.accept(), await client.accept()]
        assert [names(part) for part in parts] == [["a"], ["big"], ["c"]]
        assert len(parts[1].resources[0].resource.value) == 20_000_000
