"""A Consul or Nomad that lost its data is not a user who deleted everything.

After a restart without its data it answers as if nothing had ever been there: no key below the root, no service
besides its own. That is held against what is served: as long as *nothing* is there, nothing is taken away, and the
source says why. Once something is there again, and nothing was added for a moment, everything is read anew. A user who
deletes the last object while it is watched is believed at once: that is a change, and not another world.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from gloo_nomad.api.refs import Ref
from gloo_nomad.app.service_providers import Provider
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.http import WorldError
from gloo_nomad.sources.source import Source, SourceState
from gloo_nomad.store.change import Change, Entry

log = structlog.get_logger(__name__)

QUIET_SECONDS: Final = 2.0
"""How long nothing may be added before what came back counts as all of it."""
_PART: Final = "lost data"

Stored = Callable[[str], Mapping[Ref, Entry]]
Look = Callable[[], Awaitable[frozenset[str]]]


def own_prefix(root: str) -> str:
    """Where this program keeps its locks: keys there say nothing about objects."""
    return f"{root}/gloo-nomad/"


async def was_emptied(client: ConsulClient, root: str, change: Change, stored: Stored, state: SourceState) -> bool:
    """Whether a change comes of lost data; if so, answers when objects are there again, to be read anew."""
    if not change.complete or change.puts or not stored(change.kind):
        return False

    async def look() -> frozenset[str]:
        answer = await client.kv_keys(f"{root}/")
        return frozenset(key for key in answer.keys if not key.startswith(own_prefix(root)))

    return await _was_lost(look, f"Consul has no key below {root}/ any more", state)


def doubtful_services(change: Change, stored: Stored) -> frozenset[Ref]:
    """Services that had instances and have none in an answer that is older than the one before: of another world."""
    known = stored(change.kind)
    return frozenset(
        ref
        for ref, entry in change.puts.items()
        if not entry.value.instances
        and ref in known
        and known[ref].value.instances
        and entry.version < known[ref].version
    )


@dataclass(slots=True)
class ServiceGuard:
    """Hands over the changes of services, and keeps back the emptiness of a place that has no services at all."""

    provider: Provider
    stored: Stored
    state: SourceState
    send: Callable[[Change], Awaitable[None]]
    back: asyncio.Event = field(default_factory=asyncio.Event)
    """Lost services are there again: everything is to be read anew."""
    looking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """By place: datacenter or namespace."""
    _held: dict[Ref, Entry] = field(default_factory=dict)

    async def pump(self, source: Source) -> None:
        """Takes what the source says, for ever."""
        async with aclosing(source.watch_changes()) as changes:  # type: ignore[type-var]  # async generators in practice
            async for change in changes:
                await self._take(change)

    async def _take(self, change: Change) -> None:
        doubtful = doubtful_services(change, self.stored)
        for ref in {*change.puts, *change.deletes}:
            self._held.pop(ref, None)
        for ref in sorted(doubtful):
            self._held[ref] = change.puts[ref]
            if ref.namespace not in self.looking:
                look = asyncio.create_task(self._look(change, ref.namespace), name=f"services of {ref.namespace}")
                self.looking[ref.namespace] = look
        kept = {ref: entry for ref, entry in change.puts.items() if ref not in doubtful}
        if kept or change.deletes:
            await self.send(replace(change, puts=kept))

    async def _look(self, change: Change, place: str) -> None:
        if await _were_services_lost(self.provider, place, self.state):
            self.back.set()
            return
        del self.looking[place]
        empty = {ref: entry for ref, entry in self._held.items() if ref.namespace == place}
        for ref in empty:
            del self._held[ref]
        await self.send(Change(change.source, change.kind, empty))


async def _were_services_lost(provider: Provider, place: str, state: SourceState) -> bool:
    async def look() -> frozenset[str]:
        return await provider.names(place)

    where = f"in {place}" if place else "in its catalog"
    return await _was_lost(look, f"{provider.system} has no service {where} any more", state)


async def _was_lost(look: Look, told: str, state: SourceState) -> bool:
    before: frozenset[str] | None = None
    while True:
        try:
            found = await look()
        except WorldError as failure:
            state.fail(_PART, str(failure))
        else:
            if found and before is None:
                state.succeed(_PART)
                return False
            if found and found == before:
                state.succeed(_PART)
                log.info("data_is_back", count=len(found))
                return True
            state.fail(_PART, f"{told}; what was read before stays in service until something is there again")
            before = found
        await asyncio.sleep(QUIET_SECONDS)
