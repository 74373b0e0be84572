"""Side jobs that must never take serving down with them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from gloo_nomad.serving import ServingError

log = structlog.get_logger(__name__)

AGAIN_SECONDS: Final = 5.0
"""How long to wait before a job that failed is begun again."""


async def keep_running(name: str, job: Callable[[], Awaitable[None]], again: float = AGAIN_SECONDS) -> None:
    """Runs a job until it returns; a defect that ends it is told, and the job begins anew after *again* seconds.

    Raises:
        ServingError: an address is taken, which people have to mend.
    """
    while True:
        try:
            await job()
        except ServingError:
            raise
        except Exception:
            log.exception("job_failed", job=name, again_in_seconds=again)
            await asyncio.sleep(again)
        else:
            return
