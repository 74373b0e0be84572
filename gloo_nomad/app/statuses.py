"""Writes statuses after serving: the leader compares what is stored with what is true, and writes what differs."""

import asyncio
from collections.abc import Iterator

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

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
_ONLY_WITH_PROXIES = frozenset({UPSTREAM.name, UPSTREAM_GROUP.name})


async def run_statuses(engine: Engine, writer: StatusWriter, leader: Leader, rounds: asyncio.Event) -> None:
    """After each of the engine's *rounds*, and when this process becomes the leader, for ever."""
    standings = Standings()
    translation: Translation | None = None
    problems: Problems = ()
    await engine.config_listed.wait()  # what was kept on disk has no statuses to compare with
    await engine.heard_of_services()  # endpoints come first
    rounds.set()
    while True:
        await rounds.wait()
        rounds.clear()
        await leader.held.wait()
        if engine.translation is None:
            continue
        writer.report_as(engine.settings.reporter)
        found = engine.problems()
        if translation is not engine.translation or problems != found:  # else it was a status that was written
            translation, problems = engine.translation, found
            standings.update(translation.proxies, problems)
        try:
            written = await writer.write(writer.differing(dict(reported(engine)), standings.of), leader.fence())
        except WorldError as failure:
            log.warning("statuses_not_written", reason=str(failure))
            await asyncio.sleep(RETRY_SECONDS)
            rounds.set()
        else:
            if written:
                log.debug("statuses_written", count=written)


def reported(engine: Engine) -> Iterator[tuple[ObjectRef, Entry]]:
    """The stored objects that carry a status; a key that names no object cannot."""
    has_proxies = bool(engine.translation and engine.translation.proxies)
    for kind in (*CONFIG_KINDS, SETTINGS, PROXY):
        if kind.name in _ONLY_WITH_PROXIES and not has_proxies:
            continue
        for ref, entry in engine.store.entries(kind.name).items():
            if ref.namespace and ref.name:
                yield ObjectRef(kind.name, ref.namespace, ref.name), entry
