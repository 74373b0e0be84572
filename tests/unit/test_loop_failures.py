"""Complaints of the event loop: exhaustion is told once in a while, everything else as ever."""

import asyncio
import errno
import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

from gloo_nomad.app.loop_failures import AGAIN_SECONDS, LoopFailures


def test_exhaustion_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Two thousand complaints at once are one line, and one more when it goes on; other complaints are asyncio's."""
    now = [0.0]
    handle, loop = LoopFailures(lambda: now[0]), asyncio.new_event_loop()
    exhausted: dict[str, Any] = {
        "exception": OSError(errno.EMFILE, "Too many open files"),
        "socket": None,
        "message": "x",
    }
    with capture_logs() as logs:
        for _ in range(2000):
            handle(loop, exhausted)
        now[0] = AGAIN_SECONDS
        handle(loop, exhausted)
    with caplog.at_level(logging.ERROR, "asyncio"):
        handle(loop, {"message": "something else", "exception": OSError(errno.EPIPE, "Broken pipe")})
    loop.close()
    assert [(line["event"], line["reason"]) for line in logs] == 2 * [
        ("connections_not_accepted", "[Errno 24] Too many open files")
    ]
    assert [record.name for record in caplog.records] == ["asyncio"]
    assert "something else" in caplog.text
