"""What a change costs in the gateway stage, with thousands of virtual services."""

import time
from functools import cache
from typing import Any

import pytest

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import ROUTE_TABLE, VIRTUAL_SERVICE, Kind
from gloo_nomad.gateway.services import Conversions
from gloo_nomad.gateway.translate import translate_gateways
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.memo import Memo
from tests.pipeline.gateway_world import GATEWAY, NAMESPACE, SSL_GATEWAY, World

COUNT = 3000
ROUTES = 10
BOUND = 0.010
"""Seconds of CPU for one round after one change of a virtual service."""

VARIANTS = ["plain", "tls", "named", "delegating"]


def virtual_service(number: int, variant: str, marker: str = "") -> dict[str, Any]:
    """A virtual service of ten routes; *marker* is what a change changes."""
    routes: list[dict[str, Any]] = [
        {
            "matchers": [{"prefix": f"/part-{route}{marker}"}],
            "routeAction": {"single": {"upstream": {"name": "u", "namespace": NAMESPACE}}},
            "options": {"timeout": "2s"},
            **({"name": f"part-{route}"} if variant == "named" else {}),
        }
        for route in range(ROUTES)
    ]
    if variant == "delegating":
        action = {"selector": {"labels": {"team": f"t{number}"}}}
        routes.append({"matchers": [{"prefix": "/below"}], "delegateAction": action})
    document: dict[str, Any] = {
        "metadata": {"name": f"vs{number}", "namespace": NAMESPACE},
        "virtualHost": {"domains": [f"host{number}.com"], "routes": routes},
    }
    if variant == "tls":
        secret = {"name": f"s{number}", "namespace": NAMESPACE}
        document["sslConfig"] = {"secretRef": secret, "sniDomains": [f"host{number}.com"]}
    return document


def route_table(number: int, marker: str = "") -> dict[str, Any]:
    """A route table that one virtual service selects."""
    return {
        "metadata": {"name": f"rt{number}", "namespace": NAMESPACE, "labels": {"team": f"t{number}"}},
        "routes": [{"matchers": [{"prefix": f"/below/{marker}"}], "directResponseAction": {"status": 200}}],
    }


def read(kind: Kind, document: dict[str, Any]) -> codec.Decoded:
    """An object as a source reads it."""
    return codec.decode(kind, codec.to_json(document).encode())


@cache
def many(variant: str) -> dict[Kind, list[codec.Decoded]]:
    """The objects of a variant, read once for all tests."""
    found = {VIRTUAL_SERVICE: [read(VIRTUAL_SERVICE, virtual_service(number, variant)) for number in range(COUNT)]}
    if variant == "delegating":
        found[ROUTE_TABLE] = [read(ROUTE_TABLE, route_table(number)) for number in range(COUNT)]
    return found


def store(world: World, kind: Kind, decoded: list[codec.Decoded]) -> None:
    """Stores objects in one change."""
    world.store.apply(Change("test", kind.name, {found.ref.ref: Entry(found.message, created=1) for found in decoded}))


def build(variant: str) -> World:
    """A world of many virtual services, translated once."""
    world = World()
    world.put("Gateway", GATEWAY, SSL_GATEWAY)
    for kind, decoded in many(variant).items():
        store(world, kind, decoded)
    world.translate()
    return world


def measure(world: World, kind: Kind, documents: list[dict[str, Any]]) -> float:
    """The least CPU seconds of a round, over several changes of one object."""
    spent = []
    for document in documents:
        store(world, kind, [read(kind, document)])
        started = time.process_time()
        world.translate()
        spent.append(time.process_time() - started)
    return min(spent)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_changed_virtual_service_is_cheap(variant: str) -> None:
    """With 3,000 virtual services a change of one costs less than 10 ms, whatever they use."""
    world = build(variant)
    spent = measure(world, VIRTUAL_SERVICE, [virtual_service(7, variant, str(n)) for n in range(7)])
    print(f"\n{variant}: {spent * 1000:.2f} ms per changed virtual service of {COUNT}")
    assert spent < BOUND


def test_one_changed_route_table_is_cheap() -> None:
    """With 3,000 selecting virtual services and 3,000 tables, a change of one table converts one virtual service."""
    world = build("delegating")
    conversions = _conversions(world)
    before = conversions.memo.computed
    spent = measure(world, ROUTE_TABLE, [route_table(7, str(n)) for n in range(5)])
    print(f"\nroute table: {spent * 1000:.2f} ms per changed table of {COUNT}")
    assert conversions.memo.computed - before == 5 * 2, "the index of tables, and one virtual service"
    assert spent < 5 * BOUND


def test_one_change_converts_one_virtual_service() -> None:
    """Nothing but the changed virtual service is converted, and a new one is put in its place among the others."""
    world = build("plain")
    conversions = _conversions(world)
    before = conversions.memo.computed
    store(world, VIRTUAL_SERVICE, [read(VIRTUAL_SERVICE, virtual_service(7, "plain", "x"))])
    world.translate()
    store(world, VIRTUAL_SERVICE, [read(VIRTUAL_SERVICE, virtual_service(COUNT, "plain"))])
    outcome = world.translate()
    assert conversions.memo.computed - before == 2
    assert list(conversions.converted) == sorted(conversions.converted)
    assert len(outcome.group().virtual_hosts) == COUNT + 1


def test_deleted_virtual_service_is_forgotten() -> None:
    """Memory follows the configuration: what is gone is not kept, and nothing else is converted again."""
    world = build("plain")
    conversions = _conversions(world)
    before = conversions.memo.computed
    world.delete("VirtualService", "vs7")
    world.translate()
    assert conversions.memo.computed == before
    assert len(conversions.memo._entries) == COUNT - 1


def test_change_that_gateways_do_not_read_costs_nothing() -> None:
    """Another upstream gives the very same answer without a look at any virtual service."""
    world = build("plain")
    before = translate_gateways(world.store.snapshot, world.settings, world.memo)
    world.put("Upstream", "metadata: {name: u, namespace: gloo-system}\nstatic: {hosts: [{addr: a.com, port: 80}]}")
    computed = world.memo.computed
    assert translate_gateways(world.store.snapshot, world.settings, world.memo) is before
    assert world.memo.computed == computed


def _conversions(world: World) -> Conversions:
    """The stage's memory of virtual services."""
    memory: Memo = world.memo._entries["gateway", "memory"].value
    found: Conversions = memory._entries[("services",)].value
    return found
