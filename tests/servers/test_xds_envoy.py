"""Real Envoys on the xDS server: what they are sent takes effect, and they reject none of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.fetch import Connection, fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.xds.misconfigured import ANSWER, build_misconfigured_snapshot
from tests.xds_client import ROLE
from tests.xds_messages import build_bad_cluster, build_cluster, build_endpoints, build_secret
from tests.xds_site import RunEnvoy, Site, becomes, running, served_by, serving, wait_for
from tests.xds_world import in_loop, open_world

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
@in_loop
async def test_changes_take_effect(run_envoy: RunEnvoy, run_echo: Callable[..., int], delta: bool) -> None:
    """Routes to a new cluster, moved instances, a changed cluster and a removed one, without an error in between."""
    ports = [await asyncio.to_thread(run_echo, name) for name in ("one", "two", "three")]
    async with serving(run_envoy, delta=delta, one=ports[0]) as (site, envoy):
        site.add("two", ports[1])
        site.target = "two"
        site.publish()
        assert set(await becomes(site, "two")) <= {"one"}
        site.endpoints["two"] = build_endpoints("two", ports[2])
        site.publish()
        assert set(await becomes(site, "three")) <= {"two"}
        site.clusters["two"] = build_cluster("two", connect_timeout=2.0)
        del site.clusters["one"], site.endpoints["one"]
        site.publish()
        await site.world.until(lambda: site.world.cache.clients()[0].types[0].is_current)
        assert await served_by(site) == "three"
        assert await asyncio.to_thread(envoy.stat, "cluster_manager.warming_clusters") == 0
        assert await asyncio.to_thread(envoy.stat, "cluster_manager.cluster_modified") == 1


@in_loop
async def test_a_certificate_is_rotated_by_sds(
    run_envoy: RunEnvoy, run_echo: Callable[..., int], tmp_path: Path
) -> None:
    """A renewed certificate reaches new connections without a change of the listener."""
    authority = Authority()
    roots = tmp_path / "roots.pem"
    roots.write_text(authority.certificate)
    first, second = authority.issue("gateway.test"), authority.issue("gateway.test")
    echo = await asyncio.to_thread(run_echo, "one")
    async with open_world() as world:
        site = Site(world, free_port(), secret="tls/gateway")
        site.add("one", echo)
        site.secrets["tls/gateway"] = build_secret("tls/gateway", first)
        site.publish()
        async with running(run_envoy, site) as envoy:

            def shown() -> bytes:
                with Connection(site.port, host="gateway.test", tls_roots=roots) as connection:
                    return connection.request("/").certificate

            await wait_for(lambda: shown() == first.der)
            updates = await asyncio.to_thread(envoy.stat, "listener_manager.lds.update_success")
            site.secrets["tls/gateway"] = build_secret("tls/gateway", second)
            site.publish()
            await wait_for(lambda: shown() == second.der)
            assert await asyncio.to_thread(envoy.stat, "listener_manager.lds.update_success") == updates


@in_loop
async def test_an_envoy_that_comes_back_is_sent_nothing(run_envoy: RunEnvoy, run_echo: Callable[..., int]) -> None:
    """After a restart of the server with the same configuration Envoy connects, asks, and has everything."""
    echo = await asyncio.to_thread(run_echo, "one")
    async with serving(run_envoy, one=echo) as (site, _):
        await site.world.until(lambda: site.world.cache.clients()[0].types[-1].is_current)
        address = site.world.address
        await site.world.server.stop(1.0)
        async with open_world(address) as second:
            Site(second, site.port, site.clusters, site.endpoints).publish()
            await wait_for(lambda: [len(client.types) for client in second.cache.clients()] == [4])
            await asyncio.sleep(0.5)
            sent = {state.type_url: state.sent_version for state in second.cache.clients()[0].types}
            assert set(sent.values()) == {""}
            assert await served_by(site) == "one"
            site.world = second
            site.add("two", echo)
            site.publish()
            await second.until(lambda: second.metric("gloo_nomad_xds_acks_total", type="Cluster") == 1)
            assert second.metric("gloo_nomad_xds_resources_total", type="Cluster") == 1


@in_loop
async def test_a_rejected_cluster_is_named(run_envoy: RunEnvoy, run_echo: Callable[..., int]) -> None:
    """Envoy's rejection is reported for the one bad resource; the good one beside it is in service."""
    echo = await asyncio.to_thread(run_echo, "one")
    async with serving(run_envoy, rejects=1, one=echo) as (site, _):
        site.add("two", echo)
        site.clusters["bad"] = build_bad_cluster("bad")
        site.target = "two"
        site.publish()
        await site.world.until(lambda: bool(site.world.nacks))
        role, node, _, names, message = site.world.nacks[0]
        assert (role, node, names) == (ROLE, "gateway-proxy-1", ("bad",))
        assert "bad" in message
        assert await served_by(site) == "one"
        site.clusters["bad"] = build_cluster("bad")
        site.publish()
        await site.world.until(lambda: bool(site.world.recoveries))
        assert site.world.recoveries[0][3] == ("bad",)


@in_loop
async def test_a_node_without_a_role_answers_what_is_wrong(run_envoy: RunEnvoy) -> None:
    """The configuration for a misconfigured node is one that Envoy serves."""
    async with open_world() as world:
        site = Site(world, free_port())
        world.cache.publish({ROLE: build_misconfigured_snapshot(ipv4_only=True, port=site.port)})
        async with running(run_envoy, site):
            await wait_for(lambda: fetch(site.port, "/").text == ANSWER)
            assert (await asyncio.to_thread(fetch, site.port, "/")).status == 500
