"""A running engine with what it published, for its tests."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from google.protobuf import json_format

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.engine import Engine, Outputs, Services
from gloo_nomad.pipeline import Pipeline, Translation
from gloo_nomad.resources import ENDPOINTS, XdsSnapshot
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances
from gloo_nomad.store.snapshot import ConfigSnapshot
from tests.pipeline.envoy_world import ROLE

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
