"""Writes statuses after serving: the leader compares what is stored with what is true, and writes what differs."""

import asyncio
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import structlog

from gloo_nomad.api.kinds import CONFIG_KINDS, PROXY, SETTINGS, UPSTREAM, UPSTREAM_GROUP
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.app.engine import Engine
from gloo_nomad.app.standing import Standings
from gloo_nomad.clients.http import WorldError
from gloo_nomad.pipeline import Translation
from gloo_nomad.reports import Problems
from gloo_nomad.store.change import Entry
from gloo_nomad.store.leader import Leader
from gloo_nomad.store.status_writer import StatusWriter
from gloo_nomad.store.statuses import Status

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
_ONLY_WITH_PROXIES = frozenset({UPSTREAM.name, UPSTREAM_GROUP.name})


async def run_statuses(engine: Engine, writer: StatusWriter, leader: Leader, rounds: asyncio.Event) -> None:
    """After each of the engine's *rounds*, and when this process becomes the leader, for ever."""
    differences = Differences(engine, writer)
    await engine.config_listed.wait()  # what was kept on disk has no statuses to compare with
    await engine.heard_of_services()  # endpoints come first
    rounds.set()
    while True:
        await rounds.wait()
        rounds.clear()
        await leader.held.wait()
        if engine.translation is None:
            continue
        try:
            written = await writer.write(differences.find(engine.translation), leader.fence())
        except WorldError as failure:
            log.warning("statuses_not_written", reason=str(failure))
            await asyncio.sleep(RETRY_SECONDS)
            rounds.set()
        else:
            if written:
                log.debug("statuses_written", count=written)


@dataclass(slots=True)
class Differences:
    """Which stored statuses are not what they should be: all are looked at once, then what may be different."""

    engine: Engine
    writer: StatusWriter
    _standings: Standings = field(default_factory=Standings)
    _translation: Translation | None = None
    _problems: Problems = ()
    _basis: tuple[str, bool] | None = None
    """The reporter, and whether there are proxies: what all statuses depend on."""
    _pending: dict[ObjectRef, Entry] = field(default_factory=dict)
    """What differed and may not have been written."""

    def find(self, translation: Translation) -> list[tuple[ObjectRef, Entry, Status]]:
        """The objects whose status is to be written; to be called after each round of the engine."""
        refs = self._suspects(translation)
        found = dict(reported(self.engine, refs))
        self.writer.forget((self.writer.done.keys() if refs is None else refs) - found.keys())
        differing = self.writer.differing(found, self._standings.of)
        self._pending = {ref: entry for ref, entry, _ in differing}
        return differing

    def _suspects(self, translation: Translation) -> AbstractSet[ObjectRef] | None:
        """The objects whose status may be another than it should be; None for all."""
        engine = self.engine
        changed, problems = set[ObjectRef](), engine.problems()
        if self._translation is not translation or problems != self._problems:
            changed = self._standings.update(translation.proxies, problems)  # else a status was written
            self._translation, self._problems = translation, problems
        touched = engine.store.take_touched()
        basis, self._basis = self._basis, (engine.settings.reporter, bool(translation.proxies))
        self.writer.report_as(engine.settings.reporter)
        if touched is None or basis != self._basis:
            return None
        return changed | touched | {ref for ref, entry in self._pending.items() if not self.writer.is_done(ref, entry)}


def reported(engine: Engine, refs: Iterable[ObjectRef] | None = None) -> Iterator[tuple[ObjectRef, Entry]]:
    """The stored objects that carry a status, of these or of all; a key that names no object cannot."""
    has_proxies = bool(engine.translation and engine.translation.proxies)
    kinds = [kind.name for kind in (*CONFIG_KINDS, SETTINGS, PROXY)]
    kinds = [kind for kind in kinds if has_proxies or kind not in _ONLY_WITH_PROXIES]
    for ref in _all(engine, kinds) if refs is None else sorted(refs):
        entry = engine.store.entries(ref.kind).get(ref.ref) if ref.kind in kinds else None
        if entry is not None and ref.namespace and ref.name:
            yield ref, entry


def _all(engine: Engine, kinds: Iterable[str]) -> Iterator[ObjectRef]:
    for kind in kinds:
        yield from (ObjectRef(kind, *ref) for ref in engine.store.entries(kind))
