"""A RouteConfiguration for each host name, with a real Envoy: what is found, what travels, and no request lost."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.envoy.names import SCOPE_HEADER, scope_key
from tests.pipeline.envoy_world import TO_UP, upstream, virtual_service
from tests.route_forms import RunEnvoy, Site, Traffic, answering, answering_all, gateway, running, serving, start
from tests.xds_world import in_loop, open_world

pytestmark = pytest.mark.envoy
MANY = 100


@in_loop
async def test_hosts(run_envoy: RunEnvoy) -> None:
    """With and without port and brackets as in one table; only letter case counts, as it does not there."""
    domains = {"plain": "A.test", "port": "a.test:81", "any": "b.test:*", "v6": "[::1]", "v6port": "[::2]:81"}
    objects = "---\n".join(answering(name, domain=domain) for name, domain in domains.items())
    hosts = {"a.test": "plain", "a.test:81": "port", "a.test:82": "404", "b.test": "404", "b.test:7": "any"}
    hosts |= {"[::1]": "v6", "[::1]:81": "404", "[::2]:81": "v6port", "[::3]": "404", "other.test": "404"}
    async with running(run_envoy, "scoped", objects) as (site, _):
        for how, upper in (("scoped", "404"), ("never", "plain"), ("scoped", "404")):
            site.use(how)
            await site.becomes("A.TEST", upper)
            for host, expected in hosts.items():
                await site.becomes(host, expected)


@in_loop
async def test_only_what_changed_travels(run_envoy: RunEnvoy) -> None:
    """A change is one RouteConfiguration; one that comes, one that goes, and a host name that moves between two."""
    async with running(run_envoy, "scoped", answering_all(MANY)) as (site, envoy):
        await site.becomes("vs7.test", "vs7")
        assert site.sent("RouteConfiguration") == site.sent("ScopedRouteConfiguration") == MANY
        site.put(answering("vs7", "changed"))
        await site.becomes("vs7.test", "changed")
        assert site.sent("RouteConfiguration") == MANY + 1
        site.put(answering("one", domain="moving.test"))
        await site.becomes("moving.test", "one")
        site.objects.put(answering("two", domain="moving.test"))
        site.remove("one")
        await site.becomes("moving.test", "two")
        site.put(answering("three", domain="moving.test:81"))
        await site.becomes("moving.test:81", "three")
        await site.becomes("moving.test", "two")
        site.remove("two")
        await site.becomes("moving.test", "404")
        site.remove("three")
        await site.becomes("moving.test:81", "404")
        assert site.sent("ScopedRouteConfiguration") == MANY + 1
        assert await asyncio.to_thread(envoy.stat, "listener_manager.listener_modified") == 0


@in_loop
async def test_there_and_back_under_traffic(run_envoy: RunEnvoy) -> None:
    """From and to every other form, behind two gateways: no request fails, whatever connection it comes on."""
    other = free_port()
    async with running(run_envoy, "never", gateway(other, "gw2"), answering_all(MANY)) as (site, envoy):
        await site.becomes("vs0.test", "vs0")
        traffic = [Traffic(port, ("vs0.test", f"vs{MANY - 1}.test")) for port in (site.port, other)]
        with traffic[0].flowing(), traffic[1].flowing():
            for number, how in enumerate(("scoped", "never", "scoped", "always", "scoped")):
                site.use(how)
                site.put(answering("vs0", f"round{number}"))
                await site.becomes("vs0.test", f"round{number}")
                site.put(answering("new", f"new{number}"))
                await site.becomes("new.test", f"new{number}")
                site.remove("new")
                await site.becomes("new.test", "404")
        for each in traffic:
            assert each.statuses.keys() <= {"200", "closed"}, each.statuses
            assert each.statuses["200"] > 100
        assert await asyncio.to_thread(envoy.stat, "listener_manager.total_listeners_warming") == 0


@in_loop
async def test_a_wildcard_falls_back_under_traffic(run_envoy: RunEnvoy) -> None:
    """Who asks for one is warned; the gateway serves all of them together until it is gone, and drops no request."""
    async with running(run_envoy, "scoped", answering_all(MANY)) as (site, envoy):
        await site.becomes("vs0.test", "vs0")
        traffic = Traffic(site.port, ("vs0.test", f"vs{MANY - 1}.test"))
        with traffic.flowing():
            site.put(answering("wild", domain="*.wild.test"))
            await site.becomes("x.wild.test", "wild")
            (said,) = site.objects.said("VirtualService", "wild")
            assert said.startswith("warning virtualHost.domains: *.wild.test is no host name")
            site.remove("wild")
            await site.becomes("x.wild.test", "404")
            site.put(answering("vs0", "later"))
            await site.becomes("vs0.test", "later")
        assert traffic.statuses.keys() <= {"200", "closed"}, traffic.statuses
        assert await asyncio.to_thread(envoy.stat, "listener_manager.listener_modified") == 2


@in_loop
async def test_gateways_have_scopes_of_their_own(run_envoy: RunEnvoy) -> None:
    """The same host name behind two gateways leads to what each of them has, and to nothing of the other."""
    other = free_port()
    second = gateway(other, "gw2").replace("httpGateway: {}", "httpGateway: {virtualServiceSelector: {which: second}}")
    mine = answering("mine", domain="both.test").replace("name: mine,", "labels: {which: second}, name: mine,")
    async with serving("scoped") as site:
        first = gateway(site.port).replace("httpGateway: {}", "httpGateway: {virtualServiceSelector: {which: first}}")
        theirs = answering("theirs", domain="both.test").replace(
            "name: theirs,", "labels: {which: first}, name: theirs,"
        )
        only = answering("only", domain="only.test").replace("name: only,", "labels: {which: first}, name: only,")
        site.put(first, second, mine, theirs, only)
        await start(run_envoy, site)
        beside = Site(site.objects, site.xds, other)
        await site.becomes("both.test", "theirs")
        await beside.becomes("both.test", "mine")
        await site.becomes("only.test", "only")
        await beside.becomes("only.test", "404")
        assert site.xds.nacks == []


@in_loop
async def test_the_header_is_ours(run_envoy: RunEnvoy, run_echo: Callable[[], int]) -> None:
    """What a client says in it counts for nothing, and no upstream sees it."""
    to_echo = virtual_service(TO_UP, name="echo", domains="[echo.test]")
    spec = f"static: {{hosts: [{{addr: 127.0.0.1, port: {await asyncio.to_thread(run_echo)}}}]}}"
    async with running(run_envoy, "scoped", upstream(spec=spec), to_echo, answering("vs0")) as (site, _):
        await site.becomes("vs0.test", "vs0")
        forged = {SCOPE_HEADER: f"{scope_key(f'listener-127.0.0.1-{site.port}-routes')}:vs0.test"}
        answer = await asyncio.to_thread(fetch, site.port, "/", host="echo.test", headers=forged)
        assert answer.status == 200
        assert SCOPE_HEADER not in answer.json()["headers"]


@in_loop
async def test_a_gateway_that_is_added(run_envoy: RunEnvoy) -> None:
    """It opens its port when its scopes are there: the first answer on it is right."""
    other = free_port()
    async with running(run_envoy, "scoped", answering_all(MANY)) as (site, _):
        await site.becomes("vs0.test", "vs0")
        traffic = Traffic(other, ("vs0.test", f"vs{MANY - 1}.test"))
        with traffic.flowing():
            site.put(gateway(other, "gw2"))
            await asyncio.to_thread(wait_until, lambda: traffic.statuses["200"] > 20, "answers", 30.0)
        assert traffic.statuses.keys() <= {"200", "refused", "closed"}, traffic.statuses


@in_loop
async def test_a_gateway_that_is_edited(run_envoy: RunEnvoy) -> None:
    """Its new listener takes the scopes over that are there; what changes later reaches it."""
    async with running(run_envoy, "scoped", answering_all(MANY)) as (site, envoy):
        await site.becomes("vs0.test", "vs0")
        traffic = Traffic(site.port, ("vs0.test",))
        with traffic.flowing():
            site.put(gateway(site.port).replace("httpGateway: {}", "httpGateway: {options: {gzip: {}}}"))
            await asyncio.to_thread(
                wait_until, lambda: envoy.stat("listener_manager.listener_modified") == 1, "the edit", 30.0
            )
            site.put(answering("vs0", "later"))
            await site.becomes("vs0.test", "later")
        assert traffic.statuses.keys() <= {"200", "closed"}, traffic.statuses


@in_loop
async def test_a_new_envoy_answers_nothing_before_it_has_all(run_envoy: RunEnvoy) -> None:
    """Its ports are closed until all routes are there, of two gateways as well; then every answer is right."""
    other = free_port()
    async with serving("scoped", gateway(other, "gw2"), answering_all(MANY)) as site:
        traffic = [Traffic(port, ("vs0.test", f"vs{MANY - 1}.test")) for port in (site.port, other)]
        with traffic[0].flowing(), traffic[1].flowing():
            await start(run_envoy, site)
            await asyncio.to_thread(
                wait_until, lambda: all(each.statuses["200"] > 20 for each in traffic), "answers", 30.0
            )
        assert all(each.statuses.keys() <= {"200", "refused", "closed"} for each in traffic), traffic
        assert site.xds.nacks == []


@in_loop
async def test_an_envoy_that_comes_back_is_sent_nothing(run_envoy: RunEnvoy) -> None:
    """What did not change is not sent again; what did is, and what is gone is taken away."""
    async with running(run_envoy, "scoped", answering_all(MANY)) as (site, _):
        await site.becomes("vs0.test", "vs0")
        address = site.xds.address
        await site.xds.server.stop(1.0)
        async with open_world(address) as second:
            site.xds = second
            site.objects.put(answering("vs1", "later"))
            site.remove("vs2")
            await site.becomes("vs1.test", "later")
            await site.becomes("vs2.test", "404")
            assert await asyncio.to_thread(site.ask, "vs0.test") == "vs0"
            assert site.sent("RouteConfiguration") == 1
            assert site.sent("ScopedRouteConfiguration") == site.sent("Listener") == 0


@in_loop
async def test_state_of_the_world(run_envoy: RunEnvoy) -> None:
    """The other protocol has the same scopes."""
    async with serving("scoped", answering_all(3)) as site:
        await start(run_envoy, site, delta=False)
        await site.becomes("vs0.test", "vs0")
        site.put(answering("vs0", "changed"), answering("new"))
        await site.becomes("vs0.test", "changed")
        await site.becomes("new.test", "new")
        site.remove("vs1")
        await site.becomes("vs1.test", "404")
        assert site.xds.nacks == []


@in_loop
async def test_scopes_are_used_again_when_all_that_used_them_is_gone(run_envoy: RunEnvoy) -> None:
    """Envoy has forgotten them by then, and would not ask; no request fails, nor ever did."""
    other = free_port()
    async with serving("scoped", gateway(other, "gw2"), answering_all(MANY)) as site:
        envoy = await start(run_envoy, site, drain_seconds=1)
        traffic = [Traffic(port, ("vs0.test", f"vs{MANY - 1}.test")) for port in (site.port, other)]
        await site.becomes("vs0.test", "vs0")
        with traffic[0].flowing(), traffic[1].flowing():
            for number, how in enumerate(("never", "scoped", "always", "scoped")):
                site.use(how)
                site.put(answering("vs0", f"round{number}"))
                await site.becomes("vs0.test", f"round{number}")
                await Site(site.objects, site.xds, other).becomes("vs0.test", f"round{number}")
                await asyncio.to_thread(wait_until, partial(_is_quiet, envoy, 2 + 2 * number), "drained", 30.0)
        for each in traffic:
            assert each.statuses.keys() <= {"200", "closed"}, each.statuses
        assert site.xds.nacks == []


def _is_quiet(envoy: Envoy, modified: int) -> bool:
    """Whether so many listeners were replaced, and nothing is left of those before."""
    states = ("listener_manager.total_listeners_warming", "listener_manager.total_listeners_draining")
    return envoy.stat("listener_manager.listener_modified") >= modified and not any(map(envoy.stat, states))
