"""Virtual hosts as resources of their own, with a real Envoy: no 404 in between, and only what changed travels."""

import asyncio
from types import MappingProxyType
from typing import Any

import pytest
from envoy.config.route.v3 import route_components_pb2
from google.protobuf import any_pb2

from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.messages import to_bytes, version_of
from gloo_nomad.resources import ROUTES, VIRTUAL_HOST, Resource, XdsSnapshot
from tests.route_forms import RunEnvoy, Site, Traffic, answering, answering_all, gateway, running, serving, start
from tests.xds_client import ROLE
from tests.xds_world import in_loop, open_world

pytestmark = pytest.mark.envoy
MANY = 300


@in_loop
async def test_a_new_envoy_answers_nothing_before_it_has_all(run_envoy: RunEnvoy) -> None:
    """Its ports are closed until the virtual hosts are there, of two gateways as well; then every answer is right."""
    other = free_port()
    async with serving("always", gateway(other, "gw2"), answering_all(MANY)) as site:
        traffic = [Traffic(port, ("vs0.test", f"vs{MANY - 1}.test")) for port in (site.port, other)]
        with traffic[0].flowing(), traffic[1].flowing():
            await start(run_envoy, site)
            await asyncio.to_thread(
                wait_until, lambda: all(each.statuses["200"] > 20 for each in traffic), "answers", 30.0
            )
        assert all(each.statuses.keys() <= {"200", "refused", "closed"} for each in traffic), traffic
        assert site.xds.nacks == []
        assert site.sent("VirtualHost") == 2 * MANY


@in_loop
async def test_there_and_back_under_traffic(run_envoy: RunEnvoy) -> None:
    """From whole to split, and back, and again: no request fails, whatever connection it comes on."""
    async with running(run_envoy, "never", answering_all(MANY)) as (site, envoy):
        await site.becomes("vs0.test", "vs0")
        traffic = Traffic(site.port, ("vs0.test", f"vs{MANY - 1}.test"))
        with traffic.flowing():
            for number, how in enumerate(("always", "never", "always")):
                site.use(how)
                site.put(answering("vs0", f"round{number}"))
                await site.becomes("vs0.test", f"round{number}")
                site.put(answering("new", f"new{number}"))
                await site.becomes("new.test", f"new{number}")
                site.remove("new")
                await site.becomes("new.test", "404")
        assert traffic.statuses.keys() <= {"200", "closed"}, traffic.statuses
        assert traffic.statuses["200"] > 100
        assert await asyncio.to_thread(envoy.stat, "listener_manager.total_listeners_warming") == 0


@in_loop
async def test_only_what_changed_travels(run_envoy: RunEnvoy) -> None:
    """A change is one virtual host; one that comes, one that goes, and domains that move between two."""
    async with running(run_envoy, "always", answering_all(MANY)) as (site, envoy):
        await site.becomes("vs7.test", "vs7")
        before, routes = site.sent("VirtualHost"), site.sent("RouteConfiguration")
        site.put(answering("vs7", "changed"))
        await site.becomes("vs7.test", "changed")
        assert site.sent("VirtualHost") == before + 1
        site.put(answering("one", domain="moving.test"))
        await site.becomes("moving.test", "one")
        site.objects.put(answering("two", domain="moving.test"))
        site.remove("one")
        await site.becomes("moving.test", "two")
        site.objects.put(answering("vs8", domain="vs9.test"))
        site.put(answering("vs9", domain="vs8.test"))
        await site.becomes("vs8.test", "vs9")
        await site.becomes("vs9.test", "vs8")
        site.remove("two")
        await site.becomes("moving.test", "404")
        assert site.sent("RouteConfiguration") == routes
        assert await asyncio.to_thread(envoy.stat, "listener_manager.listener_modified") == 0


@in_loop
async def test_domains_match_as_before(run_envoy: RunEnvoy) -> None:
    """Exact before suffix before prefix before all, ports and letter case; the same in both forms."""
    kinds = {"exact": "a.b.test", "suffix": "*.b.test", "prefix": "a.*", "all": "*", "port": "p.test:81"}
    hosts = {"a.b.test": "exact", "A.B.TEST": "exact", "x.b.test": "suffix", "a.c": "prefix", "z": "all"}
    hosts |= {"p.test:81": "port", "p.test": "all"}
    objects = "---\n".join(answering(name, domain=domain) for name, domain in kinds.items())
    async with running(run_envoy, "always", objects) as (site, _):
        for how in ("always", "never"):
            site.use(how)
            for host, expected in hosts.items():
                await site.becomes(host, expected)


@in_loop
async def test_an_envoy_that_comes_back_is_sent_nothing(run_envoy: RunEnvoy) -> None:
    """Virtual hosts that did not change are not sent again; one that did is, and one that is gone is taken away."""
    async with running(run_envoy, "always", answering_all(MANY)) as (site, _):
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
            assert site.sent("VirtualHost") == 1
            assert site.sent("RouteConfiguration") == site.sent("Listener") == 0


def with_host(snapshot: XdsSnapshot, name: str, message: Any) -> XdsSnapshot:
    """The snapshot with a virtual host put in by hand."""
    (routes,) = snapshot.for_delta().of(ROUTES)
    message.name = f"{routes}/{name}"
    body = to_bytes(message)
    hosts = {**snapshot.delta[VIRTUAL_HOST], message.name: Resource(message.name, version_of(body), body)}
    return XdsSnapshot(snapshot.types, MappingProxyType({**snapshot.delta, VIRTUAL_HOST: hosts}))


def bad_host(domain: str) -> Any:
    """One that Envoy refuses: the configuration of a filter that it does not have."""
    host = route_components_pb2.VirtualHost(domains=[domain])
    host.typed_per_filter_config["none"].CopyFrom(any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Struct"))
    return host


@in_loop
async def test_a_rejected_virtual_host_spoils_only_itself(run_envoy: RunEnvoy) -> None:
    """It is named, and what came with it takes effect; when it is good, Envoy has it."""
    async with serving("always", answering_all(MANY)) as site:
        await start(run_envoy, site)
        await site.becomes("vs0.test", "vs0")
        for number in range(20):
            site.objects.put(answering(f"vs{number}", "changed"))
        site.objects.remove("VirtualService", "vs30")
        snapshot = site.objects.snapshot(ROLE)
        site.xds.cache.publish({ROLE: with_host(snapshot, "gloo-system_vs10", bad_host("vs10.test"))})
        for number in (0, 9, 11, 19):
            await site.becomes(f"vs{number}.test", "changed")
        await site.becomes("vs30.test", "404")
        await site.xds.until(lambda: bool(site.xds.nacks))
        assert await asyncio.to_thread(site.ask, "vs10.test") == "vs10"
        assert {names for _, _, _, names, _ in site.xds.nacks} == {
            (f"listener-127.0.0.1-{site.port}-routes-vhds/gloo-system_vs10",)
        }
        site.put(answering("vs10", "mended"))
        await site.becomes("vs10.test", "mended")
        await site.xds.until(lambda: bool(site.xds.recoveries))


@in_loop
async def test_state_of_the_world_is_whole(run_envoy: RunEnvoy) -> None:
    """An Envoy that asks for the state of the world beside one that does not: both are served, both follow."""
    async with running(run_envoy, "always", answering_all(3)) as (site, _):
        await site.becomes("vs0.test", "vs0")
        other = free_port()
        site.objects.put(gateway(other, "gw2"))
        async with open_world() as xds:
            second = Site(site.objects, xds, other)
            second.publish()
            await start(run_envoy, second, delta=False)
            await second.becomes("vs0.test", "vs0")
            site.put(answering("vs0", "changed"))
            second.publish()
            await second.becomes("vs0.test", "changed")
            await site.becomes("vs0.test", "changed")
            assert second.sent("VirtualHost") == 0
            assert xds.nacks == []
