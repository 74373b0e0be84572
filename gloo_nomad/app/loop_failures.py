"""What the event loop itself complains about.

A process without a free file descriptor cannot accept connections; asyncio tells that for each place in the backlog,
two thousand times a second. One line now and then says as much, and does not fill the disk.
"""

import asyncio
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

AGAIN_SECONDS: Final = 30.0
"""How long nothing more is said of connections that cannot be accepted."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(slots=True)
class LoopFailures:
    """An exception handler for an event loop; *clock* is monotonic, in seconds."""

    clock: Callable[[], float] = time.monotonic
    _silent_until: float = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Tells of exhaustion in one line, and of everything else as asyncio does."""
        failure = context.get("exception")
        if not isinstance(failure, OSError) or failure.errno not in _EXHAUSTED or "socket" not in context:
            loop.default_exception_handler(context)
        elif self.clock() >= self._silent_until:
            self._silent_until = self.clock() + AGAIN_SECONDS
            log.warning("connections_not_accepted", reason=str(failure), remedy="raise the limit of open files")
