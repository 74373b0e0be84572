"""Views of objects: a result is kept as long as what it saw of them is equal, whatever else changed in them."""

from types import MappingProxyType
from typing import Any

from gloo_nomad.api.refs import Ref
from gloo_nomad.store.memo import Memo, Reads
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

ONE, TWO = Ref("ns", "one"), Ref("ns", "two")


def snapshot(**objects: Any) -> ConfigSnapshot:
    """A snapshot with these objects of one kind."""
    return ConfigSnapshot(
        MappingProxyType({"Kind": Collection({Ref("ns", name): obj for name, obj in objects.items()})})
    )


def length(value: Any) -> int | None:
    """What is looked at."""
    return None if value is None else len(value)


def test_only_the_answer_counts() -> None:
    """Another object of the same length is no change, one of another length is, and so is none."""
    memo = Memo()

    def seen(world: ConfigSnapshot) -> Any:
        return memo.track("key", (), world, lambda reads: reads.view("Kind", ONE, length))

    assert seen(snapshot(one=["a"])) == 1
    assert seen(snapshot(one=["b"])) == 1
    assert memo.computed == 1
    assert seen(snapshot(one=["b", "c"])) == 2
    assert seen(snapshot()) is None
    assert memo.computed == 3


def test_other_objects_do_not_count() -> None:
    """A step of a collection that concerns another object asks nothing."""
    asked: list[Any] = []

    def look(value: Any) -> int | None:
        asked.append(value)
        return length(value)

    before = Collection({ONE: ["a"], TWO: ["b"]})
    reads = Reads(ConfigSnapshot(MappingProxyType({"Kind": before})))
    reads.view("Kind", ONE, look)
    asked.clear()

    assert reads.hold(ConfigSnapshot(MappingProxyType({"Kind": before.replace({TWO: ["c", "d"]})})))
    assert asked == []


def test_look_ups_and_views_of_one_object() -> None:
    """Who looks an object up is concerned by every change of it, also when somebody else only views it."""
    reads = Reads(snapshot(one=["a"]))
    reads.view("Kind", ONE, length)
    assert reads.hold(snapshot(one=["b"]))

    reads.get("Kind", ONE)

    assert not reads.hold(snapshot(one=["c"]))
