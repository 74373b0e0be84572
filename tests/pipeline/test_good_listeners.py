"""A Gateway whose edit is rejected keeps its port."""

from typing import Any

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.pipeline import Pipeline, Translation
from gloo_nomad.resources import LISTENER, ROUTES
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.store import Store

NAMESPACE = "gloo-system"
ROLE = "gloo-system~gateway-proxy"
SETTINGS = settings_pb2.Settings()


class World:
    """A store and a pipeline with one Gateway and one virtual service."""

    def __init__(self) -> None:
        self.store, self.pipeline = Store(), Pipeline()
        self.put("VirtualService", "vs", host("first"))
        self.put("Gateway", "gw", gateway())

    def put(self, kind: str, name: str, document: dict[str, Any]) -> None:
        """Writes an object."""
        named = {"metadata": {"name": name, "namespace": NAMESPACE}, **document}
        decoded = codec.decode(KINDS[kind], codec.to_json(named).encode(), Ref(NAMESPACE, name))
        assert decoded.rejection is None
        self.store.apply(Change("test", kind, {Ref(NAMESPACE, name): Entry(decoded.message)}))

    def delete(self, kind: str, name: str) -> None:
        """Deletes an object."""
        self.store.apply(Change("test", kind, deletes=frozenset({Ref(NAMESPACE, name)})))

    def translate(self) -> Translation:
        """One round."""
        return self.pipeline.translate(self.store.snapshot, SETTINGS)


def host(body: str) -> dict[str, Any]:
    """A virtual service that answers by itself."""
    route = {"matchers": [{"prefix": "/"}], "directResponseAction": {"status": 200, "body": body}}
    return {"virtualHost": {"domains": ["a.com"], "routes": [route]}}


def gateway(address: str = "127.0.0.1") -> dict[str, Any]:
    """A Gateway; an address that is none rejects it."""
    return {"bindAddress": address, "bindPort": 8080, "httpGateway": {}}


def listeners(translation: Translation) -> list[str]:
    """The names of the served listeners."""
    return list(translation.xds[ROLE].of(LISTENER)) if ROLE in translation.xds else []


def test_a_rejected_edit_keeps_the_port() -> None:
    """The listener stays as it was and the Gateway is told; mended, it is served as it says."""
    world = World()
    assert listeners(world.translate()) == ["listener-127.0.0.1-8080"]

    world.put("Gateway", "gw", gateway("no-address"))
    translation = world.translate()
    assert listeners(translation) == ["listener-127.0.0.1-8080"]
    assert [problem.ref.name for problem in translation.problems] == ["gw"]

    world.put("Gateway", "gw", gateway("127.0.0.2"))
    assert listeners(world.translate()) == ["listener-127.0.0.2-8080"]


def test_virtual_hosts_change_behind_a_rejected_gateway() -> None:
    """With an option that is refused, the port keeps its old options and serves new routes."""
    world = World()
    world.translate()
    bad = {**gateway(), "httpGateway": {"options": {"httpConnectionManagerSettings": {"serverName": "a\nb"}}}}
    world.put("Gateway", "gw", bad)
    world.put("VirtualService", "vs", host("second"))
    translation = world.translate()

    assert listeners(translation) == ["listener-127.0.0.1-8080"]
    (routes,) = translation.xds[ROLE].of(ROUTES).values()
    assert b"second" in routes.body
    assert any(problem.ref.name == "gw" for problem in translation.problems)


def test_a_deleted_gateway_is_not_kept() -> None:
    """A rejected Gateway that is deleted takes its port with it."""
    world = World()
    world.translate()
    world.put("Gateway", "gw", gateway("no-address"))
    world.translate()
    world.delete("Gateway", "gw")
    assert listeners(world.translate()) == []


def test_one_that_never_worked_is_not_served() -> None:
    """A Gateway that is rejected from the beginning has no listener."""
    world = World()
    world.put("Gateway", "gw", gateway("no-address"))
    assert listeners(world.translate()) == []


def test_the_same_objects_while_nothing_changes() -> None:
    """A kept listener is the identical resource in the next round."""
    world = World()
    world.translate()
    world.put("Gateway", "gw", gateway("no-address"))
    first, second = world.translate(), world.translate()
    assert first.xds[ROLE].of(LISTENER) == second.xds[ROLE].of(LISTENER)
    for name, resource in second.xds[ROLE].of(LISTENER).items():
        assert first.xds[ROLE].of(LISTENER)[name] is resource
