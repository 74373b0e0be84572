"""One of several: the holder of a lock in Consul KV does what only one may do, such as writing statuses.

The lock belongs to a session that must be renewed; whoever dies loses it after the session's time to live. There is no
lock delay: every write is a compare-and-set, so a late one of a former leader changes nothing.
See https://developer.hashicorp.com/consul/docs/dynamic-app-config/sessions.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.http import WorldError

log = structlog.get_logger(__name__)

SESSION_TTL: Final = 15
"""Seconds that a lock outlives its holder (Consul's minimum is 10, and it may take twice as long)."""
RETRY: Final = 2.0
"""Seconds between tries to become the leader, or to renew."""


@dataclass(slots=True)
class Leader:
    """A candidate for one lock. ``held`` is set while this process is the leader."""

    client: ConsulClient
    key: str
    name: str
    held: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, report: Callable[[WorldError | None], None] = lambda _failure: None) -> None:
        """Tries to hold the lock for ever; gives it back when cancelled."""
        while True:
            try:
                await self._hold_once()
                report(None)
            except WorldError as failure:
                report(failure)
            self._lose()
            await asyncio.sleep(RETRY)

    async def _hold_once(self) -> None:
        """One session, from its creation to its loss."""
        session = await self.client.session_create(self.name, SESSION_TTL, lock_delay=0)
        try:
            while True:
                if not self.held.is_set() and await self.client.kv_acquire(self.key, self.name.encode(), session):
                    log.info("leader", lock=self.key)
                    self.held.set()
                await asyncio.sleep(RETRY)
                if not await self._still_ours(session):
                    return
        finally:
            self._lose()
            with contextlib.suppress(WorldError, TimeoutError):
                async with asyncio.timeout(RETRY):
                    await self.client.session_destroy(session)

    async def _still_ours(self, session: str) -> bool:
        """Whether the session lives on; a short silence of Consul does not end it, one of its time to live does."""
        deadline = asyncio.get_running_loop().time() + SESSION_TTL - 2 * RETRY
        while True:
            try:
                return await self.client.session_renew(session)
            except WorldError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(RETRY)

    def _lose(self) -> None:
        if self.held.is_set():
            log.info("not_leader", lock=self.key)
        self.held.clear()
