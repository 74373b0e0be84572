"""What hvac raises, as our exceptions: the server's reasons in a line, and never its body."""

from collections.abc import Mapping
from typing import Final

import hvac.exceptions

from gloo_nomad.clients.http import (
    BadAnswerError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    SealedError,
    ServerError,
    WorldError,
    excerpt,
)


class NoMountError(NotFoundError):
    """There is no engine at the path: a mistake in the settings or in Vault, not an empty engine."""


_KINDS: Final[Mapping[type[Exception], type[WorldError]]] = {
    hvac.exceptions.Unauthorized: ForbiddenError,
    hvac.exceptions.Forbidden: ForbiddenError,
    hvac.exceptions.RateLimitExceeded: RateLimitedError,
    hvac.exceptions.InternalServerError: ServerError,
    hvac.exceptions.BadGateway: ServerError,
    hvac.exceptions.VaultDown: SealedError,
    hvac.exceptions.VaultNotInitialized: SealedError,
}


def translate_failure(failure: Exception, where: str) -> WorldError | None:
    """The same failure as one of ours; None for what is not hvac's."""
    if not isinstance(failure, hvac.exceptions.VaultError):
        return None
    reasons = excerpt(", ".join(map(str, failure.errors or ()))) or type(failure).__name__
    if isinstance(failure, hvac.exceptions.InvalidPath):
        if failure.json is None:
            return BadAnswerError(f"{where}: 404 of something that is not Vault")
        kind: type[WorldError] = NoMountError if "no handler for route" in reasons else NotFoundError
    else:
        kind = _KINDS.get(type(failure), BadRequestError)
    return kind(f"{where}: {reasons}")
