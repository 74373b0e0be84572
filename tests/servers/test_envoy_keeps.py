"""What Envoy does with what it is not told any more: the daemon counts on it when it starts anew."""

import asyncio
from collections.abc import Callable

import pytest

from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from tests.xds_messages import build_cluster, build_endpoints, build_listener, build_routes, by_name
from tests.xds_world import in_loop, open_world

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("delta", [True, False])
@in_loop
async def test_unknown_endpoints_are_kept(
    run_envoy: Callable[..., Envoy], run_echo: Callable[..., int], *, delta: bool
) -> None:
    """A server that starts anew and does not know a cluster's endpoints takes none away from a running Envoy."""
    port, echo = free_port(), run_echo("one")
    site = {
        "clusters": by_name(build_cluster("web")),
        "listeners": by_name(build_listener("listener", port, "routes")),
        "routes": by_name(build_routes("routes", "web")),
    }
    async with open_world() as world:
        address = world.address
        world.publish(**site, endpoints=by_name(build_endpoints("web", echo)))
        bootstrap = build_bootstrap(xds_port=world.server.port, admin_port=free_port(), delta=delta)
        envoy = await asyncio.to_thread(run_envoy, bootstrap, ready=True)
        await asyncio.to_thread(wait_until, lambda: fetch(port).status == 200, "the first answer", 10)
    async with open_world(address) as anew:
        anew.publish(**site, endpoints={})
        await asyncio.to_thread(wait_until, lambda: envoy.stat("control_plane.connected_state") == 1, "being back", 10)
        await anew.until(lambda: len(anew.cache.clients()) > 0)
        await asyncio.sleep(1.0)
        assert fetch(port).status == 200
        moved = run_echo("two")
        anew.publish(**site, endpoints=by_name(build_endpoints("web", moved)))
        await asyncio.to_thread(wait_until, lambda: "two" in fetch(port).text, "the new endpoint", 10)
