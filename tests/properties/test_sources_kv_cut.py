"""Cutting the keys of a kind: every key in exactly one shard, few changes of the cut, never too many shards."""

from collections.abc import Collection, Iterable

from hypothesis import given
from hypothesis import strategies as st

from gloo_nomad.sources.kv_connections import Connections
from gloo_nomad.sources.kv_cut import Bounds, Shard, cut, extend, uncovered

ROOT = "gloo/g/v1/Kind/"
BOUNDS = Bounds(keys=4, size=1000)
names = st.text(alphabet="ab/.-é", min_size=1, max_size=6).map(lambda name: ROOT + name)
trees = st.dictionaries(names, st.integers(0, 400), max_size=60)
limits = st.integers(0, 30)


def owners(shards: Iterable[Shard], key: str) -> list[Shard]:
    """The shards that cover a key."""
    return [shard for shard in shards if shard.covers(key)]


def check(shards: Collection[Shard], keys: Iterable[str]) -> None:
    """Every object's key is covered once, and no shard overlaps another."""
    for key in keys:
        assert key.endswith("/") or len(owners(shards, key)) == 1
    for shard in shards:
        assert owners(shards, shard.prefix) == [shard]


@given(trees, limits, trees, limits)
def test_every_key_is_in_one_shard(sizes: dict[str, int], most: int, later: dict[str, int], limit: int) -> None:
    """Also when it was cut before for other keys; and there are never more shards than allowed."""
    first = cut(sizes, ROOT, most, BOUNDS)
    check(first, sizes)
    assert len(first) <= max(most, 1)

    second = cut(later, ROOT, limit, BOUNDS, first)
    check(second, later)
    assert len(second) <= max(limit, 1)
    assert cut(later, ROOT, limit, BOUNDS, second) == second


@given(trees, trees)
def test_new_names_get_shards_of_their_own(sizes: dict[str, int], more: dict[str, int]) -> None:
    """What was there stays as it is, and the new shards cover exactly what was not covered."""
    shards = cut(sizes, ROOT, 30, BOUNDS)
    added = extend(shards, list(uncovered(shards, more)), ROOT)
    if added is not None:
        check(shards | added, {**sizes, **more})


def shards_of(count: int, most: int = 80, before: Collection[Shard] = ()) -> frozenset[Shard]:
    """How so many virtual services of 6 kB are cut."""
    return cut({f"{ROOT}ns/vs-{number:05d}": 6000 for number in range(count)}, ROOT, most, Bounds(), before)


def test_few_keys_stay_whole() -> None:
    """A hundred small keys are one shard: the kind itself."""
    assert shards_of(100) == {Shard(ROOT)}


def test_many_keys_are_cut_evenly() -> None:
    """Three thousand become shards of a hundred each; of ten thousand as many as there are connections for."""
    assert shards_of(3000) == {Shard(f"{ROOT}ns/vs-0{number:02d}") for number in range(30)}
    assert 70 < len(shards_of(10_000)) <= 80


def test_a_cut_stays_until_it_is_clearly_wrong() -> None:
    """Shards that grow or shrink by half stay; those that grow by much are cut, and of few keys one is made."""
    before = shards_of(3000)
    assert shards_of(2000, before=before) <= before
    grown = {f"{ROOT}ns/vs-00123{number:03d}": 6000 for number in range(1000)}
    after = cut(
        {**dict.fromkeys((f"{ROOT}ns/vs-{n:05d}" for n in range(3000)), 6000), **grown}, ROOT, 80, Bounds(), before
    )
    assert before - after == {Shard(f"{ROOT}ns/vs-001")}
    assert shards_of(50, before=before) == {Shard(ROOT)}


def test_names_that_consul_cannot_watch_stay_together() -> None:
    """Consul cleans paths: no shard ends in a dot that is a part of its own, or holds two slashes."""
    keys = [f"{ROOT}{name}{number}" for name in (".", "..", "a//", "x/.") for number in range(9)]
    for odd in (keys, [f"{ROOT}\ufffd{number}" for number in range(9)]):
        check(cut(dict.fromkeys(odd, 1), ROOT, 30, BOUNDS), odd)
    hidden = [f"{ROOT}{name}{number}" for name in (".x", "b") for number in range(9)]
    assert cut(dict.fromkeys(hidden, 1), ROOT, 30, BOUNDS) == {Shard(ROOT)}
    assert extend([Shard(f"{ROOT}a")], [f"{ROOT}.b"], ROOT) is None


def test_connections_are_shared_and_linger() -> None:
    """A kind gets what its weight is worth; what was ended counts until Consul has forgotten it."""
    now = 0.0
    connections = Connections(lambda: 60, lambda: now)
    assert connections.allot("a", 10) == 60
    assert connections.allot("b", 30) == 45
    assert connections.allot("a", 10) == 15
    connections.forget("b")
    assert connections.allot("a", 10) == 60

    connections.opened(50)
    assert connections.free() == 10
    connections.ended(50, 16)
    assert connections.free() == 10
    now = 16.5
    assert connections.free() == 60
