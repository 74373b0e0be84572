"""A change costs what it touches: how many pieces are made anew, and that all others are the same objects."""

import gc
import weakref
from collections.abc import Mapping

import pytest
import yaml

from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy import clusters as clusters_module
from gloo_nomad.envoy import route_configs
from gloo_nomad.envoy.routes import translate_virtual_host
from gloo_nomad.resources import CLUSTER, LISTENER, ROUTES, Resource
from tests.pipeline.certificates import make_pair, tls_secret
from tests.pipeline.envoy_world import GATEWAY, SSL_GATEWAY, TO_UP, World, make_world, upstream, virtual_service

MANY = 200


class Counter:
    """Counts the calls of a function, by the name of what it is called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hosts: list[str] = []
        self.clusters: list[str] = []
        build_cluster = clusters_module.build_cluster

        def count_host(host, frame, reads):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            self.hosts.append(host.source.name)
            return translate_virtual_host(host, frame, reads)

        def count_cluster(found, out, scope):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            self.clusters.append(found.metadata.name)
            return build_cluster(found, out, scope)

        monkeypatch.setattr(route_configs, "translate_virtual_host", count_host)
        monkeypatch.setattr(clusters_module, "build_cluster", count_cluster)

    def forget(self) -> None:
        """Counts from nothing."""
        self.hosts.clear()
        self.clusters.clear()


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts what is translated."""
    return Counter(monkeypatch)


def route_to(name: str) -> str:
    """A route to an upstream."""
    return TO_UP.replace("name: up,", f"name: {name},")


def many() -> World:
    """Many virtual hosts with an upstream each."""
    objects = [virtual_service(route_to(f"up{n}"), name=f"vs{n}", domains=f"[a{n}.com]") for n in range(MANY)]
    return make_world(GATEWAY, *(upstream(f"up{n}") for n in range(MANY)), "---\n".join(objects))


def same(before: Mapping[str, Resource], after: Mapping[str, Resource]) -> set[str]:
    """Names of the resources that are the same objects."""
    return {name for name, resource in after.items() if before.get(name) is resource}


def test_one_virtual_service_of_many(counter: Counter) -> None:
    """Only its virtual host is translated; listener and clusters stay the same objects."""
    world = many()
    before = world.snapshot()
    counter.forget()

    world.put(virtual_service(route_to("up0"), name="vs7", domains="[a7.com]"))

    after = world.snapshot()
    assert counter.hosts == ["vs7"]
    assert counter.clusters == []
    assert same(before.of(LISTENER), after.of(LISTENER)) == set(after.of(LISTENER))
    assert after.of(CLUSTER) is before.of(CLUSTER)
    assert same(before.of(ROUTES), after.of(ROUTES)) == set()


def test_one_upstream_of_many(counter: Counter) -> None:
    """Only its cluster is made; no virtual host cares where an upstream's instances are."""
    world = many()
    before = world.snapshot()
    counter.forget()

    world.put(upstream("up7", "static: {hosts: [{addr: 10.9.9.9, port: 80}]}"))

    after = world.snapshot()
    assert counter.hosts == []
    assert counter.clusters == ["up7"]
    assert same(before.of(ROUTES), after.of(ROUTES)) == set(after.of(ROUTES))
    assert set(after.of(CLUSTER)) - same(before.of(CLUSTER), after.of(CLUSTER)) == {"up7_gloo-system"}


def test_upstream_that_appears_concerns_who_waits_for_it(counter: Counter) -> None:
    """A virtual host that was warned of a missing upstream is translated again, the others are not."""
    world = many()
    world.put(virtual_service(route_to("late"), name="vs7", domains="[a7.com]"))
    assert world.said("VirtualService", "vs7") != []
    counter.forget()

    world.put(upstream("late"))

    assert counter.hosts == ["vs7"]
    assert world.said("VirtualService", "vs7") == []


def test_added_and_removed_virtual_service(counter: Counter) -> None:
    """One more in the middle, and it gone again: the others are not translated, the bytes are as before."""
    world = many()
    before = world.snapshot()
    counter.forget()

    world.put(virtual_service(route_to("up0"), name="vs100b", domains="[new.com]"))
    assert counter.hosts == ["vs100b"]
    world.remove("VirtualService", "vs100b")

    after = world.snapshot()
    assert counter.hosts == ["vs100b"]
    assert [item.body for item in after.of(ROUTES).values()] == [item.body for item in before.of(ROUTES).values()]


def test_equal_bytes_are_the_same_resource() -> None:
    """A virtual service that is left out changes nothing that Envoy is sent, wherever it stands among the others."""
    world = many()
    before = world.snapshot()

    world.put(virtual_service(route_to("up0"), name="vs0a", domains="['']"))

    assert world.said("VirtualService", "vs0a")[0].startswith("error ")
    assert same(before.of(ROUTES), world.snapshot().of(ROUTES)) == set(before.of(ROUTES))


def test_rejected_virtual_service_costs_nothing_extra() -> None:
    """Its last good version is served beside it, and both are remembered."""
    world = many()
    world.put(virtual_service("{directResponseAction: {status: 1}}", name="vs7", domains="[a7.com]"))
    computed = world.pipeline.memo.computed

    world.translate()

    assert world.pipeline.memo.computed == computed


def test_nothing_changed_computes_nothing() -> None:
    """A second look at the same snapshot remembers everything, TLS included."""
    secured = "sslConfig: {secretRef: {name: s, namespace: gloo-system}}"
    world = many().put(SSL_GATEWAY, tls_secret("s", make_pair("a")), virtual_service(TO_UP, more=secured))
    computed = world.pipeline.memo.computed

    world.translate()

    assert world.pipeline.memo.computed == computed


def test_memory_follows_the_configuration() -> None:
    """A hundred versions of one virtual service leave no more behind than one."""
    world = many()
    world.put(virtual_service(route_to("up0"), name="vs7", domains="[a7.com]"))
    size = len(world.pipeline.memo._entries)

    for number in range(50):
        world.put(virtual_service(route_to(f"up{number}"), name="vs7", domains="[a7.com]"))

    assert len(world.pipeline.memo._entries) <= size + 5


def test_sets_of_upstreams_are_shared_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual hosts share equal sets of upstreams; a set that no virtual host has any more is not kept."""
    seen: list[weakref.ref[frozenset[Ref]]] = []

    def translate(host, frame, reads):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        found = translate_virtual_host(host, frame, reads)
        seen.append(weakref.ref(found.upstreams))
        return found

    monkeypatch.setattr(route_configs, "translate_virtual_host", translate)
    world = many()
    assert len({id(kept()) for kept in seen}) == MANY
    for number in range(MANY):
        world.put_document(
            yaml.safe_load(virtual_service(route_to("up0"), name=f"vs{number}", domains=f"[a{number}.com]"))
        )
    world.translate()
    gc.collect()

    assert {kept() for kept in seen} == {None, frozenset({Ref("gloo-system", "up0")})}
    assert len({id(kept()) for kept in seen if kept() is not None}) == 1
