"""Who may use the front door: everybody who reaches its address, or holders of a token."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from starlette.requests import Request

TOKENS: Final = "GLOO_NOMAD_API_TOKENS"
"""Environment variable with the accepted tokens, separated by commas; without it no token is asked for."""
_SCHEME: Final = "bearer "


class Authorize(Protocol):
    """Decides on one request."""

    async def __call__(self, token: str, action: str, namespace: str) -> str:
        """Why the request is refused, or "" to let it pass; *action* is ``read`` or ``write``."""


@dataclass(frozen=True, slots=True)
class TokenList:
    """Accepts every request with one of these tokens; every request at all if there are none."""

    tokens: tuple[str, ...] = field(default=(), repr=False)

    async def __call__(self, token: str, action: str, namespace: str) -> str:
        """Compares in constant time."""
        if not self.tokens:
            return ""
        if not token:
            return "a bearer token is needed: send the header Authorization: Bearer TOKEN"
        matches = [hmac.compare_digest(known.encode(), token.encode()) for known in self.tokens]
        return "" if any(matches) else "the bearer token is not accepted"


def tokens_of(environ: Mapping[str, str]) -> TokenList:
    """The tokens that the environment names."""
    return TokenList(tuple(token.strip() for token in environ.get(TOKENS, "").split(",") if token.strip()))


def token_of(request: Request) -> str:
    """The bearer token of a request, or ""."""
    header = request.headers.get("authorization", "")
    return header[len(_SCHEME) :].strip() if header.lower().startswith(_SCHEME) else ""
