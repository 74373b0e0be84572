"""A relay of bytes between Envoys and the xDS server, whose connections can be cut."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = 65_536


class Relay:
    """Passes every connection on to a port of loopback; ``cut`` ends all of them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> int:
        """Ends all connections at once, as a network does; how many there were."""
        count = len(self._open) // 2
        for writer in tuple(self._open):
            writer.transport.abort()
        return count

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, there[1]}
        self._open |= both
        try:
            await asyncio.gather(_pass(reader, there[1]), _pass(there[0], writer))
        finally:
            self._open -= both


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while content := await reader.read(_CHUNK):
            writer.write(content)
            await writer.drain()
    writer.close()
