"""The token of one Vault: a given one that is kept alive, or one that a login got and another login replaces.

A login is made when a token is needed. Its token is renewed each time when a third of what remains of its life is over;
one that cannot be renewed any more, or that Vault does not know any more, is replaced by another login, for ever.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import structlog

from gloo_nomad.clients.blocking import Report, retry_for_ever
from gloo_nomad.clients.http import BadRequestError, ForbiddenError, NotFoundError
from gloo_nomad.clients.token import Token
from gloo_nomad.clients.vault_logins import Login

log = structlog.get_logger(__name__)

T = TypeVar("T")

_FOREVER: Final = 600.0
"""Seconds after which a token without an end is looked at again."""
_LOOK: Final = 5.0
"""Seconds after which the file of a given token is looked at: it may hold another one by then."""
_FRESH: Final = 5.0
"""A token that Vault knew less than so many seconds ago was refused for its rights, not for the end of its life."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a token lives on, in seconds; 0 for ever."""

    ttl: float
    renewable: bool


class Calls(Protocol):
    """Calls a function of hvac in a thread; *what* names it in the ``WorldError`` of a failure."""

    def __call__(self, what: str, function: Callable[[], T]) -> Awaitable[T]:
        """The function's value."""


class Session:
    """Gives the token. *api* is a client of hvac that nobody else uses; *calls* reaches Vault with it."""

    def __init__(self, given: Token, login: Login | None, api: Any, calls: Calls) -> None:
        self._given = given
        self._login = login
        self._api = api
        self._calls = calls
        self._lock = asyncio.Lock()
        """Held while the token is exchanged."""
        self._api_lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._token = ""
        self._lifetime = Lifetime(0, renewable=False)
        self._since = 0.0
        self._known_since = 0.0

    async def token(self) -> str:
        """The present token, got by a login if there is none yet. Raises ``WorldError``."""
        if self._login is None:
            return self._given.read()
        if not self._token:
            async with self._lock:
                if not self._token:
                    await self._log_in(self._login)
        return self._token

    async def replace(self, refused: str) -> bool:
        """Whether there is another token after Vault refused that one. Raises ``WorldError``."""
        if self._login is None:
            return self._given.read() != refused
        async with self._lock:
            if self._token != refused:
                return True
            if time.monotonic() - self._known_since < _FRESH or await self._is_known():
                return False
            await self._log_in(self._login)
        return True

    async def look_up(self) -> Lifetime:
        """How long the present token lives."""
        return await self._own_call("token", await self.token(), self._look_up_self)

    async def renew(self) -> Lifetime:
        """Prolongs the present token; how long it lives then."""
        token = await self.token()
        increment = self._login.increment if self._login else 0

        def renew() -> Lifetime:
            auth = self._api.auth.token.renew_self(increment=f"{increment}s" if increment else None)["auth"]
            return Lifetime(float(auth["lease_duration"]), bool(auth["renewable"]))

        lifetime = await self._own_call("renewal of the token", token, renew)
        if self._login is not None and self._token != token:  # another login was faster
            return self._lifetime
        self._take(token, lifetime)
        return lifetime

    async def keep(self, report: Report) -> None:
        """Keeps the token alive for ever. Failures are reported, and tried again with a back-off that is bounded."""
        retrying = retry_for_ever(report)
        while True:
            lifetime: Lifetime = await retrying(self._remaining)
            report(None)
            if await self._stays_for(renewal_delay(lifetime, random.random())):  # noqa: S311  # jitter
                await retrying(self._prolong, lifetime)
                report(None)

    async def _remaining(self) -> Lifetime:
        """What remains of the present token's life; for ever if a given one may not look at itself."""
        if self._login is not None:
            await self.token()
            if not self._lifetime.ttl:
                return self._lifetime
            rest = self._lifetime.ttl - (time.monotonic() - self._since)
            return Lifetime(max(rest, 0.1), self._lifetime.renewable)
        try:
            return await self.look_up()
        except ForbiddenError:
            log.info("token not renewable by itself")
            return Lifetime(0, renewable=False)

    async def _prolong(self, lifetime: Lifetime) -> None:
        """Renews the token, or replaces one that a login got and that renewals do not prolong."""
        if not lifetime.ttl or (self._login is None and not lifetime.renewable):
            return
        try:
            if lifetime.renewable and (await self.renew()).ttl > lifetime.ttl * 2 / 3:
                return
        except (BadRequestError, ForbiddenError, NotFoundError):
            if self._login is None:
                log.info("token not renewable by itself")
        if self._login is not None:
            async with self._lock:
                await self._log_in(self._login)

    async def _stays_for(self, seconds: float) -> bool:
        """Waits; False as soon as there is another token."""
        token = await self.token()
        ends = time.monotonic() + seconds
        while (rest := ends - time.monotonic()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(min(rest, _LOOK)):
                    await self._changed.wait()
            except TimeoutError:
                pass
            if await self.token() != token:
                return False
        return True

    async def _is_known(self) -> bool:
        """Whether Vault knows the token that it refused something."""
        try:
            await self._own_call("token", self._token, self._look_up_self)
        except ForbiddenError:
            return False
        self._known_since = time.monotonic()
        return True

    async def _log_in(self, login: Login) -> None:
        def run() -> tuple[str, Lifetime]:
            auth = login.run(self._api)
            return str(auth["client_token"]), Lifetime(float(auth["lease_duration"]), bool(auth["renewable"]))

        token, lifetime = await self._own_call(f"login by {login.method} at {login.mount}", "", run)
        self._take(token, lifetime)
        self._changed.set()
        log.info("vault login", method=login.method, ttl_seconds=lifetime.ttl)

    def _take(self, token: str, lifetime: Lifetime) -> None:
        if self._login is not None:
            self._token, self._lifetime = token, lifetime
            self._since = self._known_since = time.monotonic()

    def _look_up_self(self) -> Lifetime:
        """In a thread: how long the token of the call lives."""
        found = self._api.auth.token.lookup_self()["data"]
        return Lifetime(float(found["ttl"]), bool(found.get("renewable")))

    async def _own_call(self, what: str, token: str, function: Callable[[], T]) -> T:
        def call() -> T:
            self._api.token = token
            return function()

        async with self._api_lock:
            return await self._calls(what, call)


def renewal_delay(lifetime: Lifetime, jitter: float) -> float:
    """Seconds until a token is to be renewed: a third of what remains; *jitter* is between 0 and 1."""
    if not lifetime.ttl:
        return _FOREVER
    return max(0.2, lifetime.ttl / 3 * (0.9 + 0.2 * jitter))
