"""The engine and endpoints: what a publication waits for, and what never waits."""

import asyncio
import threading
import time

from gloo_nomad.api.refs import Ref
from gloo_nomad.app import engine as engine_module
from gloo_nomad.resources import CLUSTER, ENDPOINTS
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances
from tests.engine_scene import API, HELLO, TO_API, TO_WEB, WEB, Scene, run
from tests.pipeline.envoy_world import GATEWAY, ROLE, upstream, virtual_service


def test_the_first_publication_waits_for_endpoints() -> None:
    """A restarted process does not tell running Envoys that a service has no instances."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(TO_WEB))
        await scene.engine.begin()
        await scene.until(lambda: bool(scene.wanted))
        await asyncio.sleep(0.1)
        assert scene.published == []
        scene.instances("web", 9001)
        await scene.until(lambda: bool(scene.published))
        assert b"127.0.0.1" in scene.served(WEB)

    run(scenario)


def test_a_service_without_instances_is_known() -> None:
    """An empty service is an answer: nobody waits for more."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(TO_WEB))
        scene.instances("web")
        began = time.monotonic()
        await scene.engine.begin()
        await scene.until(lambda: bool(scene.published))
        assert time.monotonic() - began < 2

    run(scenario)


def test_endpoints_that_never_come_do_not_hold_it_for_ever() -> None:
    """After ``gloo.endpointsWarmingTimeout`` it is published without them: unknown ones, and not said to be none."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(TO_WEB))
        await scene.engine.begin()
        began = time.monotonic()
        await scene.until(lambda: bool(scene.published))
        assert 0.25 < time.monotonic() - began < engine_module.FIRST_ENDPOINTS_SECONDS
        assert WEB in scene.published[0][ROLE].of(CLUSTER)
        assert WEB not in scene.published[0][ROLE].of(ENDPOINTS)
        scene.instances("web")
        await scene.until(lambda: bool(scene.endpoints))
        assert b"127.0.0.1" not in scene.endpoints[-1][ROLE].of(ENDPOINTS)[WEB].body

    run(scenario, {"gloo": {"endpointsWarmingTimeout": "0.3s"}})


def test_a_service_that_nobody_watches_has_no_instances() -> None:
    """Without service discovery nobody is waited for, and clusters have no endpoints."""

    async def scenario(scene: Scene) -> None:
        scene.engine.outputs.want_services = lambda _: frozenset()
        scene.put(GATEWAY, virtual_service(TO_WEB))
        began = time.monotonic()
        await scene.engine.begin()
        await scene.until(lambda: bool(scene.published))
        assert time.monotonic() - began < 2
        assert b"127.0.0.1" not in scene.served(WEB)

    run(scenario)


def test_a_datacenter_that_does_not_answer_silences_no_other() -> None:
    """A cluster of two datacenters has the instances of the one that is known."""
    spec = "consul: {serviceName: web, dataCenters: [near, far]}"
    route = "{matchers: [{prefix: /}], routeAction: {single: {upstream: {name: up, namespace: gloo-system}}}}"

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(route), upstream(spec=spec))
        found = Entry(ServiceInstances((Instance("127.0.0.1", 9001, "i", datacenter="near"),)))
        scene.engine.services.put_nowait(Change("services", CONSUL_SERVICE, {Ref("near", "web"): found}))
        await scene.engine.begin()
        await scene.until(lambda: bool(scene.published))
        assert {ref.namespace for _, ref in scene.wanted} == {"near", "far"}
        assert b"127.0.0.1" in scene.served("up_gloo-system")

    run(scenario, {"gloo": {"endpointsWarmingTimeout": "0.1s"}})


def test_a_route_that_moves_waits_for_its_new_service() -> None:
    """A route to a service that nobody watched is published with the service's instances, not before them."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(TO_WEB))
        scene.instances("web", 9001)
        await scene.engine.begin()
        await scene.until(lambda: len(scene.published) == 1)
        scene.put(virtual_service(TO_API))
        await scene.until(lambda: any(ref.name == "api" for _, ref in scene.wanted))
        await asyncio.sleep(0.1)
        assert len(scene.published) == 1
        scene.instances("api", 9002)
        await scene.until(lambda: len(scene.published) == 2)
        assert b"127.0.0.1" in scene.served(API)

    run(scenario)


def test_an_unknown_service_is_waited_for_once() -> None:
    """A service that Consul never answers for holds one publication for a second, and the next ones not at all."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY)
        await scene.engine.begin()
        await scene.until(lambda: len(scene.published) == 1)
        scene.put(virtual_service(TO_API))
        await scene.until(lambda: len(scene.published) == 2)
        began = time.monotonic()
        scene.put(virtual_service(HELLO, name="other", domains="[b.com]"))
        await scene.until(lambda: len(scene.published) == 3)
        assert time.monotonic() - began < engine_module.NEW_ENDPOINTS_SECONDS

    run(scenario)


def test_endpoints_do_not_wait_for_a_translation() -> None:
    """While a translation takes its time, instances that come and go are published."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(TO_WEB))
        scene.instances("web", 9001)
        await scene.engine.begin()
        await scene.until(lambda: len(scene.published) == 1)
        scene.pipeline.held = threading.Event()
        scene.put(virtual_service(HELLO, name="other", domains="[b.com]"))
        await scene.until(lambda: scene.pipeline.rounds == 2)
        scene.instances("web", 9001, 9002)
        await scene.until(lambda: bool(scene.endpoints))
        assert len(scene.published) == 1
        scene.pipeline.held.set()
        await scene.until(lambda: len(scene.published) == 2)
        assert scene.pipeline.rounds == 2

    run(scenario)


def test_instances_that_cannot_be_told_are_reported() -> None:
    """A hand-written upstream is told of an instance that Envoy cannot reach."""

    async def scenario(scene: Scene) -> None:
        scene.put("kind: Upstream\nmetadata: {name: up, namespace: gloo-system}\nconsul: {serviceName: web}\n")
        found = ServiceInstances((Instance("no-address.example", 80, "i"),))
        scene.engine.services.put_nowait(Change("services", CONSUL_SERVICE, {Ref("", "web"): Entry(found)}))
        await scene.engine.begin()
        await scene.until(lambda: bool(scene.engine.problems()))
        (problem,) = scene.engine.problems()
        assert str(problem.ref) == "Upstream gloo-system.up"
        assert "no-address.example" in problem.message

    run(scenario)


def _route_to(service: str) -> str:
    return f"{{matchers: [{{prefix: /{service}}}], routeAction: {{single: {{consul: {{serviceName: {service}}}}}}}}}"


def test_statuses_wait_for_the_first_answers() -> None:
    """Whoever comes after endpoints waits while services are heard of one after the other, and no longer."""
    routes = [_route_to(name) for name in ("one", "two", "three")]

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(*routes))
        waiting = asyncio.create_task(scene.engine.heard_of_services())
        await scene.engine.begin()
        await scene.until(lambda: bool(scene.published))
        for name in ("one", "two"):
            scene.instances(name, 9001)
            await asyncio.sleep(0.6 * engine_module.SILENCE_SECONDS)
            assert not waiting.done()
        async with asyncio.timeout(20):
            await waiting  # nobody hears of the third one

    run(scenario, {"gloo": {"endpointsWarmingTimeout": "0.1s"}})


def test_the_first_answers_are_collected() -> None:
    """Where many services are heard of, more are to come: they are one publication, and not one for each."""
    names = [f"service-{number}" for number in range(200)]

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(*map(_route_to, names)))
        await scene.engine.begin()
        await scene.until(lambda: bool(scene.published))
        for name in names[:150]:
            scene.instances(name, 9001)
        await scene.until(lambda: len(scene.endpoints) == 1)
        began = time.monotonic()
        scene.instances(names[-1], 9001)
        await scene.until(lambda: len(scene.endpoints) == 2)
        assert time.monotonic() - began > 0.5 * engine_module.REST_SECONDS[1]
        assert len(scene.endpoints[-1][ROLE].of(ENDPOINTS)) == 151
        assert (len(scene.published), scene.pipeline.rounds) == (1, 1)

    run(scenario, {"gloo": {"endpointsWarmingTimeout": "0.1s"}})
