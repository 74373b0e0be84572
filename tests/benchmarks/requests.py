"""Requests to an Envoy on a kept connection, from the event loop: when does the answer change?"""

import asyncio
import time
from types import TracebackType
from typing import Self


class Requests:
    """One kept-open HTTP/1.1 connection to a port of loopback."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, host: str, path: str = "/") -> tuple[int, bytes]:
        """Status and body of one answer."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)

    async def until(self, host: str, path: str, expected: bytes, within: float) -> float:
        """Asks every millisecond until a 200 has this in its body; the time of it, of ``time.perf_counter``."""
        async with asyncio.timeout(within):
            while True:
                status, body = await self.ask(host, path)
                if status == 200 and expected in body:
                    return time.perf_counter()
                await asyncio.sleep(0.001)


async def first_answer(port: int, host: str, path: str, within: float) -> None:
    """Returns when the port is open and answers a request with 200."""
    async with asyncio.timeout(within):
        while not await _answers(port, host, path):  # noqa: ASYNC110 - Envoy tells nobody
            await asyncio.sleep(0.02)


async def _answers(port: int, host: str, path: str) -> bool:
    try:
        async with Requests(port) as requests:
            return (await requests.ask(host, path))[0] == 200
    except (OSError, asyncio.IncompleteReadError):
        return False
