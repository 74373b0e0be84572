"""The store: what did not change stays the same object, and what is broken does not take the good away."""

import gc
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot
from gloo_nomad.store.store import MOST_TOUCHED, Store

KIND = UPSTREAM.name
A, B, C = Ref("ns", "a"), Ref("ns", "b"), Ref("ns", "c")
BROKEN = Rejection("static.hosts", "expected a list, found text")


def upstream(host: str) -> upstream_pb2.Upstream:
    """An object with some content."""
    out = upstream_pb2.Upstream()
    out.static.hosts.add(addr=host, port=80)
    return out


def entry(host: str, version: int = 1, **more: Any) -> Entry:
    """An accepted object as a source sends it."""
    return Entry(upstream(host), version=version, **more)


def change(
    source: str = "kv", deletes: frozenset[Ref] = frozenset(), *, complete: bool = False, **puts: Entry
) -> Change:
    """A change of upstreams in the namespace ns."""
    return Change(source, KIND, {Ref("ns", name): found for name, found in puts.items()}, deletes, complete)


def hosts(store: Store) -> dict[str, str]:
    """What is served."""
    return {ref.name: value.static.hosts[0].addr for ref, value in store.snapshot.of(KIND).items()}


class TestIdentity:
    """Everything behind the store compares by identity."""

    def test_same_content(self) -> None:
        """An object that was written again with the same content is no change."""
        store = Store()
        store.apply(change(a=entry("one"), b=entry("two")))
        before = store.snapshot

        assert not store.apply(change(a=entry("one", version=9), b=entry("two")))
        assert store.snapshot is before
        assert store.entries(KIND)[A].version == 9

    def test_status_only(self) -> None:
        """A status that was written is remembered, and is no change."""
        store = Store()
        store.apply(change(a=entry("one")))

        assert not store.apply(change(a=entry("one", 2, status={"gloo-system": {"state": 1}})))
        assert store.entries(KIND)[A].status == {"gloo-system": {"state": 1}}

    def test_one_of_many(self) -> None:
        """After a change of one object the others are the same objects, and so are the other kinds."""
        store = Store()
        store.apply(change(a=entry("one"), b=entry("two")))
        store.apply(Change("kv", "Gateway", {A: Entry(1)}))
        before = store.snapshot

        assert store.apply(change(a=entry("new")))
        assert store.snapshot.of(KIND)[B] is before.of(KIND)[B]
        assert store.snapshot.of(KIND)[A] is not before.of(KIND)[A]
        assert store.snapshot.of("Gateway") is before.of("Gateway")
        assert before.of(KIND)[A] == upstream("one")

    def test_nothing(self) -> None:
        """Deleting what is not there, and an empty list of an unknown kind, are no changes."""
        store = Store()

        assert not store.apply(change(deletes=frozenset({A})))
        assert not store.apply(change(complete=True))
        assert store.snapshot.of(KIND) is ConfigSnapshot().of(KIND)

    def test_sorted(self) -> None:
        """Objects are sorted by namespace and name, in whatever order they came."""
        store = Store()
        for name in ("c", "a", "d", "b"):
            store.apply(Change("kv", KIND, {Ref("ns", name): entry(name)}))
        store.apply(change(deletes=frozenset({C}), e=entry("e"), aa=entry("aa")))

        assert [ref.name for ref in store.snapshot.of(KIND)] == ["a", "aa", "b", "d", "e"]


class TestRejected:
    """Objects that are none."""

    def test_last_good(self) -> None:
        """A broken new version changes nothing of what is served, and is a problem of the object."""
        store = Store()
        store.apply(change(a=entry("one"), b=entry("two")))

        assert not store.apply(change(a=Entry(None, BROKEN, version=2)))
        assert hosts(store) == {"a": "one", "b": "two"}
        assert store.entries(KIND)[A].version == 2
        assert list(store.problems()) == [Problem(Severity.ERROR, ObjectRef(KIND, "ns", "a"), *BROKEN)]

    def test_twice_broken(self) -> None:
        """It is kept over any number of broken versions."""
        store = Store()
        store.apply(change(a=entry("one")))
        for version in (2, 3, 4):
            store.apply(change(a=Entry(None, BROKEN, version=version)))

        assert hosts(store) == {"a": "one"}

    def test_repaired(self) -> None:
        """A good version ends it; the old content again is no change."""
        store = Store()
        store.apply(change(a=entry("one")))
        store.apply(change(a=Entry(None, BROKEN)))

        assert not store.apply(change(a=entry("one")))
        assert list(store.problems()) == []
        assert store.apply(change(a=entry("new")))
        assert hosts(store) == {"a": "new"}

    def test_never_good(self) -> None:
        """An object that was broken from the start is not served, and spoils no other."""
        store = Store()
        store.apply(change(a=Entry(None, BROKEN), b=entry("two"), complete=True))

        assert hosts(store) == {"b": "two"}
        assert [problem.ref.name for problem in store.problems()] == ["a"]
        assert store.apply(change(a=entry("one")))
        assert hosts(store) == {"a": "one", "b": "two"}

    def test_deleted(self) -> None:
        """A broken object that is deleted takes its last good version and its problem with it."""
        store = Store()
        store.apply(change(a=entry("one")))
        store.apply(change(a=Entry(None, BROKEN)))

        assert store.apply(change(deletes=frozenset({A})))
        assert hosts(store) == {}
        assert list(store.problems()) == []


class TestSources:
    """Several sources of one kind."""

    def test_complete(self) -> None:
        """A complete list removes what it does not name: the deleted last object of a kind is gone."""
        store = Store()
        store.apply(change(a=entry("one"), b=entry("two"), complete=True))

        assert store.apply(change(a=entry("one"), complete=True))
        assert hosts(store) == {"a": "one"}
        assert store.apply(change(complete=True))
        assert hosts(store) == {}

    def test_complete_is_about_its_own(self) -> None:
        """It does not remove what another source has, nor another kind."""
        store = Store()
        store.apply(change("files", a=entry("one")))
        store.apply(Change("kv", "Gateway", {A: Entry(1)}))

        assert not store.apply(change("kv", complete=True))
        assert hosts(store) == {"a": "one"}
        assert A in store.snapshot.of("Gateway")

    def test_deletes_are_about_its_own(self) -> None:
        """A source cannot delete what it does not have."""
        store = Store()
        store.apply(change("files", a=entry("one")))

        assert not store.apply(change("kv", deletes=frozenset({A})))
        assert hosts(store) == {"a": "one"}

    def test_two_have_it(self) -> None:
        """The source whose name comes first serves, whoever answers first; a warning names both."""
        orders = [("files", "kv"), ("kv", "files")]
        for order in orders:
            store = Store()
            for source in order:
                store.apply(change(source, a=entry(source)))
            assert hosts(store) == {"a": "files"}
            (problem,) = store.problems()
            assert problem.severity is Severity.WARNING
            assert str(problem) == "is in files and in kv; the one in files is used, remove the other"

    def test_one_of_two_goes(self) -> None:
        """When the one that serves it deletes it, the other's takes its place."""
        store = Store()
        store.apply(change("files", a=entry("files")))
        store.apply(change("kv", a=entry("kv")))

        assert store.apply(change("files", deletes=frozenset({A})))
        assert hosts(store) == {"a": "kv"}
        assert list(store.problems()) == []


class TestTouched:
    """Who writes statuses looks at what was touched, and nothing of it is remembered afterwards."""

    def test_taken_once(self) -> None:
        """What was put, put again unchanged, or taken away is told once."""
        store = Store()
        store.take_touched()
        store.apply(change(a=entry("one"), b=entry("two")))
        store.apply(change(a=entry("one", version=2)))
        store.apply(change(deletes=frozenset({C})))

        assert store.take_touched() == {UPSTREAM.object_ref(ref) for ref in (A, B, C)}
        assert store.take_touched() == set()

    def test_nobody_asked_yet(self) -> None:
        """Anything may have been touched before the first question, and nothing is remembered for nobody."""
        store = Store()
        store.apply(change(a=entry("one")))

        assert store.take_touched() is None
        assert store.take_touched() == set()

    def test_too_many(self) -> None:
        """More than are remembered count as all, and are counted anew from then on."""
        store = Store()
        store.take_touched()
        many = {Ref("ns", f"name-{number}"): entry("one") for number in range(MOST_TOUCHED + 1)}
        store.apply(Change("kv", KIND, many))

        assert store.take_touched() is None
        store.apply(change(a=entry("one")))
        assert store.take_touched() == {UPSTREAM.object_ref(A)}

    def test_nothing_piles_up(self) -> None:
        """Names that come and go and are never used again leave nothing behind."""
        store = Store()
        for number in range(100):
            ref = Ref("ns", f"name-{number}")
            store.apply(Change("kv", KIND, {ref: entry("one")}))
            store.apply(Change("kv", KIND, deletes=frozenset({ref})))
            store.take_touched()
        gc.collect()

        kept = {found.name for found in gc.get_objects() if isinstance(found, ObjectRef)}
        assert not [name for name in kept if name.startswith("name-")]


class TestAge:
    """When objects were created decides conflicts."""

    def test_created(self) -> None:
        """The age of an object is the one it came with, as long as it exists."""
        store = Store()
        store.apply(change(a=entry("one", created=5), b=entry("two", created=3)))
        store.apply(change(a=entry("new", created=9)))

        assert store.snapshot.created[KIND] == {A: 5, B: 3}

    def test_created_again(self) -> None:
        """An object that was deleted and created again is young."""
        store = Store()
        store.apply(change(a=entry("one", created=5)))
        store.apply(change(deletes=frozenset({A})))
        assert store.snapshot.created[KIND] == {}
        store.apply(change(a=entry("one", created=9)))

        assert store.snapshot.created[KIND] == {A: 9}

    def test_repaired(self) -> None:
        """An object that was broken when it was created has its age from then."""
        store = Store()
        store.apply(change(a=Entry(None, BROKEN, created=5)))
        store.apply(change(a=entry("one", created=7)))

        assert store.snapshot.created[KIND] == {A: 5}


class TestCollection:
    """The immutable mapping itself."""

    def test_replace(self) -> None:
        """The old one stays what it was; a replacement that changes nothing is the same collection."""
        one, two = object(), object()
        before = Collection({B: one, A: two})

        after = before.replace({C: one}, frozenset({A}))

        assert list(before) == [A, B]
        assert list(after) == [B, C]
        assert before.replace({A: two}, frozenset({C})) is before
        assert before.replace({A: two}, frozenset({A})) is before

    def test_changed_since(self) -> None:
        """What changed between two collections is known for a while."""
        first = Collection({A: object(), B: object()})
        second = first.replace({A: object()})
        third = second.replace({C: object()}, frozenset({B}))

        assert third.changed_since(third) == frozenset()
        assert third.changed_since(second) == frozenset({B, C})
        assert third.changed_since(first) == frozenset({A, B, C})
        assert first.changed_since(third) is None
        assert third.changed_since(Collection()) is None
        for _ in range(100):
            third = third.replace({C: object()})
        assert third.changed_since(first) is None
        assert len(third._steps) <= 16

    def test_speed(self) -> None:
        """One change among 10,000 objects costs about a millisecond. The bound is many times what is measured."""
        store = Store()
        everything = {Ref("ns", f"{number:05}"): Entry(number + 1, created=number + 1) for number in range(10_000)}
        store.apply(Change("kv", KIND, everything, complete=True))
        durations = []
        for number in range(10):
            ref = Ref("ns", "05000") if number % 2 else Ref("ns", f"new-{number}")
            start = time.process_time()
            assert store.apply(Change("kv", KIND, {ref: Entry(-1 - number)}))
            durations.append(time.process_time() - start)

        assert sorted(durations)[5] < 0.030


SOURCES = st.sampled_from(["files", "kv"])
ENTRIES = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["one", "two", ""]), max_size=3)


@given(st.lists(st.tuples(SOURCES, ENTRIES, st.sets(st.sampled_from([A, B, C])), st.booleans()), max_size=12))
@settings(deadline=None)
def test_any_changes(steps: list[tuple[str, dict[str, str], set[Ref], bool]]) -> None:
    """After any changes the store serves what a plain model of its rules says."""
    store = Store()
    good: dict[str, dict[str, str]] = {"files": {}, "kv": {}}
    present: dict[str, set[str]] = {"files": set(), "kv": set()}
    for source, entries, deletes, complete in steps:
        puts = {name: entry(host) if host else Entry(None, BROKEN) for name, host in entries.items()}
        store.apply(change(source, frozenset(deletes), complete=complete, **puts))
        gone = present[source] - set(entries) if complete else {ref.name for ref in deletes} - set(entries)
        present[source] = (present[source] | set(entries)) - gone
        for name in gone:
            good[source].pop(name, None)
        good[source].update({name: host for name, host in entries.items() if host})

    expected = {}
    for source in ("kv", "files"):
        expected.update({name: good[source].get(name, "") for name in present[source]})
    assert hosts(store) == {name: host for name, host in sorted(expected.items()) if host}
