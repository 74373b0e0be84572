"""What all names say of the shards."""

import pytest

from gloo_nomad.sources.kv_names import PATIENCE, ToldNames


def test_names_that_no_shard_read() -> None:
    """They are remembered until they are read or gone."""
    names = ToldNames()
    names.heard(["a", "b", "c"], {"a"}, 1.0)

    assert sorted(names.unread({"a"})) == ["b", "c"]
    assert names.unread({"a", "b"}) == ["c"]

    names.heard(["a", "b"], {"a"}, 2.0)

    assert names.unread({"a"}) == ["b"]


@pytest.mark.parametrize(("told", "known"), [({"a", "new"}, {"a"}), ({"a"}, {"a", "gone"})])
def test_a_difference_that_stays(told: set[str], known: set[str]) -> None:
    """It is overdue after a while, counted from when it was told first; not if the shards have read it by then."""
    names = ToldNames()
    names.heard(told, known, 1.0)
    names.heard(told, known, 3.0)

    assert names.due() == 1.0 + PATIENCE
    assert not names.overdue(known, 1.0 + PATIENCE - 0.1)
    assert names.overdue(known, 1.0 + PATIENCE)
    assert not names.overdue(told, 1.0 + PATIENCE)
    assert names.due() == float("inf")
