"""Delta protocol, nonces, ACKs and NACKs: a raw client against the real server."""

from gloo_nomad.resources import CLUSTER, ENDPOINTS, SECRET
from tests.xds_client import ROLE
from tests.xds_world import connected, in_loop, names, removed, resources


@in_loop
async def test_a_stale_nonce_still_counts_as_a_subscription() -> None:
    """In the delta protocol the names of a request are never ignored."""
    async with connected(endpoints=resources("a", "b")) as (_, client):
        await client.subscribe(ENDPOINTS, "a")
        response = await client.accept()
        response.nonce = "0.999"
        await client.send_names(response, subscribe=["b"], unsubscribe=["a"])
        assert names(await client.accept()) == ["b"]


@in_loop
async def test_an_ack_can_carry_names() -> None:
    """The answer to a response may add and drop names."""
    async with connected(endpoints=resources("a", "b")) as (world, client):
        await client.subscribe(ENDPOINTS, "a")
        response = await client.receive()
        await client.send_names(response, subscribe=["b"], unsubscribe=["a"])
        assert names(await client.accept()) == ["b"]
        world.publish(endpoints=resources("a", "b", a="changed"))
        assert await client.is_quiet()


@in_loop
async def test_nonces_differ() -> None:
    """No two responses of a type on a stream have the same nonce."""
    async with connected(endpoints=resources("a")) as (world, client):
        nonces = []
        for number in range(5):
            await client.subscribe(ENDPOINTS, "a")
            nonces.append((await client.accept()).nonce)
            world.publish(endpoints=resources("a", a=f"{number}"))
            nonces.append((await client.accept()).nonce)
        assert len(set(nonces)) == 10


@in_loop
async def test_a_rejected_version_is_not_sent_again() -> None:
    """After a NACK the stream is quiet until the resource changes."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.nack(await client.receive(), "a: no such thing")
        world.publish(clusters=resources("a", "b"))
        assert await client.is_quiet()
        world.publish(clusters=resources("a", "b", a="mended"))
        assert names(await client.accept()) == ["a"]


@in_loop
async def test_a_rejection_is_reported() -> None:
    """The callback gets role, node, type, the resources that the client blames, and its words."""
    async with connected(clusters=resources("one", "two")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.nack(await client.receive(), "Error adding/updating cluster(s) two: bad port")
        await world.until(lambda: bool(world.nacks))
        words = "Error adding/updating cluster(s) two: bad port"
        assert world.nacks == [(ROLE, "test-node", CLUSTER, ("two",), words)]


@in_loop
async def test_a_rejection_without_names_is_looked_into() -> None:
    """A client that does not say which resource is bad is sent them in parts, until it is known which one it is."""
    async with connected(clusters=resources("one", "two", "three")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.nack(await client.receive(), "no")
        while not await client.is_quiet(0.3):
            response = await client.receive()
            await (client.nack(response, "no") if "two" in names(response) else client.ack(response))
        assert [report[3] for report in world.nacks] == [("two",)]
        assert client.held[CLUSTER].keys() == {"one", "three"}


@in_loop
async def test_a_recovery_is_reported() -> None:
    """When a client accepts what it rejected before, the callback names it."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.nack(await client.receive(), "b is bad")
        world.publish(clusters=resources("a", "b", b="mended"))
        await client.accept()
        await world.until(lambda: bool(world.recoveries))
        assert world.recoveries == [(ROLE, "test-node", CLUSTER, ("b",))]
        assert world.cache.clients()[0].rejections == ()


@in_loop
async def test_a_rejection_shows_in_the_clients() -> None:
    """The record of a client says what it rejects, and forgets it when the resource is removed."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.nack(await client.receive(), "b is bad")
        await world.until(lambda: bool(world.nacks))
        ((type_url, name, nack),) = world.cache.clients()[0].rejections
        assert (type_url, name, nack.message) == (CLUSTER, "b", "b is bad")
        world.publish(clusters=resources("a"))
        assert removed(await client.accept()) == ["b"]
        assert world.cache.clients()[0].rejections == ()


@in_loop
async def test_the_second_response_waits_for_the_answer_to_the_first() -> None:
    """One response of a type is under way at a time."""
    async with connected(clusters=resources("a")) as (world, client):
        await client.subscribe(CLUSTER)
        first = await client.receive()
        world.publish(clusters=resources("a", a="changed"))
        assert await client.is_quiet()
        await client.ack(first)
        assert names(await client.accept()) == ["a"]


@in_loop
async def test_a_type_does_not_wait_for_another_ones_answer() -> None:
    """Secrets without an answer do not hold clusters back."""
    async with connected(secrets=resources("s"), clusters=resources("a")) as (_, client):
        await client.subscribe(SECRET, "s")
        assert names(await client.receive()) == ["s"]
        await client.subscribe(CLUSTER)
        assert names(await client.receive()) == ["a"]
