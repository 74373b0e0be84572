"""One of several: the holder of a lock in Consul KV does what only one may do, such as writing statuses.

The lock belongs to a session that must be renewed; whoever dies loses it after the session's time to live. There is no
lock delay: every write is a compare-and-set in a transaction that asks for the lock as well (``fence``), so a late one
of a former leader changes nothing, and whoever starts anew waits for nobody.
See https://developer.hashicorp.com/consul/docs/dynamic-app-config/sessions.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_cas import Fence, FencedOutError
from gloo_nomad.clients.http import WorldError

log = structlog.get_logger(__name__)

SESSION_TTL: Final = 10
"""Seconds that a lock outlives its holder: the least that Consul takes, which may make it twice as long."""
SAFETY: Final = 0.3
"""The part of a session's life, at its end, for which its holder no longer counts on it if it is not renewed."""
LOOK: Final = 0.3
"""The part of a session's life for one look at the lock; Consul answers earlier when its holder changes."""
RETRY: Final = 2.0
"""Seconds between tries while Consul does not answer."""
PACE: Final = 0.1
"""Seconds between looks, however often the lock changes."""


@dataclass(slots=True)
class Leader:
    """A candidate for one lock. ``held`` is set while this process is the leader."""

    client: ConsulClient
    key: str
    name: str
    ttl: int = SESSION_TTL
    held: asyncio.Event = field(default_factory=asyncio.Event)

    _session: str = ""

    def fence(self) -> Fence:
        """What makes a write depend on the lock; raises ``FencedOutError`` if it is known not to be held."""
        if not self.held.is_set():
            raise FencedOutError(f"the lock {self.key} is not held any more")
        return Fence(self.key, self._session)

    async def run(self, report: Callable[[WorldError | None], None] = lambda _failure: None) -> None:
        """Tries to hold the lock for ever; gives it back when cancelled."""
        while True:
            try:
                await self._live_through_session()
                report(None)
            except WorldError as failure:
                report(failure)
            await asyncio.sleep(RETRY)

    async def _live_through_session(self) -> None:
        """One session, from its creation to its loss."""
        began = asyncio.get_running_loop().time()
        session = await self.client.session_create(self.name, self.ttl, lock_delay=0)
        self._session = session
        try:
            await self._compete(session, began)
        finally:
            self._lose()
            with contextlib.suppress(WorldError, TimeoutError):
                async with asyncio.timeout(RETRY):
                    await self.client.session_destroy(session)

    async def _compete(self, session: str, began: float) -> None:
        """Takes the lock whenever it is free, as long as the session lives.

        A short silence of Consul changes nothing; returns when the session may have ended.
        """
        loop, sure = asyncio.get_running_loop(), self.ttl * (1 - SAFETY)
        sure_until, index = began + sure, 0
        while loop.time() < sure_until:
            try:
                async with asyncio.timeout_at(sure_until):
                    asked = loop.time()
                    if not await self.client.session_renew(session):
                        return
                    sure_until = asked + sure
                async with asyncio.timeout_at(sure_until):
                    index = await self._look(session, index)
                    await asyncio.sleep(PACE)
            except TimeoutError:
                return
            except WorldError as failure:
                log.info("lock_unknown", lock=self.key, reason=str(failure))
                index = 0
                await asyncio.sleep(min(RETRY, max(sure_until - loop.time(), 0.0)))

    async def _look(self, session: str, index: int) -> int:
        """Waits until the lock's holder changes, for a part of the session's life at most; the index to ask with next.

        Whoever deletes the key takes the lock away, although the session lives on.
        """
        answer = await self.client.kv_get(self.key, index, self.ttl * LOOK)
        holder = answer.pairs[0].session if answer.pairs else ""
        if holder != session:
            self._lose()
        if holder == session or (not holder and await self.client.kv_acquire(self.key, self.name.encode(), session)):
            self._win()
        return answer.index if answer.index >= index else 0

    def _win(self) -> None:
        if not self.held.is_set():
            log.info("leader", lock=self.key)
        self.held.set()

    def _lose(self) -> None:
        if self.held.is_set():
            log.info("not_leader", lock=self.key)
        self.held.clear()
