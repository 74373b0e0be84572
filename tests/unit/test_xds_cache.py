"""The cache: what a publication costs, whom it wakes, and what stays."""

from collections.abc import Collection

from gloo_nomad.resources import CLUSTER, ENDPOINTS, Resource, XdsSnapshot
from gloo_nomad.xds.cache import XdsCache
from gloo_nomad.xds.view import RoleView


def build_resources(*names: str, **versions: str) -> dict[str, Resource]:
    """Resources with version 1, or what is given."""
    return {name: Resource(name, versions.get(name, "1"), b"") for name in names}


class Recorder:
    """A watcher that notes what it is told."""

    def __init__(self, view: RoleView) -> None:
        self.changes: list[tuple[str, tuple[str, ...]]] = []
        self.wakes = 0
        view.attach(self)

    def resources_changed(self, type_url: str, names: Collection[str]) -> None:
        """Notes a change."""
        self.changes.append((type_url, tuple(names)))

    def wake(self) -> None:
        """Counts."""
        self.wakes += 1


def test_a_watcher_is_told_only_what_differs() -> None:
    """Changed, new and gone names are told; equal versions in new objects are not."""
    cache = XdsCache()
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a", "b", "c"), ENDPOINTS: build_resources("a")})})
    recorder = Recorder(cache.view("r"))
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a", "b", "d", b="2"), ENDPOINTS: build_resources("a")})})
    assert recorder.changes == [(CLUSTER, ("b", "d", "c"))]
    assert recorder.wakes == 1


def test_a_publication_without_a_difference_wakes_nobody() -> None:
    """Neither the same snapshot, nor the same mappings, nor equal versions."""
    cache = XdsCache()
    snapshot = XdsSnapshot({CLUSTER: build_resources("a")})
    cache.publish({"r": snapshot})
    recorder = Recorder(cache.view("r"))
    cache.publish({"r": snapshot})
    cache.publish({"r": XdsSnapshot(dict(snapshot.types))})
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a")})})
    assert (recorder.changes, recorder.wakes) == ([], 0)


def test_only_the_streams_of_the_role_are_woken() -> None:
    """A change of one role does not reach another."""
    cache = XdsCache()
    recorder = Recorder(cache.view("other"))
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a")})})
    assert recorder.wakes == 0


def test_the_first_publication_wakes_even_if_it_is_empty() -> None:
    """That there is nothing is news to a stream that waits."""
    cache = XdsCache()
    recorder = Recorder(cache.view("r"))
    cache.publish({"r": XdsSnapshot()})
    assert recorder.wakes == 1
    assert cache.view("r").published


def test_unchanged_resources_keep_their_frames() -> None:
    """A resource is framed once, also when its mapping and its object are replaced."""
    cache = XdsCache()
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a", "b")})})
    before = dict(cache.view("r").wires(CLUSTER))
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a", "b", b="2")})})
    after = cache.view("r").wires(CLUSTER)
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]


def test_the_version_depends_on_content_only() -> None:
    """Two histories that end in the same resources end in the same version."""
    one, two = RoleView("one"), RoleView("two")
    one.publish(XdsSnapshot({CLUSTER: build_resources("a", "b")}))
    two.publish(XdsSnapshot({CLUSTER: build_resources("c", "b", b="2")}))
    assert one.version(CLUSTER) != two.version(CLUSTER)
    two.publish(XdsSnapshot({CLUSTER: build_resources("b", "a")}))
    assert one.version(CLUSTER) == two.version(CLUSTER)


def test_a_type_that_a_snapshot_lacks_is_empty() -> None:
    """A full publication replaces all types."""
    cache = XdsCache()
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a"), ENDPOINTS: build_resources("a")})})
    recorder = Recorder(cache.view("r"))
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a")})})
    assert recorder.changes == [(ENDPOINTS, ("a",))]
    assert cache.view("r").wires(ENDPOINTS) == {}


def test_the_fast_path_shows_in_the_snapshots() -> None:
    """The admin page sees what is served."""
    cache = XdsCache()
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a"), ENDPOINTS: build_resources("a")})})
    cache.publish_type("r", ENDPOINTS, build_resources("a", a="2"))
    snapshot = cache.snapshots()["r"]
    assert snapshot.of(ENDPOINTS)["a"].version == "2"
    assert snapshot.of(CLUSTER)["a"].version == "1"


def test_removing_a_role_empties_it() -> None:
    """A role that is gone is served nothing, one that is unknown stays unknown."""
    cache = XdsCache()
    cache.publish({"r": XdsSnapshot({CLUSTER: build_resources("a")})})
    cache.remove("r")
    cache.remove("unknown")
    assert cache.snapshots() == {"r": XdsSnapshot()}


def test_roles_that_only_clients_name_are_forgotten() -> None:
    """A client cannot make the server remember any number of roles."""
    cache = XdsCache()
    view = cache.view("invented")
    recorder = Recorder(view)
    cache.release(view)
    assert cache.view("invented") is view
    view.detach(recorder)
    cache.release(view)
    assert cache.view("invented") is not view
