"""What becomes of configuration that passes every check of ours and that a real Envoy refuses all the same."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from envoy.config.core.v3 import extension_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2

from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.messages import to_bytes, version_of
from gloo_nomad.resources import Resource
from tests.site import Place, direct, host
from tests.xds_messages import build_cluster, build_endpoints, build_listener, build_routes, by_name
from tests.xds_world import in_loop, open_world

pytestmark = pytest.mark.envoy


def build_bad_routes(name: str, cluster: str) -> Resource:
    """A RouteConfiguration with settings of a filter that Envoy does not have."""
    route = route_components_pb2.Route(
        match=route_components_pb2.RouteMatch(prefix="/"), route=route_components_pb2.RouteAction(cluster=cluster)
    )
    route.typed_per_filter_config["no.such.filter"].Pack(extension_pb2.TypedExtensionConfig(name="x"))
    host_of_all = route_components_pb2.VirtualHost(name="all", domains=["*"], routes=[route])
    body = to_bytes(route_pb2.RouteConfiguration(name=name, virtual_hosts=[host_of_all]))
    return Resource(name, version_of(body), body)


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
@pytest.mark.consul
def test_a_listener_that_envoy_refuses(place: Place, run_envoy: Callable[..., Envoy], *, delta: bool) -> None:
    """An access log in a missing folder: the Gateway says so, the rest goes on, a new Envoy has the last listener."""
    daemon = place.start()
    port = place.free_port()

    def put_gateway(**options: object) -> None:
        gateway = {"bindAddress": "127.0.0.1", "bindPort": port, "httpGateway": {}, **options}
        daemon.put("Gateway", "gateway-proxy", gateway)

    def logging_to(folder: Path) -> dict[str, object]:
        sink = {"path": str(folder / "access.log"), "stringFormat": "%RESPONSE_CODE%\n"}
        return {"options": {"accessLoggingService": {"accessLog": [{"fileSink": sink}]}}}

    def answers(domain: str) -> str:
        try:
            return fetch(port, "/", host=domain).text
        except OSError as failure:
            return type(failure).__name__

    put_gateway()
    daemon.put("VirtualService", "vs", host("vs.test", direct("one")))
    bootstrap = build_bootstrap(xds_port=daemon.xds_port, admin_port=place.free_port(), delta=delta)
    envoy = run_envoy(bootstrap, ready=True)
    wait_until(lambda: answers("vs.test") == "one", "the first answer", 20)

    put_gateway(**logging_to(place.folder / "missing"))
    status = daemon.wait_status("Gateway", "gateway-proxy", "Rejected")
    assert "Envoy rejected" in status["reason"]
    assert "missing" in status["reason"]
    daemon.put("VirtualService", "vs", host("vs.test", direct("two")))
    wait_until(lambda: answers("vs.test") == "two", "the change beside what is refused", 20)
    refused = envoy.stat("listener_manager.lds.update_rejected")
    assert refused == 1

    envoy.stop()
    envoy = run_envoy({**bootstrap, "admin": build_bootstrap(xds_port=1, admin_port=place.free_port())["admin"]})
    wait_until(lambda: answers("vs.test") == "two", "the listener as it last was", 20)
    assert envoy.stat("listener_manager.lds.update_rejected") == 0
    assert daemon.status("Gateway", "gateway-proxy")["state"] == "Rejected"

    (place.folder / "there").mkdir()
    put_gateway(**logging_to(place.folder / "there"))
    daemon.wait_status("Gateway", "gateway-proxy", "Accepted")
    wait_until(lambda: bool(answers("vs.test") and (place.folder / "there" / "access.log").read_text()), "the log", 20)


@in_loop
async def test_routes_beside_routes_that_envoy_refuses(
    run_envoy: Callable[..., Envoy], run_echo: Callable[..., int]
) -> None:
    """Envoy takes none or some of a response with one bad RouteConfiguration; the good ones reach it all the same."""
    names, echo = ("routes-a", "routes-b", "routes-c", "routes-d"), run_echo("one")
    ports = {name: free_port() for name in names}
    site = {
        "clusters": by_name(build_cluster("web"), build_cluster("other")),
        "endpoints": by_name(build_endpoints("web", echo), build_endpoints("other", run_echo("two"))),
        "listeners": by_name(*(build_listener(f"listener-{name}", ports[name], name) for name in names)),
    }

    async def becomes(name: str, instance: str) -> None:
        def answers() -> bool:
            answer = fetch(ports[name])
            return answer.status == 200 and answer.json()["instance"] == instance

        await asyncio.to_thread(wait_until, answers, f"{name} leading to {instance}", 20)

    async with open_world() as world:
        world.publish(**site, routes=by_name(*(build_routes(name, "web") for name in names)))
        bootstrap = build_bootstrap(xds_port=world.server.port, admin_port=free_port())
        envoy = await asyncio.to_thread(run_envoy, bootstrap, ready=True)
        for name in names:
            await becomes(name, "one")
        changed = [build_routes(name, "other") for name in names if name != "routes-b"]
        world.publish(**site, routes=by_name(*changed, build_bad_routes("routes-b", "other")))
        for name in names:
            await becomes(name, "one" if name == "routes-b" else "two")
        await world.until(lambda: bool(world.nacks))
        assert {report[3] for report in world.nacks} == {("routes-b",)}
        assert "no.such.filter" in world.nacks[0][4]

        await asyncio.to_thread(envoy.stop)
        anew = {**bootstrap, "admin": build_bootstrap(xds_port=1, admin_port=free_port())["admin"]}
        await asyncio.to_thread(run_envoy, anew, ready=True)
        for name in names:
            await becomes(name, "one" if name == "routes-b" else "two")
