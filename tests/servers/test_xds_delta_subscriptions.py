"""Delta protocol, what a client asks for: a raw client against the real server."""

import pytest

from gloo_nomad.resources import CLUSTER, ENDPOINTS, ROUTES, RUNTIME, SECRET, VIRTUAL_HOST
from tests.xds_client import DeltaClient
from tests.xds_world import connected, in_loop, names, open_world, removed, resources


@in_loop
async def test_first_request_without_names_is_a_wildcard() -> None:
    """A first request that names nothing gets everything of its type, sorted by name."""
    async with connected(clusters=resources("b", "a", "c")) as (_, client):
        await client.subscribe(CLUSTER)
        assert names(await client.accept()) == ["a", "b", "c"]
        assert await client.is_quiet()


@in_loop
async def test_star_is_a_wildcard() -> None:
    """The name ``*`` asks for everything."""
    async with connected(clusters=resources("a", "b")) as (_, client):
        await client.subscribe(CLUSTER, "*")
        assert names(await client.accept()) == ["a", "b"]


@in_loop
async def test_named_subscription_gets_only_its_names() -> None:
    """A client that names resources gets those and no others, now and later."""
    async with connected(endpoints=resources("a", "b", "c")) as (world, client):
        await client.subscribe(ENDPOINTS, "a", "c")
        assert names(await client.accept()) == ["a", "c"]
        world.publish(endpoints=resources("a", "b", "c", b="changed"))
        assert await client.is_quiet()
        world.publish(endpoints=resources("a", "b", "c", b="changed", c="changed"))
        assert names(await client.accept()) == ["c"]


@in_loop
async def test_names_added_to_a_wildcard_do_not_end_it() -> None:
    """After a request without names, a named one adds to the wildcard."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        await client.subscribe(CLUSTER, "a")
        assert names(await client.accept()) == ["a"]
        world.publish(clusters=resources("a", "b", b="changed"))
        assert names(await client.accept()) == ["b"]


@in_loop
async def test_giving_up_the_star_keeps_the_names() -> None:
    """Unsubscribing from ``*`` leaves what was asked for by name."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER, "*", "a")
        await client.accept()
        await client.unsubscribe(CLUSTER, "*")
        await world.until(lambda: not world.cache.clients()[0].types[0].wildcard)
        world.publish(clusters=resources("a", "b", a="changed", b="changed"))
        assert names(await client.accept()) == ["a"]
        assert await client.is_quiet()


@in_loop
async def test_giving_up_all_names_is_no_wildcard() -> None:
    """A client that named something and gave it up gets nothing."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER, "a")
        await client.accept()
        await client.unsubscribe(CLUSTER, "a")
        await world.until(lambda: world.cache.clients()[0].types[0].subscribed == 0)
        world.publish(clusters=resources("a", "b", a="changed"))
        assert await client.is_quiet()


@in_loop
async def test_giving_up_a_name_under_a_wildcard_is_answered_with_its_state() -> None:
    """Only the server knows whether the wildcard still covers the name, so it says so."""
    async with connected(clusters=resources("a")) as (_, client):
        await client.subscribe(CLUSTER, "*", "a", "gone")
        assert removed(await client.accept()) == ["gone"]
        await client.unsubscribe(CLUSTER, "a", "gone")
        response = await client.accept()
        assert (names(response), removed(response)) == (["a"], ["gone"])


@in_loop
async def test_a_name_asked_for_again_is_sent_again() -> None:
    """Re-subscribing sends the resource although it is unchanged."""
    async with connected(endpoints=resources("a", "b")) as (_, client):
        await client.subscribe(ENDPOINTS, "a", "b")
        await client.accept()
        await client.subscribe(ENDPOINTS, "a")
        assert names(await client.accept()) == ["a"]


@in_loop
async def test_a_name_given_up_and_asked_for_later_is_sent_again() -> None:
    """What the client gave up is forgotten, so it is sent when it is asked for again."""
    async with connected(endpoints=resources("a")) as (_, client):
        await client.subscribe(ENDPOINTS, "a")
        await client.accept()
        await client.unsubscribe(ENDPOINTS, "a")
        await client.subscribe(ENDPOINTS, "a")
        assert names(await client.accept()) == ["a"]


@in_loop
async def test_a_name_that_does_not_exist_is_answered_as_removed() -> None:
    """The client need not wait for a time-out to learn that there is no such resource."""
    async with connected(routes=resources("a")) as (_, client):
        await client.subscribe(ROUTES, "a", "none")
        response = await client.accept()
        assert (names(response), removed(response)) == (["a"], ["none"])
        assert await client.is_quiet()


@in_loop
async def test_a_name_that_appears_later_is_pushed() -> None:
    """A name that did not exist stays asked for."""
    async with connected(routes=resources("a")) as (world, client):
        await client.subscribe(ROUTES, "late")
        assert removed(await client.accept()) == ["late"]
        world.publish(routes=resources("a", "late"))
        assert names(await client.accept()) == ["late"]


@in_loop
async def test_an_empty_wildcard_is_answered_once() -> None:
    """Envoy waits for a first response even if there is nothing of that type."""
    async with connected(listeners=resources("a")) as (_, client):
        await client.subscribe(CLUSTER)
        response = await client.accept()
        assert (names(response), removed(response)) == ([], [])
        assert await client.is_quiet()


@pytest.mark.parametrize("type_url", [SECRET, RUNTIME, VIRTUAL_HOST, "type.googleapis.com/a.type.of.Tomorrow"])
@in_loop
async def test_any_type_is_served_alike(type_url: str) -> None:
    """The protocol does not depend on the type."""
    async with open_world() as world:
        world.publish_types({type_url: resources("a", "b")})
        async with DeltaClient(world.address) as client:
            await client.subscribe(type_url, "a", "none")
            response = await client.accept()
            assert (response.type_url, names(response), removed(response)) == (type_url, ["a"], ["none"])
            assert response.resources[0].resource.type_url == type_url


@in_loop
async def test_a_client_that_comes_back_unchanged_gets_nothing() -> None:
    """initial_resource_versions that are all current need no response."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        async with DeltaClient(world.address) as again:
            await again.subscribe(CLUSTER, held=client.held[CLUSTER])
            assert await again.is_quiet()


@in_loop
async def test_a_client_that_comes_back_gets_the_difference() -> None:
    """What changed, came and vanished meanwhile is sent, the rest is not."""
    async with connected(clusters=resources("a", "b", "c")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        world.publish(clusters=resources("a", "b", "new", b="changed"))
        async with DeltaClient(world.address) as again:
            await again.subscribe(CLUSTER, held=client.held[CLUSTER])
            response = await again.accept()
            assert (names(response), removed(response)) == (["b", "new"], [])
            assert removed(await again.accept()) == ["c"]


@in_loop
async def test_a_client_that_comes_back_by_name_gets_the_difference() -> None:
    """The same for named resources, and for one that it asked for without ever having had it."""
    async with connected(endpoints=resources("a", "b", b="changed")) as (world, client):
        held = {"a": resources("a")["a"].version, "b": "older", "gone": "1"}
        await client.subscribe(ENDPOINTS, "a", "b", "gone", "never", held=held)
        response = await client.accept()
        assert (names(response), removed(response)) == (["b"], ["never"])
        assert removed(await client.accept()) == ["gone"]
        assert await client.is_quiet()
        world.publish(endpoints=resources("a", "b", "gone", b="changed"))
        assert names(await client.accept()) == ["gone"]


@in_loop
async def test_versions_of_names_that_are_not_asked_for_are_ignored() -> None:
    """What a client has but does not want is neither sent nor removed."""
    async with connected(endpoints=resources("a", "b")) as (world, client):
        await client.subscribe(ENDPOINTS, "a", held={"b": "older", "gone": "1"})
        assert names(await client.accept()) == ["a"]
        world.publish(endpoints=resources("a"))
        assert await client.is_quiet()


@in_loop
async def test_versions_survive_a_restart_of_the_server() -> None:
    """Versions are made of content: another server with the same content sends nothing."""
    async with connected(clusters=resources("a", "b")) as (_, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        held = client.held[CLUSTER]
    async with connected(clusters=resources("a", "b")) as (_, client):
        await client.subscribe(CLUSTER, held=held)
        assert await client.is_quiet()
