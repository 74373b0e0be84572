"""The cache: what a publication costs, whom it wakes, and what stays."""

from collections.abc import Collection

from gloo_nomad.resources import CLUSTER, ENDPOINTS, ROUTES, VIRTUAL_HOST, Resource, XdsSnapshot
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


def split_snapshot(version: str) -> XdsSnapshot:
    """A RouteConfiguration that is whole for the state of the world and split for delta."""
    whole, hosts = build_resources("r", r=version), build_resources("r/a", **{"r/a": version})
    return XdsSnapshot({ROUTES: whole}, {ROUTES: build_resources("r", r="split"), VIRTUAL_HOST: hosts})


def test_each_protocol_has_its_form() -> None:
    """Delta streams are told of the virtual host that changed, the others of the RouteConfiguration."""
    cache = XdsCache()
    cache.publish({"r": split_snapshot("1")})
    delta, whole = Recorder(cache.view("r")), Recorder(cache.view("r", delta=False))
    cache.publish({"r": split_snapshot("2")})
    cache.publish_type("r", ENDPOINTS, build_resources("e"))

    assert delta.changes == [(VIRTUAL_HOST, ("r/a",)), (ENDPOINTS, ("e",))]
    assert whole.changes == [(ROUTES, ("r",)), (ENDPOINTS, ("e",))]
    assert cache.snapshots()["r"].of(VIRTUAL_HOST)["r/a"].version == "2"
    assert cache.view("r").snapshot.of(ROUTES)["r"].version == "2"
    cache.remove("r")
    assert cache.view("r", delta=False).wires(ROUTES) == {}


def test_the_whole_form_is_kept_only_while_it_is_wanted() -> None:
    """Without state-of-the-world streams nothing is framed for them, and what they are served comes back with them."""
    cache = XdsCache()
    view = cache.view("r", delta=False)
    recorder = Recorder(view)
    cache.publish({"r": split_snapshot("1")})
    assert recorder.wakes == 1
    view.detach(recorder)
    cache.release(view)
    again = cache.view("r", delta=False)
    assert again is not view
    assert again.wires(ROUTES)["r"].version == "1"
