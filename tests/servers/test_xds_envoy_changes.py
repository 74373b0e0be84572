"""What comes, changes, goes and is refused, as a real Envoy takes it by both protocols."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.messages import version_of
from gloo_nomad.resources import ENDPOINTS, LISTENER, ROUTES, Resource
from tests.xds_client import ROLE
from tests.xds_messages import build_cluster, build_endpoints, build_listener, build_routes, build_secret
from tests.xds_site import RunEnvoy, Site, becomes, running, served_by, serving, wait_for
from tests.xds_world import in_loop, open_world

pytestmark = pytest.mark.envoy
RunEcho = Callable[..., int]
REFUSED = "ConnectionRefusedError"
both = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


ALL = 4
"""Types that the Envoy asks for: clusters, endpoints, listeners, routes."""


@asynccontextmanager
async def asking(site: Site) -> AsyncIterator[Counter[str]]:
    """Asks all the time; how often who answered."""
    answers: Counter[str] = Counter()

    async def ask() -> None:
        while True:
            answers[await served_by(site)] += 1

    task = asyncio.create_task(ask(), name="asking")
    try:
        yield answers
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def replace_cluster(site: Site, name: str, port: int) -> None:
    """Publishes a cluster and routes to it, and none of the clusters that there were."""
    site.clusters.clear()
    site.endpoints.clear()
    site.add(name, port)
    site.target = name
    site.publish()


def garbage(name: str) -> Resource:
    """Bytes that are no message."""
    return Resource(name, version_of(b"\xff\xff"), b"\xff\xff")


@both
@in_loop
async def test_a_listener_goes_and_comes_back(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """A removed listener does not listen; put back, it does."""
    one = await asyncio.to_thread(run_echo, "one")
    async with serving(run_envoy, delta=delta, one=one) as (site, _):
        site.listeners = {}
        site.publish()
        await becomes(site, REFUSED)
        site.listeners = None
        site.publish()
        await becomes(site, "one")


@both
@in_loop
async def test_a_second_listener_disturbs_nobody(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """One more listener with routes of its own; the first one is neither changed nor drained."""
    one = await asyncio.to_thread(run_echo, "one")
    two = await asyncio.to_thread(run_echo, "two")
    async with serving(run_envoy, delta=delta, one=one, two=two) as (site, envoy):
        second = replace(site, port=free_port())
        site.listeners = {
            "listener": build_listener("listener", site.port, "routes"),
            "second": build_listener("second", second.port, "others"),
        }
        site.routes = {"others": build_routes("others", "two")}
        site.publish()
        await becomes(second, "two")
        assert await served_by(site) == "one"
        assert await asyncio.to_thread(envoy.stat, "listener_manager.listener_modified") == 0


@both
@in_loop
async def test_the_last_instance_goes_and_one_comes(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """A cluster without instances answers 503, and works again when it has one."""
    echo = await asyncio.to_thread(run_echo, "one")
    async with serving(run_envoy, delta=delta, one=echo) as (site, _):
        site.add("one")
        site.publish()
        await becomes(site, "503")
        site.add("one", echo)
        site.publish()
        await becomes(site, "one")


@both
@in_loop
async def test_a_cluster_that_comes_after_its_route(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """A route to a cluster that does not exist yet answers 503 by itself, and works once the cluster is there."""
    async with open_world() as world:
        site = Site(world, free_port(), target="late")
        site.publish()
        async with running(run_envoy, site, delta=delta):
            await becomes(site, "503")
            site.add("late", await asyncio.to_thread(run_echo, "late"))
            site.publish()
            await becomes(site, "late")


@both
@in_loop
async def test_rejected_routes_keep_the_old_ones(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """Routes that Envoy refuses are named, those before are served, and the next good ones are taken."""
    one = await asyncio.to_thread(run_echo, "one")
    two = await asyncio.to_thread(run_echo, "two")
    async with serving(run_envoy, delta=delta, rejects=1, one=one, two=two) as (site, _):
        site.routes = {"routes": garbage("routes")}
        site.publish()
        await wait_for(lambda: bool(site.world.nacks))
        assert site.world.nacks[0][2:4] == (ROUTES, ("routes",))
        assert await served_by(site) == "one"
        site.routes, site.target = {}, "two"
        site.publish()
        await becomes(site, "two")


@both
@in_loop
async def test_a_rejected_listener_keeps_the_old_one(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """A listener without an address is refused; the one before goes on listening."""
    one = await asyncio.to_thread(run_echo, "one")
    async with serving(run_envoy, delta=delta, rejects=1, one=one) as (site, _):
        site.listeners = {"listener": garbage("listener")}
        site.publish()
        await wait_for(lambda: bool(site.world.nacks))
        assert site.world.nacks[0][2:4] == (LISTENER, ("listener",))
        assert await served_by(site) == "one"
        site.listeners = None
        site.publish()
        await wait_for(lambda: bool(site.world.recoveries))
        assert await served_by(site) == "one"


@both
@in_loop
async def test_a_certificate_that_comes_late(
    run_envoy: RunEnvoy, run_echo: RunEcho, tmp_path: Path, delta: bool
) -> None:
    """A listener whose secret does not exist yet speaks TLS as soon as there is one."""
    authority = Authority()
    roots = tmp_path / "roots.pem"
    roots.write_text(authority.certificate)
    one = await asyncio.to_thread(run_echo, "one")
    async with serving(run_envoy, delta=delta, one=one) as (site, _):
        port = free_port()
        site.listeners = {"tls": build_listener("tls", port, "routes", secret="tls/late")}
        site.publish()
        await asyncio.sleep(0.5)
        pair = authority.issue("gateway.test")
        site.secrets["tls/late"] = build_secret("tls/late", pair)
        site.publish()
        await wait_for(lambda: fetch(port, host="gateway.test", tls_roots=roots).certificate == pair.der)


@both
@in_loop
async def test_a_storm_of_publications(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """Two hundred publications in a row end with the last one, without a rejection or an error in between."""
    ports = [await asyncio.to_thread(run_echo, name) for name in ("one", "two")]
    async with serving(run_envoy, delta=delta, one=ports[0]) as (site, _):
        for number in range(200):
            name = f"cluster-{number}"
            site.add(name, ports[number % 2])
            site.target = name
            site.clusters.pop(f"cluster-{number - 3}", None)
            site.endpoints.pop(f"cluster-{number - 3}", None)
            site.publish()
            await asyncio.sleep(0)
        assert set(await becomes(site, "two")) <= {"one"}
        await wait_for(lambda: all(state.is_current for state in site.world.cache.clients()[0].types))
        assert await served_by(site) == "two"


@both
@in_loop
async def test_a_changed_cluster_and_its_endpoints_at_once(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """A cluster that changes together with its instances warms and is used."""
    ports = [await asyncio.to_thread(run_echo, name) for name in ("one", "two")]
    async with serving(run_envoy, delta=delta, one=ports[0]) as (site, envoy):
        site.clusters["one"] = build_cluster("one", connect_timeout=3.0)
        site.endpoints["one"] = build_endpoints("one", ports[1])
        site.publish()
        assert set(await becomes(site, "two")) <= {"one"}
        assert await asyncio.to_thread(envoy.stat, "cluster_manager.warming_clusters") == 0


@both
@in_loop
async def test_the_fast_path_of_endpoints(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """Endpoints that are published by themselves move requests; no cluster is sent again."""
    ports = [await asyncio.to_thread(run_echo, name) for name in ("one", "two")]
    async with serving(run_envoy, delta=delta, one=ports[0]) as (site, _):
        clusters = site.world.metric("gloo_nomad_xds_resources_total", type="Cluster")
        site.world.cache.publish_type(ROLE, ENDPOINTS, {"one": build_endpoints("one", ports[1])})
        assert set(await becomes(site, "two")) <= {"one"}
        assert site.world.metric("gloo_nomad_xds_resources_total", type="Cluster") == clusters


@both
@in_loop
async def test_clusters_are_replaced_under_traffic(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """Thirty times one cluster takes the place of another: each request is answered by an instance."""
    ports = {name: await asyncio.to_thread(run_echo, name) for name in ("one", "two")}
    async with serving(run_envoy, delta=delta, one=ports["one"]) as (site, _), asking(site) as answers:
        for number in range(30):
            name = ("two", "one")[number % 2]
            replace_cluster(site, f"cluster-{number}", ports[name])
            await becomes(site, name)
        assert answers.keys() <= {"one", "two"}


@both
@in_loop
async def test_a_change_after_a_restart_of_the_server(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """Who comes back to a server that has what the last one had does not lose a cluster to the next change."""
    ports = [await asyncio.to_thread(run_echo, name) for name in ("one", "two")]
    async with serving(run_envoy, delta=delta, one=ports[0]) as (site, _), asking(site) as answers:
        address = site.world.address
        await site.world.server.stop(1.0)
        async with open_world(address) as second:
            site.world = second
            site.publish()
            await wait_for(lambda: len(second.cache.clients()) == 1 and len(second.cache.clients()[0].types) == ALL)
            replace_cluster(site, "cluster-two", ports[1])
            await becomes(site, "two")
            assert answers.keys() <= {"one", "two"}


@both
@in_loop
async def test_a_change_while_the_server_was_away(run_envoy: RunEnvoy, run_echo: RunEcho, delta: bool) -> None:
    """Requests are answered without a server; what changed meanwhile is taken from the next one.

    As state of the world Envoy says what it has as a version that this server never had, so that the response with the
    new cluster cannot have the old one. Until Envoy has taken the routes, which come next, it has no cluster for them.
    """
    ports = [await asyncio.to_thread(run_echo, name) for name in ("one", "two")]
    async with serving(run_envoy, delta=delta, one=ports[0]) as (site, _):
        address = site.world.address
        await site.world.server.stop(1.0)
        assert await served_by(site) == "one"
        async with open_world(address) as second:
            site.world = second
            replace_cluster(site, "two", ports[1])
            seen = await becomes(site, "two")
            assert seen in ([], ["one"]) or (not delta and seen in (["503"], ["one", "503"]))
            await wait_for(lambda: all(state.is_current for state in second.cache.clients()[0].types))
            assert [await served_by(site) for _ in range(20)] == ["two"] * 20


@in_loop
async def test_two_protocols_at_once(run_envoy: RunEnvoy, run_echo: RunEcho, tmp_path: Path) -> None:
    """An Envoy of each protocol in one role are both served, and both counted."""
    async with open_world() as world:
        first = Site(world, free_port())
        first.add("one", await asyncio.to_thread(run_echo, "one"))
        first.publish()
        async with running(run_envoy, first), running(run_envoy, first, delta=False):
            await becomes(first, "one")
            protocols = sorted(client.protocol for client in world.cache.clients())
            assert protocols == ["delta", "sotw"]
            first.add("two", await asyncio.to_thread(run_echo, "two"))
            first.target = "two"
            first.publish()
            await becomes(first, "two")
            await wait_for(lambda: all(state.is_current for client in world.cache.clients() for state in client.types))
