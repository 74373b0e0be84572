"""Mappings that know in what they differ from those before them."""

from hypothesis import given
from hypothesis import strategies as st

from gloo_nomad.journal import Joined, Journal, differing_places

KEYS = st.sampled_from("abcdef")
PARTS = st.lists(st.dictionaries(KEYS, st.integers(0, 3).map(lambda number: f"value {number}")), max_size=3)
"""What is joined in one round; the same key may be in several parts."""


@given(st.lists(st.tuples(st.dictionaries(KEYS, st.text(max_size=1)), st.sets(KEYS)), max_size=24))
def test_what_changed(steps: list[tuple[dict[str, str], set[str]]]) -> None:
    """Whatever is different from an older version is among what is said to have changed, or nothing is known."""
    versions: list[Journal[str, str]] = [Journal()]
    for puts, deletes in steps:
        versions.append(versions[-1].replace(puts, deletes))
    last = versions[-1]

    assert list(last) == sorted(last)
    for older in versions:
        changed = last.changed_since(older)
        different = {key for key in {*older, *last} if older.get(key) is not last.get(key)}
        assert changed is None or different <= changed
    assert last.changed_since(versions[max(0, len(versions) - 8)]) is not None


def test_nothing_changed() -> None:
    """The same values are no other mapping."""
    one = Journal({"a": "x"})

    assert one.replace({"a": one["a"]}, {"b"}) is one
    assert one.changed_since(Journal({"a": "x"})) is None


@given(st.lists(PARTS, max_size=12), st.data())
def test_joined(rounds: list[list[dict[str, str]]], data: st.DataObject) -> None:
    """However parts come, go and stay the same objects, the whole is what they have, the last of each key."""
    joined: Joined[str, str] = Joined()
    parts: list[Journal[str, str] | dict[str, str]] = []
    for given_parts in rounds:
        kept = data.draw(st.lists(st.booleans(), min_size=len(given_parts), max_size=len(given_parts)))
        now: list[Journal[str, str] | dict[str, str]] = []
        for place, (part, keep) in enumerate(zip(given_parts, kept, strict=True)):
            before = parts[place] if place < len(parts) else None
            if keep and before is not None:
                now.append(before)
            elif isinstance(before, Journal):
                now.append(before.replace(part, before.keys() - part.keys()))
            else:
                now.append(Journal(part) if place % 2 else part)
        parts = now
        whole = joined.join(parts)
        assert dict(whole) == {key: value for part in parts for key, value in part.items()}
        assert joined.join(parts) is whole


@given(st.integers(0, 600), st.sets(st.integers(0, 600), max_size=4))
def test_differing_places(length: int, changed: set[int]) -> None:
    """Exactly the places with other objects; other lengths cannot be compared."""
    old = [object() for _ in range(length)]
    new = [object() if place in changed else item for place, item in enumerate(old)]

    assert differing_places(old, new) == sorted(place for place in changed if place < length)
    assert differing_places(old, [*new, object()]) is None
