"""Reading Consul KV by differences gives what reading all of it would give."""

import asyncio
import base64
import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.consul_answers import KvPair
from gloo_nomad.sources.kv_kind import KindReader
from gloo_nomad.sources.kv_prefix import PrefixChange, PrefixKeys
from gloo_nomad.store.store import Store

PREFIX = f"gloo/{UPSTREAM.prefix}"
KEYS = [f"{PREFIX}{name}" for name in ("x/a", "x/b", "x2/a", "loose", "x/sub/a", "x/", "")]
VALUES = ["1", "2", "3", "broken", "empty"]

Stored = dict[str, tuple[str, int]]
"""Value and ModifyIndex by key."""


def make_pair(key: str, value: str, modified: int) -> KvPair:
    """A key as an answer of Consul holds it."""
    namespace, _, name = key.removeprefix(PREFIX).partition("/")
    document = {"metadata": {"name": name, "namespace": namespace}, "static": {"hosts": [{"addr": value, "port": 1}]}}
    text = {"broken": b"a: [", "empty": b""}.get(value, json.dumps(document).encode())
    raw = msgspec.Raw(f'"{base64.b64encode(text).decode()}"'.encode() if text else b"null")
    return KvPair(key, 1, modified, "", raw)


def read_all(stored: Stored, namespaces: frozenset[str]) -> Store:
    """The store after one complete reading."""
    return follow([(stored, False)], namespaces)


def follow(steps: list[tuple[Stored, bool]], namespaces: frozenset[str]) -> Store:
    """The store after a sequence of answers, each with whether its versions can be compared."""
    reader = KindReader("kv", UPSTREAM, PREFIX, namespaces)
    keys = PrefixKeys()
    store = Store()
    for stored, trusted in steps:
        pairs = tuple(make_pair(key, *stored[key]) for key in sorted(stored))
        difference = keys.compare(pairs, trusted=trusted)
        change = asyncio.run(reader.read(difference)) if difference else None
        if change:
            store.apply(change)
    return store


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Stored, bool]]:
    """Answers of one Consul whose indexes grow, and now and then of another one whose indexes are anything."""
    steps: list[tuple[Stored, bool]] = []
    stored: Stored = {}
    index = 0
    for _ in range(draw(st.integers(1, 8))):
        same_server = bool(steps) and draw(st.integers(0, 3)) > 0
        if not same_server:
            index = draw(st.integers(0, 3))
            stored = {key: (draw(st.sampled_from(VALUES)), index) for key in draw(st.sets(st.sampled_from(KEYS)))}
        for key in draw(st.sets(st.sampled_from(KEYS), max_size=3)):
            index += 1
            stored[key] = (draw(st.sampled_from(VALUES)), index)
        for key in draw(st.sets(st.sampled_from(KEYS), max_size=2)):
            stored.pop(key, None)
        steps.append((dict(stored), same_server))
    return steps


@given(histories(), st.sampled_from([frozenset[str](), frozenset({"x"})]))
def test_differences_equal_the_whole(steps: list[tuple[Stored, bool]], namespaces: frozenset[str]) -> None:
    """After any history of writes, deletes and restarts the entries are those of a reader that starts now.

    Objects that were served before and are rejected now differ on purpose: they stay served.
    """
    incremental, whole = follow(steps, namespaces), read_all(steps[-1][0], namespaces)

    assert set(incremental.entries(UPSTREAM.name)) == set(whole.entries(UPSTREAM.name))
    for ref, entry in whole.entries(UPSTREAM.name).items():
        found = incremental.entries(UPSTREAM.name)[ref]
        assert (found.version, found.rejection) == (entry.version, entry.rejection)
        if entry.value is not None:
            assert found.value == entry.value


def test_same_index_other_value() -> None:
    """Another Consul that happens to have another value at the same index is not mistaken for the old one."""
    key = f"{PREFIX}x/a"
    store = follow([({key: ("1", 7)}, False), ({key: ("2", 7)}, False)], frozenset())

    assert store.entries(UPSTREAM.name)[Ref("x", "a")].value.static.hosts[0].addr == "2"


def test_equal_answer_after_a_failure_says_nothing() -> None:
    """What is read again after a failure and is the same as before is no change."""
    pairs = (make_pair(f"{PREFIX}x/a", "1", 7),)
    reader = KindReader("kv", UPSTREAM, PREFIX, frozenset())

    assert asyncio.run(reader.read(PrefixChange(pairs, complete=True, compare=True))) is not None
    assert asyncio.run(reader.read(PrefixChange(pairs, complete=True, compare=True))) is None
