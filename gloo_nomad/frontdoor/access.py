"""Who may use the front door: everybody who reaches its address, or holders of a token.

A guard decides on each request, and may give it a store of its own. Whoever is not let in gets 401 if a token is
missing or not accepted, and 403 if it is accepted and the right is missing.
"""

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from starlette.requests import Request

from gloo_nomad.frontdoor.objects import ObjectStore

TOKENS: Final = "GLOO_NOMAD_API_TOKENS"
"""Environment variable with the accepted tokens, separated by commas; without it no token is asked for."""
NO_TOKEN: Final = "a bearer token is needed: send the header Authorization: Bearer TOKEN"  # noqa: S105  # a text
NOT_ACCEPTED: Final = "the bearer token is not accepted"
_SCHEME: Final = "bearer "


class NotLetInError(Exception):
    """The request is refused; the text says why, for whoever sent it."""

    status = 401


class NoRightError(NotLetInError):
    """The caller is known, and may not do this."""

    status = 403


class Guard(Protocol):
    """Decides on one request."""

    async def check(self, token: str, action: str, namespace: str) -> None:
        """Raises ``NotLetInError`` unless the request may go on; *action* is ``read``, ``write`` or ``validate``.

        An empty namespace stands for all of them.
        """

    def opened(self, token: str, store: ObjectStore) -> AbstractAsyncContextManager[ObjectStore]:
        """What the request works on for as long as the block lasts: *store*, or one with the caller's own rights."""


@asynccontextmanager
async def same_store(store: ObjectStore) -> AsyncIterator[ObjectStore]:
    """The store of all requests."""
    yield store


@dataclass(frozen=True, slots=True)
class TokenList:
    """Accepts every request with one of these tokens; every request at all if there are none."""

    tokens: tuple[str, ...] = field(default=(), repr=False)

    async def check(self, token: str, action: str, namespace: str) -> None:  # all tokens have all rights
        """Compares in constant time."""
        if not self.tokens:
            return
        if not token:
            raise NotLetInError(NO_TOKEN)
        matches = [hmac.compare_digest(known.encode(), token.encode()) for known in self.tokens]
        if not any(matches):
            raise NotLetInError(NOT_ACCEPTED)

    def opened(self, token: str, store: ObjectStore) -> AbstractAsyncContextManager[ObjectStore]:  # as above
        """The daemon's own."""
        return same_store(store)


def tokens_of(environ: Mapping[str, str]) -> TokenList:
    """The tokens that the environment names."""
    return TokenList(tuple(token.strip() for token in environ.get(TOKENS, "").split(",") if token.strip()))


def token_of(request: Request) -> str:
    """The bearer token of a request, or ""."""
    header = request.headers.get("authorization", "")
    return header[len(_SCHEME) :].strip() if header.lower().startswith(_SCHEME) else ""
