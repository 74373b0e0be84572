"""Listening to a source in the background: what it said, and the store that this makes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.sources.source import Source
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.store import Store

PATIENCE = 15.0


class Listener:
    """An ``async with`` block during which a source is listened to."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.changes: list[Change] = []
        self.store = Store()
        self._heard = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        async for change in self.source.watch_changes():
            self.changes.append(change)
            self.store.apply(change)
            self._heard.set()

    async def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
        """Waits until the condition holds; fails after *seconds*."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._heard.clear()
                waiting = asyncio.ensure_future(self._heard.wait())
                await asyncio.wait({waiting, self._task}, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self._task.done():
                    self._task.result()

    async def listed(self) -> None:
        """Waits until the source has listed everything once."""
        await self.until(lambda: self.source.state.listed)

    async def quiet(self, seconds: float = 0.5) -> list[Change]:
        """What is said within *seconds*."""
        before = len(self.changes)
        await asyncio.sleep(seconds)
        return self.changes[before:]

    def entry(self, kind: Kind, ref: Ref) -> Entry | None:
        """An object as stored."""
        return self.store.entries(kind.name).get(ref)

    def value(self, kind: Kind, ref: Ref) -> Any:
        """An object as served."""
        return self.store.snapshot.of(kind.name).get(ref)

    def rejection(self, kind: Kind, ref: Ref) -> str:
        """Why an object is rejected; empty if it is not."""
        entry = self.entry(kind, ref)
        return entry.rejection.message if entry and entry.rejection else ""


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = PATIENCE) -> None:
    """Waits until the condition holds, asking again and again; fails after *seconds*."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # the world outside sets no events
            await asyncio.sleep(0.05)


def open_client(agent: ConsulAgent, **options: Any) -> ConsulClient:
    """A client of a test's agent."""
    return ConsulClient(ConsulOptions(parse_address(agent.address, 8500), **options))
