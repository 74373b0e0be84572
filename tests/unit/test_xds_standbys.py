"""What is remembered of accepted and rejected resources, and for how long."""

import pytest

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, Resource, XdsSnapshot
from gloo_nomad.xds.ledger import Nack
from gloo_nomad.xds.node_view import NodeView
from gloo_nomad.xds.standbys import MOST_REJECTED, Standbys
from gloo_nomad.xds.view import RoleView
from gloo_nomad.xds.wire import Wire, build_wire

NACK = Nack("1", (), "no", 0.0)


def wire(name: str, version: str, size: int = 1) -> Wire:
    """A resource of that size."""
    return build_wire(CLUSTER, Resource(name, version, b"x" * size))


class Scene:
    """A role with one listener, and two nodes."""

    def __init__(self, type_url: str = LISTENER) -> None:
        self.type_url = type_url
        self.role = RoleView("role")
        self.one, self.two = NodeView(self.role, "one"), NodeView(self.role, "two")

    def publish(self, version: str) -> None:
        """The listener in another version; none of it if that is empty."""
        resources = {"l": Resource("l", version, version.encode())} if version else {}
        self.role.publish(XdsSnapshot({self.type_url: resources}))

    def served(self, view: NodeView) -> str:
        """The version that a node is served."""
        found = view.wires(self.type_url).get("l")
        return "" if found is None else found.version


def test_only_who_rejects_is_served_the_earlier_version() -> None:
    """The other node has the new one, and totals tell the two apart; a changed resource is everybody's again."""
    scene = Scene()
    scene.publish("v1")
    before = scene.one.version(LISTENER)
    scene.one.accept(LISTENER, [("l", "v1")])
    scene.publish("v2")
    scene.two.accept(LISTENER, [("l", "v2")])
    scene.one.reject(LISTENER, [("l", "v2")], NACK)

    assert (scene.served(scene.one), scene.served(scene.two)) == ("v1", "v2")
    assert scene.one.version(LISTENER) == before != scene.two.version(LISTENER)
    assert scene.one.rejected(LISTENER) == {"l": NACK}
    scene.publish("v3")
    assert (scene.served(scene.one), scene.served(scene.two)) == ("v3", "v3")
    assert scene.one.rejected(LISTENER) == {}


def test_what_nobody_accepted_stands_in_for_nothing() -> None:
    """After a second bad version it is still the good one; of a third, which is the good one again, nothing is bad."""
    scene = Scene()
    scene.publish("v1")
    scene.one.accept(LISTENER, [("l", "v1")])
    for bad in ("v2", "v3"):
        scene.publish(bad)
        scene.one.reject(LISTENER, [("l", bad)], NACK)
        assert scene.served(scene.one) == "v1"
    scene.publish("v1")
    assert scene.role.standbys.kept(LISTENER, "l") is None
    assert scene.one.withheld(LISTENER) == frozenset()


def test_an_earlier_version_that_is_rejected_too() -> None:
    """Nothing is left to serve, and nothing is sent again and again."""
    scene = Scene()
    scene.publish("v1")
    scene.two.accept(LISTENER, [("l", "v1")])
    scene.publish("v2")
    scene.one.reject(LISTENER, [("l", "v2")], NACK)
    scene.one.reject(LISTENER, [("l", "v1")], NACK)

    assert scene.one.standins(LISTENER) == {}
    assert scene.one.withheld(LISTENER) == {"l"}


@pytest.mark.parametrize(("type_url", "after"), [(LISTENER, "v1"), (ENDPOINTS, "v2")])
def test_a_removed_resource_is_forgotten(type_url: str, after: str) -> None:
    """What comes back under an old name has no past; instances of yesterday are nobody's help at any time."""
    scene = Scene(type_url)
    scene.publish("v1")
    scene.one.accept(type_url, [("l", "v1")])
    scene.publish("v2")
    scene.one.reject(type_url, [("l", "v2")], NACK)
    assert scene.served(scene.one) == after
    scene.publish("")
    assert scene.served(scene.one) == ""
    scene.publish("v2")
    assert scene.served(scene.one) == "v2"
    assert scene.role.standbys.is_empty


def test_a_client_without_a_name_is_nobody_else() -> None:
    """Two streams that do not say who they are have nothing to do with each other."""
    scene = Scene()
    scene.one, scene.two = NodeView(scene.role), NodeView(scene.role)
    scene.publish("v1")
    scene.one.accept(LISTENER, [("l", "v1")])
    scene.publish("v2")
    scene.one.reject(LISTENER, [("l", "v2")], NACK)
    assert (scene.served(scene.one), scene.served(scene.two)) == ("v1", "v2")


def test_kept_versions_are_bounded() -> None:
    """The one that was replaced longest ago goes; one that somebody needs counts as new."""
    standbys = Standbys(most_bytes=3_500)
    for name in "abc":
        standbys.replaced(CLUSTER, name, None, wire(name, "v1", 1_000))
        standbys.accepted(CLUSTER, [(name, "v1")], {name: wire(name, "v1")})
    for name in "ab":
        standbys.replaced(CLUSTER, name, wire(name, "v1", 1_500), wire(name, "v2"))
    standbys.reject(CLUSTER, "a", "node", "v2", NACK)
    standbys.replaced(CLUSTER, "c", wire("c", "v1", 1_500), wire("c", "v2"))
    assert [name for name in "abc" if standbys.kept(CLUSTER, name)] == ["a", "c"]


def test_rejections_are_bounded() -> None:
    """An Envoy that rejects everything fills no memory."""
    standbys = Standbys()
    for number in range(MOST_REJECTED * 2):
        standbys.reject(CLUSTER, f"{number}", "node", "v", NACK)
    found = list(standbys.rejections("node"))
    assert len(found) == MOST_REJECTED
    assert found[-1][1] == f"{MOST_REJECTED * 2 - 1}"
