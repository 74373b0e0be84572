"""Validation: what objects would do to the configuration in service."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import GATEWAY, ROUTE_TABLE, UPSTREAM
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.frontdoor.documents import Document, parse_documents
from gloo_nomad.frontdoor.overlay import lay_over, settings_among
from gloo_nomad.frontdoor.validation import MAX_WAITING, BusyError, Validator
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.store.snapshot import ConfigSnapshot

SETTINGS = settings_pb2.Settings()


def document(name: str, **fields: Any) -> Document:
    """An object named ns.name."""
    written = {"metadata": {"namespace": "ns", "name": name}, **(fields or {"routes": []})}
    (parsed,) = parse_documents(json.dumps(written).encode(), name)
    assert parsed.message is not None, parsed.rejection
    return parsed


def problem(name: str, message: str) -> Problem:
    """An error on a route table."""
    return Problem(Severity.ERROR, ObjectRef("RouteTable", "ns", name), "", message)


def test_overlay() -> None:
    """Objects are put and taken away; what did not change keeps its identity, and so does all if nothing did."""
    first = lay_over(ConfigSnapshot(), [document("a"), document("b")])
    again = lay_over(first, [document("a")])
    assert again is first
    changed = lay_over(first, [document("a", routes=[], weight=3)], [ROUTE_TABLE.object_ref(Ref("ns", "b"))])
    assert list(changed.of("RouteTable")) == [Ref("ns", "a")]
    assert changed.of("RouteTable")[Ref("ns", "a")] is not first.of("RouteTable")[Ref("ns", "a")]
    assert lay_over(first, [document("c")]).of("RouteTable")[Ref("ns", "a")] is first.of("RouteTable")[Ref("ns", "a")]


def test_new_objects_are_the_youngest() -> None:
    """What does not exist yet loses conflicts: it is younger than everything."""
    before = ConfigSnapshot(created={GATEWAY.name: {Ref("ns", "old"): 70}})
    after = lay_over(before, [document("new"), document("u", static={})])
    assert after.created[ROUTE_TABLE.name][Ref("ns", "new")] > 70
    assert after.created[UPSTREAM.name][Ref("ns", "u")] > 70
    assert after.created[GATEWAY.name][Ref("ns", "old")] == 70


def test_settings_among_documents() -> None:
    """Of several Settings the one named default counts."""
    named = [document(name, discoveryNamespace=name) for name in ("a", "default")]
    chosen = settings_among([document("x"), *named])
    assert chosen is not None
    assert chosen.discovery_namespace == "default"
    assert settings_among([document("x")]) is None


def test_only_what_is_new() -> None:
    """Problems that others have already are not told; those that they would get are, and all of the own ones."""
    told: list[str] = []

    def translate(snapshot: ConfigSnapshot, _: settings_pb2.Settings) -> Problems:
        told.append(",".join(ref.name for ref in snapshot.of("RouteTable")))
        problems = [problem("old", "as ever"), problem("a", "mine")]
        if Ref("ns", "a") in snapshot.of("RouteTable"):
            problems.append(problem("old", "because of a"))
        return tuple(problems)

    validator = Validator(lambda: (before, SETTINGS), translate)
    before = lay_over(ConfigSnapshot(), [document("old")])

    async def scenario() -> None:
        found = await validator.validate([document("a")])
        assert [one.message for one in found] == ["mine", "because of a"]
        await validator.validate([document("b")])

    asyncio.run(scenario())
    assert told == ["old", "a,old", "b,old"]  # what is in service is translated once


def test_deletes() -> None:
    """A delete can be judged as well."""

    def translate(snapshot: ConfigSnapshot, _: settings_pb2.Settings) -> Problems:
        return () if Ref("ns", "b") in snapshot.of("RouteTable") else (problem("a", "delegates to nothing"),)

    before = lay_over(ConfigSnapshot(), [document("a"), document("b")])

    async def scenario() -> None:
        found = await Validator(lambda: (before, SETTINGS), translate).validate(
            [], [ROUTE_TABLE.object_ref(Ref("ns", "b"))]
        )
        assert [one.message for one in found] == ["delegates to nothing"]

    asyncio.run(scenario())


def test_a_cancelled_request_does_not_overlap() -> None:
    """Who gives up leaves a translation running; the next one waits for it, and nobody's turn is lost."""
    running = 0
    overlap = False

    def translate(_: ConfigSnapshot, __: settings_pb2.Settings) -> Problems:
        nonlocal running, overlap
        running += 1
        overlap = overlap or running > 1
        time.sleep(0.1)
        running -= 1
        return ()

    async def scenario() -> None:
        validator = Validator(lambda: (ConfigSnapshot(), SETTINGS), translate)
        first = asyncio.create_task(validator.validate([document("a")]))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.gather(*(validator.validate([document(f"b{number}")]) for number in range(3)))
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(scenario())
    assert not overlap


def test_bounded_queue() -> None:
    """So many may wait; the next one is told at once."""
    release = threading.Event()

    def translate(_: ConfigSnapshot, __: settings_pb2.Settings) -> Problems:
        release.wait(10)
        return ()

    async def scenario() -> None:
        validator = Validator(lambda: (ConfigSnapshot(), SETTINGS), translate)
        waiting = [asyncio.create_task(validator.validate([document("a")])) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0.05)
        with pytest.raises(BusyError):
            await validator.validate([document("a")])
        release.set()
        assert await asyncio.gather(*waiting) == [()] * MAX_WAITING
        assert await validator.validate([document("a")]) == ()

    asyncio.run(scenario())
