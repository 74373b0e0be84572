"""What would happen if these objects were written: the same translation as in service, on a picture with them in it."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.frontdoor.documents import Document
from gloo_nomad.frontdoor.overlay import duplicates, lay_over
from gloo_nomad.reports import Problem, Problems
from gloo_nomad.store.snapshot import ConfigSnapshot

MAX_WAITING: Final = 16
"""Validations that wait for their turn; more are turned away."""

Translate = Callable[[ConfigSnapshot, settings_pb2.Settings], Problems]
"""All problems of a configuration."""
Current = Callable[[], tuple[ConfigSnapshot, settings_pb2.Settings]]
"""The configuration in service."""


class BusyError(Exception):
    """Too many validations wait already."""


@dataclass(slots=True)
class Validator:
    """Validates one request at a time, in a thread, so that serving goes on meanwhile."""

    current: Current
    translate: Translate
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    """A request that was given up leaves its thread running; the next one must wait for it."""
    _waiting: int = 0
    _before: tuple[ConfigSnapshot, settings_pb2.Settings, Problems] | None = None

    async def validate(self, documents: Sequence[Document], deletes: Iterable[ObjectRef] = ()) -> Problems:
        """Problems of the documents' objects, and those that others would get because of them.

        Raises:
            BusyError: too many validations wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise BusyError
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(self._judge_alone, documents, tuple(deletes))
        finally:
            self._waiting -= 1

    def _judge_alone(self, documents: Sequence[Document], deletes: tuple[ObjectRef, ...]) -> Problems:
        with self._guard:
            return self._judge(documents, deletes)

    def _judge(self, documents: Sequence[Document], deletes: tuple[ObjectRef, ...]) -> Problems:
        unreadable = tuple(problem for document in documents for problem in document.problems())
        snapshot, settings = self.current()
        after = lay_over(snapshot, documents, deletes)
        known = frozenset(self._problems_before(snapshot, settings))
        mine = {document.ref for document in documents}
        found = self.translate(after, settings) if after is not snapshot else tuple(known)
        caused = tuple(problem for problem in found if problem.ref in mine or problem not in known)
        return (*unreadable, *duplicates(documents), *sorted(caused, key=_by_weight))

    def _problems_before(self, snapshot: ConfigSnapshot, settings: settings_pb2.Settings) -> Problems:
        remembered = self._before
        if remembered is not None and remembered[0] is snapshot and remembered[1] is settings:
            return remembered[2]
        problems = self.translate(snapshot, settings)
        self._before = (snapshot, settings, problems)
        return problems


def _by_weight(problem: Problem) -> tuple[int, str, str, str]:
    return (-problem.severity, str(problem.ref), problem.path, problem.message)
