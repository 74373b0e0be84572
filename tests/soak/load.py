"""Requests that go on for the whole run; each has to be answered as if nothing happened."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gloo_nomad.demo.fetch import fetch
from tests.benchmarks.requests import Requests

HOSTS: Final = {"steady.test": "steady", "web.test": "instance-", "edited.test": "edit-", "delegated.test": "table-"}
"""What the answer of each host has in it, whatever changes."""
_PATIENCE: Final = 10.0
_KEPT_ERRORS: Final = 50


@dataclass
class Load:
    """Counts answers by host, and errors with their time and reason."""

    port: int
    tls_port: int
    roots: Path
    began: float = field(default_factory=time.monotonic)
    answers: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    reasons: list[str] = field(default_factory=list)

    def fail(self, what: str) -> None:
        """Counts an error; the first ones are kept in words."""
        self.errors += 1
        if len(self.reasons) < _KEPT_ERRORS:
            self.reasons.append(f"{time.monotonic() - self.began:8.1f} s  {what}")

    async def ask(self, host: str, pause: float = 0.01) -> None:
        """For ever, one request after the other on a kept connection."""
        while True:
            try:
                async with Requests(self.port) as requests:
                    await self._ask_on(requests, host, pause)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as failure:
                self.fail(f"{host}: {failure!r}")
                await asyncio.sleep(0.1)

    async def _ask_on(self, requests: Requests, host: str, pause: float) -> None:
        while True:
            async with asyncio.timeout(_PATIENCE):
                status, body = await requests.ask(host)
            self._count(host, status, body, HOSTS[host])
            await asyncio.sleep(pause)

    async def ask_securely(self, pause: float = 0.2) -> None:
        """For ever, each request on a TLS connection of its own whose certificate is checked."""
        while True:
            try:
                answer = await asyncio.to_thread(fetch, self.tls_port, host="tls.test", tls_roots=self.roots)
                self._count("tls.test", answer.status, answer.body, "secure")
            except OSError as failure:
                self.fail(f"tls.test: {failure!r}")
            await asyncio.sleep(pause)

    def _count(self, host: str, status: int, body: bytes, expected: str) -> None:
        self.answers[host] += 1
        if status != 200 or expected.encode() not in body:
            self.fail(f"{host}: {status} {body[:200]!r}")
