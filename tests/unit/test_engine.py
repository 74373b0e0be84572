"""The engine: when it translates, what it waits for, and what it survives."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from google.protobuf import json_format
from structlog.testing import capture_logs

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS, SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.app import engine as engine_module
from gloo_nomad.app.engine import Engine, Outputs, Services
from gloo_nomad.pipeline import Pipeline, Translation
from gloo_nomad.resources import CLUSTER, ENDPOINTS, XdsSnapshot
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances
from gloo_nomad.store.snapshot import ConfigSnapshot
from tests.pipeline.envoy_world import GATEWAY, ROLE, upstream, virtual_service

TO_WEB = "{matchers: [{prefix: /}], routeAction: {single: {consul: {serviceName: web}}}}"
TO_API = "{matchers: [{prefix: /}], routeAction: {single: {consul: {serviceName: api}}}}"
HELLO = "{matchers: [{prefix: /}], directResponseAction: {status: 200, body: hello}}"
WEB = "consul-svc:web_gloo-system"
API = "consul-svc:api_gloo-system"


class FaultyPipeline(Pipeline):
    """A pipeline with a defect that can be switched on, and that can be held."""

    broken = False
    held: threading.Event | None = None
    rounds = 0

    def translate(self, snapshot: ConfigSnapshot, settings: settings_pb2.Settings) -> Translation:
        """Translates, or fails."""
        self.rounds += 1
        if self.held is not None:
            self.held.wait(10)
        if self.broken:
            raise RuntimeError("a defect")
        return super().translate(snapshot, settings)


@dataclass
class Scene:
    """A running engine, and everything that it published."""

    engine: Engine
    pipeline: FaultyPipeline = field(default_factory=FaultyPipeline)
    published: list[Mapping[str, XdsSnapshot]] = field(default_factory=list)
    endpoints: list[Mapping[str, XdsSnapshot]] = field(default_factory=list)
    wanted: Services = frozenset()
    number: int = 0

    def __post_init__(self) -> None:
        self.engine.pipeline = self.pipeline
        self.engine.outputs = Outputs(self.published.append, self.endpoints.append, self.want)

    def want(self, services: Services) -> Services:
        """All of them are watched."""
        self.wanted = services
        return services

    def put(self, *texts: str) -> None:
        """Objects arrive."""
        for text in texts:
            document = yaml.safe_load(text)
            kind = KINDS[document.pop("kind")]
            ref = Ref(document["metadata"]["namespace"], document["metadata"]["name"])
            decoded = codec.decode(kind, codec.to_json(document).encode(), ref)
            self.number += 1
            entry = Entry(decoded.message, decoded.rejection, decoded.status, self.number, self.number)
            self.engine.changes.put_nowait(Change("test", kind.name, {ref: entry}))

    def instances(self, service: str, *ports: int) -> None:
        """Instances of a service arrive."""
        found = ServiceInstances(tuple(Instance("127.0.0.1", port, f"i{port}") for port in ports))
        self.engine.services.put_nowait(Change("services", CONSUL_SERVICE, {Ref("", service): Entry(found)}))

    def served(self, cluster: str) -> bytes:
        """The endpoints of a cluster as they were published last."""
        return self.published[-1][ROLE].of(ENDPOINTS)[cluster].body

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when it is so."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  # what is waited for has no event
                await asyncio.sleep(0.005)


def run(scenario: Callable[[Scene], Awaitable[None]], settings: Mapping[str, Any] | None = None) -> None:
    """Runs a scenario with an engine."""

    async def whole() -> None:
        message = json_format.ParseDict(dict(settings or {}), settings_pb2.Settings())
        scene = Scene(Engine(RuntimeSettings(message, Ref("gloo-system", "default"))))
        running = asyncio.create_task(scene.engine.run())
        try:
            await scenario(scene)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(whole())


def test_nothing_is_published_before_everything_was_read() -> None:
    """Objects that arrive one by one are served together once the sources have listed."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY)
        await scene.engine.changes.join()
        scene.put(virtual_service(HELLO))
        await scene.engine.changes.join()
        await asyncio.sleep(0.05)
        assert (scene.published, scene.pipeline.rounds) == ([], 0)

        await scene.engine.begin()
        await scene.until(lambda: bool(scene.published))
        assert len(scene.published) == 1
        assert scene.published[0].keys() == {ROLE}
        assert scene.engine.published.is_set()

    run(scenario)


def test_an_empty_world_is_published_too() -> None:
    """Without any object the first publication is empty, and the process is ready."""

    async def scenario(scene: Scene) -> None:
        await scene.engine.begin()
        await scene.until(scene.engine.published.is_set)
        assert scene.published == [{}]

    run(scenario)


def test_what_changes_nothing_is_not_translated() -> None:
    """An object that is written again, with a status or without, causes a round but no translation."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY)
        await scene.engine.begin()
        await scene.until(lambda: scene.pipeline.rounds == 1)
        rounds = scene.engine.listener()
        rounds.clear()
        scene.put(f"{GATEWAY}namespacedStatuses: {{statuses: {{gloo-system: {{state: Accepted}}}}}}\n")
        async with asyncio.timeout(5):
            await rounds.wait()
        assert scene.pipeline.rounds == 1
        assert len(scene.published) == 1

    run(scenario)


def test_a_defect_takes_nothing_away() -> None:
    """A translation that fails leaves what was served, is told, and the next change is a new try."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, virtual_service(HELLO))
        await scene.engine.begin()
        await scene.until(lambda: len(scene.published) == 1)
        scene.pipeline.broken = True
        with capture_logs() as logs:
            scene.put(virtual_service(HELLO, name="second", domains="[b.com]"))
            await scene.until(lambda: scene.engine.failure != "")
        assert [(entry["event"], entry["what"]) for entry in logs] == [("not_served", "translation")]
        assert scene.engine.failure == "translation: RuntimeError"
        assert scene.engine.failing_since > 0
        assert len(scene.published) == 1

        scene.pipeline.broken = False
        scene.put(virtual_service(HELLO, name="third", domains="[c.com]"))
        await scene.until(lambda: len(scene.published) == 2)
        assert scene.engine.failure == ""

    run(scenario)


def test_a_change_that_cannot_be_taken_is_survived() -> None:
    """A change that breaks the store is told, and those after it are taken, objects and endpoints alike."""

    async def scenario(scene: Scene) -> None:
        with capture_logs() as logs:
            await scene.engine.begin()
            broken = Change("test", "Gateway", {Ref("gloo-system", "gw"): None})  # type: ignore[dict-item]
            scene.engine.changes.put_nowait(broken)
            scene.engine.services.put_nowait(broken)
            scene.put(GATEWAY, virtual_service(TO_WEB))
            scene.instances("web", 9001)
            await scene.until(lambda: any(ROLE in published for published in scene.published))
        assert {entry["what"] for entry in logs if entry["event"] == "not_served"} == {"change", "endpoints"}
        assert b"127.0.0.1" in scene.served(WEB)

    run(scenario)


def test_a_defect_at_the_beginning_is_no_empty_beginning() -> None:
    """As long as the first translation fails nothing at all is published."""

    async def scenario(scene: Scene) -> None:
        scene.pipeline.broken = True
        scene.put(GATEWAY)
        with capture_logs():
            await scene.engine.begin()
            await scene.until(lambda: scene.engine.failure != "")
        assert scene.published == []
        assert not scene.engine.published.is_set()
        scene.pipeline.broken = False
        scene.put(virtual_service(HELLO))
        await scene.until(lambda: len(scene.published) == 1)

    run(scenario)


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


def test_settings_of_consul_are_translated() -> None:
    """The Settings object of the process' own name is laid on top, and gone again with it; others mean nothing."""

    async def scenario(scene: Scene) -> None:
        await scene.engine.begin()
        await scene.until(lambda: scene.pipeline.rounds == 1)
        scene.put("kind: Settings\nmetadata: {name: other, namespace: gloo-system}\nconsul: {serviceDiscovery: {}}\n")
        await scene.engine.changes.join()
        assert not scene.engine.settings.discovers_services
        scene.put("kind: Settings\nmetadata: {name: default, namespace: gloo-system}\nconsul: {serviceDiscovery: {}}\n")
        await scene.until(lambda: scene.engine.settings.discovers_services)
        await scene.until(lambda: scene.pipeline.rounds == 3)
        gone = Change("test", SETTINGS.name, deletes=frozenset({Ref("gloo-system", "default")}))
        scene.engine.changes.put_nowait(gone)
        await scene.until(lambda: not scene.engine.settings.discovers_services)

    run(scenario)


def test_settings_that_cannot_be_used_are_reported() -> None:
    """Such an object is a problem of its own, and what was in force goes on."""

    async def scenario(scene: Scene) -> None:
        await scene.engine.begin()
        scene.put("kind: Settings\nmetadata: {name: default, namespace: gloo-system}\ndirectorySecretSource: {}\n")
        await scene.until(lambda: bool(scene.engine.problems()))
        (problem,) = scene.engine.problems()
        assert str(problem.ref) == "Settings gloo-system.default"
        assert scene.engine.settings is scene.engine.base

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
