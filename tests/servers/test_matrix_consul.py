"""The fault matrix, Consul: whatever it does, what was served is served, and afterwards nobody has to do anything."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from gloo_nomad.demo.processes import wait_until
from tests.fault_world import CONSUL_POLICY, PATIENCE, World, open_world
from tests.faults import Fault, Reset, Rewrite, Slow, Status, Truncated, with_index
from tests.site import REF, direct, host

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all faults, one after the other."""
    with open_world(tmp_path_factory.mktemp("world")) as found:
        yield found


def all_answers(fault: Fault) -> Callable[[World], AbstractContextManager[None]]:
    """A fault of everything that Consul is asked."""
    return lambda world: world.consul_proxy.fault("/v1/", fault)


HOLD = 2.0
"""Seconds that a fault goes on after it was noticed."""
GARBAGE = Rewrite(lambda headers, _: (headers, b'[{"Key": \x00, "Value": }'))
FAULTS: dict[str, tuple[Callable[[World], AbstractContextManager[None]], str]] = {
    "down": (lambda world: world.consul_proxy.down(), "cannot connect"),
    "reset": (all_answers(Reset()), "Consul"),
    "429": (all_answers(Status(429)), "429"),
    "500": (all_answers(Status(500)), "500"),
    "garbage": (all_answers(GARBAGE), "unexpected answer"),
    "truncated": (all_answers(Truncated()), "Consul"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_no_good_answer(world: World, name: str) -> None:
    """Down, connections reset, 429, 500, garbage instead of JSON, truncated: told, and over when it is over."""
    fault, told = FAULTS[name]
    with world.unharmed():
        with fault(world):
            text = world.put_edit()
            world.wait_told(told)
            time.sleep(HOLD)
        world.site.wait_for("edited.test", 200, text, PATIENCE)
        world.wait_well()


def test_slow(world: World) -> None:
    """Answers that come 30 s late are too late: that is told, and what was missed is read when they are quick again."""
    with world.unharmed():
        with world.consul_proxy.fault("/v1/", Slow(30)):
            text = world.put_edit()
            world.wait_told("no complete answer")
        world.site.wait_for("edited.test", 200, text, PATIENCE)
        world.wait_well()


def test_the_leader_is_lost(world: World) -> None:
    """Without a leader nothing can be read or written; with one again everything goes on."""
    first, second = world.servers
    with world.unharmed():
        second.stop()
        wait_until(lambda: not first.has_leader(), "the loss of the leader", PATIENCE)
        world.wait_told("leader")
        second.start()
        first.wait_leader()
        world.wait_well()


def test_an_index_that_goes_backwards(world: World) -> None:
    """Everything is read anew, and changes are seen during it and afterwards."""
    with world.unharmed():
        with world.consul_proxy.fault("/v1/", with_index(1, times=12)):
            world.edit()
            world.move()
            time.sleep(HOLD)
        world.wait_well()


def test_a_restored_snapshot(world: World) -> None:
    """Objects are those of the snapshot; what is written next is seen."""
    file = world.place.folder / "consul.snapshot"
    with world.unharmed():
        world.edit()
        saved = world.site.get("edited.test")[1]
        world.consul.command("snapshot", "save", str(file))
        world.edit()
        world.consul.command("snapshot", "restore", str(file))
        world.site.wait_for("edited.test", 200, saved, PATIENCE)


def test_a_revoked_token(world: World) -> None:
    """A token that Consul does not know any more is replaced by the next one in its file."""
    accessor = world.issue_consul_token()
    world.edit()
    with world.unharmed():
        world.consul.request("DELETE", f"acl/token/{accessor}")
        world.put_edit()
        world.wait_told("403")
        world.issue_consul_token()
        world.wait_well()


def test_rights_that_were_taken(world: World) -> None:
    """A token that may not read any more gets empty answers: that is not the same as that there is nothing."""
    with world.unharmed():
        world.set_consul_policy("update", 'session_prefix "" { policy = "write" }')
        world.wait_told("/v1/kv/", "the token may not read")
        time.sleep(HOLD)
        world.set_consul_policy("update", CONSUL_POLICY)
        world.wait_well()


def test_the_last_object_of_a_kind_goes(world: World) -> None:
    """Its routes go with it, and only those."""
    delegating = {"matchers": [{"prefix": "/"}], "delegateAction": {"ref": {"name": "last", **REF}}}
    world.daemon.put("RouteTable", "last", {"routes": [{**direct("delegated"), "matchers": [{"prefix": "/"}]}]})
    world.daemon.put("VirtualService", "delegating", host("last.test", delegating))
    world.site.wait_for("last.test", 200, "delegated", PATIENCE)
    with world.unharmed():
        world.daemon.delete("RouteTable", "last")
        world.site.wait_for("last.test", 404, seconds=PATIENCE)
    world.daemon.delete("VirtualService", "delegating")


def test_a_neighbour_with_the_same_prefix(world: World) -> None:
    """Keys of a root, a kind, a namespace and a service whose names go on are nobody's business here."""
    prefixes = ("gloo2/gateway.solo.io/v1/VirtualService", "gloo/gateway.solo.io/v1/VirtualServices")
    document = {"metadata": {"name": "kept", "namespace": "gloo-system"}, **host("kept.test", direct("wrong"))}
    with world.unharmed():
        for prefix in prefixes:
            world.consul.put(f"{prefix}/gloo-system/kept", json.dumps(document))
        instance = world.consul.register("web-2", 1)
        world.edit()
        for prefix in prefixes:
            world.consul.delete(f"{prefix}/", recurse=True)
        world.consul.deregister(instance)
