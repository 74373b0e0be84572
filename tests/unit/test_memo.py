"""Remembered results: kept exactly as long as what they were computed from is the same."""

import time
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gloo_nomad.api.refs import Ref
from gloo_nomad.store.memo import Memo, Reads
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

A, B, C = Ref("ns", "a"), Ref("ns", "b"), Ref("ns", "c")


class Value:
    """Something with an identity and a label."""

    def __init__(self, label: str = "") -> None:
        self.label = label


def world(**kinds: Collection[Any]) -> ConfigSnapshot:
    """A snapshot of these collections."""
    return ConfigSnapshot(MappingProxyType(kinds))


def changed(snapshot: ConfigSnapshot, kind: str, puts: dict[Ref, Any], *deletes: Ref) -> ConfigSnapshot:
    """The snapshot after a change of one kind."""
    after = snapshot.of(kind).replace(puts, frozenset(deletes))
    return ConfigSnapshot(MappingProxyType({**snapshot.collections, kind: after}))


def blue(collection: Collection[Value]) -> Iterable[tuple[Ref, Value]]:
    """The blue ones."""
    return [(ref, value) for ref, value in collection.items() if value.label == "blue"]


def is_blue(_: Ref, value: Value) -> bool:
    """Whether it is blue."""
    return value.label == "blue"


def looked_up(reads: Reads) -> Value:
    """A result that depends on one object."""
    return Value(str(id(reads.get("x", A))))


class TestGet:
    """Inputs that are listed beforehand."""

    def test_hit(self) -> None:
        """The same inputs give the same object, computed once."""
        memo, one = Memo(), Value()

        first = memo.get("key", (one,), Value)

        assert memo.get("key", (one,), Value) is first
        assert memo.computed == 1

    def test_miss(self) -> None:
        """An input that is another object computes anew, equal or not."""
        memo = Memo()

        first = memo.get("key", ([1],), Value)

        assert memo.get("key", ([1],), Value) is not first
        assert memo.get("key", ([1], 2), Value) is not first
        assert memo.computed == 3

    def test_text_and_numbers_by_value(self) -> None:
        """Text that was put together again is the same input; 1 and True are not."""
        memo, text = Memo(), "a-b"
        first = memo.get("key", (text, 1000, Ref("a", "b")), Value)

        assert memo.get("key", (text[:1] + text[1:], int("1000"), Ref("a", "b")), Value) is first
        assert memo.get("flag", (1,), Value) is not memo.get("flag", (True,), Value)

    def test_keys(self) -> None:
        """Results of different keys are different results."""
        memo, one = Memo(), Value()

        assert memo.get("a", (one,), Value) is not memo.get("b", (one,), Value)

    def test_failure_is_not_remembered(self) -> None:
        """A computation that raises is run again, and what encloses the next one is not confused."""
        memo = Memo()

        def fail() -> Value:
            raise ZeroDivisionError

        for _ in range(2):
            try:
                memo.get("key", (), fail)
            except ZeroDivisionError:
                continue
        assert memo.computed == 2
        assert memo.get("key", (), Value) is memo.get("key", (), Value)


class TestTrack:
    """Look-ups while it runs."""

    def run(self, memo: Memo, snapshot: ConfigSnapshot, compute: Callable[[Reads], Any]) -> Value:
        """One computation that returns a new object whenever it runs."""

        def fresh(reads: Reads) -> Value:
            compute(reads)
            return Value()

        return memo.track("key", (), snapshot, fresh)

    def check(self, before: ConfigSnapshot, after: ConfigSnapshot, compute: Callable[[Reads], Any]) -> bool:
        """Whether the result is kept over a change."""
        memo = Memo()
        first = self.run(memo, before, compute)
        assert self.run(memo, before, compute) is first
        second = self.run(memo, after, compute)
        assert self.run(memo, after, compute) is second
        return first is second

    def test_get(self) -> None:
        """Only a change of an object that was looked up matters."""
        before = world(x=Collection({A: Value(), B: Value()}))

        assert self.check(before, changed(before, "x", {B: Value()}), lambda reads: reads.get("x", A))
        assert not self.check(before, changed(before, "x", {A: Value()}), lambda reads: reads.get("x", A))
        assert not self.check(before, changed(before, "x", {}, A), lambda reads: reads.get("x", A))

    def test_get_of_what_is_missing(self) -> None:
        """An object that was missing matters when it appears, of a kind that exists and of one that does not."""
        before = world(x=Collection({A: Value()}))

        assert not self.check(before, changed(before, "x", {C: Value()}), lambda reads: reads.get("x", C))
        assert not self.check(before, changed(before, "y", {C: Value()}), lambda reads: reads.get("y", C))
        assert self.check(before, changed(before, "y", {B: Value()}), lambda reads: reads.get("y", C))

    def test_other_kinds(self) -> None:
        """A kind that was not looked at does not matter."""
        before = world(x=Collection({A: Value()}), y=Collection({A: Value()}))

        assert self.check(before, changed(before, "y", {A: Value()}), lambda reads: reads.get("x", A))

    def test_select(self) -> None:
        """What a selection picks matters, nothing else."""
        before = world(x=Collection({A: Value("blue"), B: Value("red")}))

        def choose(reads: Reads) -> Any:
            return reads.select("x", blue)

        assert self.check(before, changed(before, "x", {B: Value("red"), C: Value("red")}), choose)
        assert not self.check(before, changed(before, "x", {B: Value("blue")}), choose)
        assert not self.check(before, changed(before, "x", {A: Value("blue")}), choose)
        assert not self.check(before, changed(before, "x", {}, A), choose)

    def test_matching(self) -> None:
        """The same for a condition on single objects."""
        before = world(x=Collection({A: Value("blue"), B: Value("red")}))

        def choose(reads: Reads) -> Any:
            return reads.matching("x", is_blue)

        assert self.check(before, changed(before, "x", {B: Value("red"), C: Value("red")}), choose)
        assert not self.check(before, changed(before, "x", {B: Value("blue")}), choose)
        assert not self.check(before, changed(before, "x", {A: Value("blue")}), choose)
        assert not self.check(before, changed(before, "x", {A: Value("red")}), choose)
        assert not self.check(before, changed(before, "x", {}, A), choose)
        assert Reads(before).matching("x", is_blue) == ((A, before.of("x")[A]),)

    def test_matching_asks_about_changes_only(self) -> None:
        """After a change of one object, only that one is looked at again."""
        before = world(x=Collection({Ref("ns", str(number)): Value("red") for number in range(100)}))
        asked: list[Ref] = []

        def remember(ref: Ref, value: Value) -> bool:
            asked.append(ref)
            return is_blue(ref, value)

        memo = Memo()
        self.run(memo, before, lambda reads: reads.matching("x", remember))
        asked.clear()
        self.run(memo, changed(before, "x", {Ref("ns", "7"): Value("red")}), lambda _: None)

        assert asked == [Ref("ns", "7")]

    def test_collections_that_were_made_anew(self) -> None:
        """A collection without a common history is compared in full."""
        value = Value("blue")
        before, after = world(x=Collection({A: value})), world(x=Collection({A: value, B: Value("red")}))
        other = world(x=Collection({A: value, B: Value("blue")}))

        for choose in (
            lambda reads: reads.get("x", A),
            lambda reads: reads.select("x", blue),
            lambda reads: reads.matching("x", is_blue),
        ):
            assert self.check(before, after, choose)
        assert not self.check(before, other, lambda reads: reads.matching("x", is_blue))
        assert not self.check(before, other, lambda reads: reads.select("x", blue))

    def test_inputs(self) -> None:
        """Listed inputs count as well."""
        memo, snapshot = Memo(), world()

        first = memo.track("key", (1,), snapshot, lambda _: Value())

        assert memo.track("key", (1,), snapshot, lambda _: Value()) is first
        assert memo.track("key", (2,), snapshot, lambda _: Value()) is not first


class TestNested:
    """Computations inside computations."""

    def outer(self, memo: Memo, snapshot: ConfigSnapshot, *, through_get: bool = False) -> Value:
        """A computation that looks nothing up itself, but asks one that does."""

        def ask(reads: Reads) -> Value:
            if through_get:
                return memo.get("middle", (), lambda: memo.track("inner", (), reads.snapshot, looked_up))
            return memo.track("inner", (), reads.snapshot, looked_up)

        return memo.track("outer", (), snapshot, lambda reads: Value(ask(reads).label))

    def test_inner_look_ups_count_for_the_outer(self) -> None:
        """What an inner computation looked up makes the outer one run again, also if somebody else asked first."""
        for through_get in (False, True):
            memo = Memo()
            before = world(x=Collection({A: Value()}))
            self.outer(memo, before, through_get=through_get)
            new = Value()
            after = changed(before, "x", {A: new})

            memo.track("inner", (), after, looked_up)

            assert self.outer(memo, after, through_get=through_get).label == str(id(new))

    def test_inner_results_outlive_the_outer(self) -> None:
        """Rounds in which the outer result is remembered do not forget what it is made of."""
        memo, one = Memo(), Value()

        def outer(number: int) -> int:
            return memo.get("outer", (number,), lambda: id(memo.get("inner", (one,), Value)))

        first = outer(1)
        for _ in range(3):
            memo.sweep()
            assert outer(1) == first
        memo.sweep()

        assert outer(2) == first
        assert memo.computed == 3


class TestSweep:
    """Memory follows the configuration."""

    def test_forgets_what_nobody_asked_for(self) -> None:
        """A result that a round did not use is gone after it, the others stay."""
        memo = Memo()
        kept, forgotten = memo.get("kept", (), Value), memo.get("forgotten", (), Value)
        memo.sweep()
        memo.get("kept", (), Value)
        memo.sweep()

        assert memo.get("kept", (), Value) is kept
        assert memo.get("forgotten", (), Value) is not forgotten

    def test_forgets_inner_results_with_their_outer(self) -> None:
        """What only a forgotten result was made of is forgotten too."""
        memo = Memo()
        memo.get("outer", (), lambda: memo.get("inner", (), Value))
        memo.sweep()
        memo.sweep()
        before = memo.computed
        memo.get("inner", (), Value)

        assert memo.computed == before + 1


class TestSpeed:
    """Rounds in which next to nothing changed are cheap. The bound is loose."""

    def test_round_after_a_change(self) -> None:
        """3,000 results of 10 look-ups each are confirmed after a change of what they looked into."""
        refs = [Ref("ns", str(number)) for number in range(10_000)]
        snapshot = world(x=Collection({ref: Value() for ref in refs}))
        memo = Memo()

        def compute(number: int) -> Callable[[Reads], list[Any]]:
            return lambda reads: [reads.get("x", refs[number * 3 + step]) for step in range(10)]

        computes = [compute(number) for number in range(3_000)]
        durations = []
        for _ in range(6):
            start = time.process_time()
            for number, run in enumerate(computes):
                memo.track(number, (), snapshot, run)
            memo.sweep()
            durations.append(time.process_time() - start)
            snapshot = changed(snapshot, "x", {refs[5_000]: Value()})

        assert min(durations[1:]) < 0.090


LABELS = st.sampled_from(["red", "blue"])
REFS = st.sampled_from([A, B, C])
CHANGES = st.lists(
    st.tuples(st.sampled_from(["x", "y"]), st.dictionaries(REFS, LABELS), st.sets(REFS)),
    max_size=30,
)


@given(CHANGES, st.integers(1, 20))
@settings(deadline=None)
def test_same_as_from_scratch(changes: list[tuple[str, dict[Ref, str], set[Ref]]], every: int) -> None:
    """After any changes, and however many at a time, what is remembered equals what would be computed anew."""
    memo, snapshot = Memo(), world()

    def compute(reads: Reads) -> list[Any]:
        found = [reads.get("x", A), *reads.matching("y", is_blue), *reads.select("x", blue)]
        if reads.get("x", B) is not None:
            found.append(memo.track("inner", (), reads.snapshot, lambda inner: (inner.get("y", C), inner.get("x", C))))
        return found

    for number, (kind, labels, deletes) in enumerate(changes):
        snapshot = changed(snapshot, kind, {ref: Value(label) for ref, label in labels.items()}, *deletes)
        if number % every:
            continue
        remembered = memo.track("outer", (), snapshot, compute)
        memo.sweep()
        fresh, memo_kept = Memo(), memo
        memo = fresh
        assert remembered == fresh.track("outer", (), snapshot, compute)
        memo = memo_kept
