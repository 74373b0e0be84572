"""A proxy between the program and a real server, which misbehaves when it is told to, and counts what is asked.

For failures that a real server cannot be made to have at will: ``Proxy(port)`` passes everything on to the server on
that port of loopback; ``proxy.fault("/v1/health/service/web", Status(500))`` breaks what is asked below that path until
it is healed. A question that already waits for its answer, as a blocking query does, is broken as well.

    with Proxy(consul.port) as proxy:
        with proxy.fault("/v1/kv/", Reset()):
            ...
"""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})


@dataclass(frozen=True)
class Status:
    """Answers with a status of its own; the server is not asked."""

    status: int
    body: bytes = b"broken by the test"


@dataclass(frozen=True)
class Slow:
    """Answers as the server does, so many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Reset:
    """Ends the connection without an answer."""


@dataclass(frozen=True)
class Truncated:
    """Half of the server's answer, and then the connection ends."""


@dataclass(frozen=True)
class Garbage:
    """Something that is no HTTP, and then the connection ends."""

    content: bytes = b"\x00\xff not http\r\n\r\n"


@dataclass(frozen=True)
class Rewrite:
    """The server's answer with what *change* makes of its headers and body; at most *times* answers."""

    change: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]]
    times: int = 1_000_000


Fault = Status | Slow | Reset | Truncated | Garbage | Rewrite


def with_index(index: int, times: int = 1) -> Rewrite:
    """Answers that claim another ``X-Consul-Index``: with a low one the server seems to have started anew."""

    def change(headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        return {**headers, "X-Consul-Index": str(index)}, body

    return Rewrite(change, times)


@dataclass
class _Rule:
    pattern: re.Pattern[str]
    fault: Fault
    used: int = 0

    def matches(self, path: str) -> bool:
        """Whether a question is to be broken; a rewriting is used up."""
        spent = isinstance(self.fault, Rewrite) and self.used >= self.fault.times
        return not spent and self.pattern.match(path) is not None


@dataclass
class Proxy:
    """A proxy on a port of its own, in a thread of its own, from ``with`` to the end of the block."""

    target: int
    port: int = 0
    """Where it listens; the same one again after ``down``."""
    asked: list[str] = field(default_factory=list)
    """Paths with their parameters, as they were asked."""
    waiting: int = 0
    """Questions without an answer so far."""
    most_waiting: int = 0
    _rules: list[_Rule] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _site: Any = None

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def fault(self, pattern: str, fault: Fault) -> Iterator[None]:
        """Breaks what is asked with a path that begins like *pattern*, a regular expression."""
        rule = _Rule(re.compile(pattern), fault)
        self._change(self._rules.append, rule)
        try:
            yield
        finally:
            self._change(self._rules.remove, rule)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens, and all connections are ended."""
        self._call(self._stop_listening())
        try:
            yield
        finally:
            self._call(self._listen())

    def point_at(self, target: int) -> None:
        """Leads to another server from now on."""
        self.target = target

    def count(self, pattern: str) -> int:
        """How many questions there were with a path that begins like *pattern*."""
        return sum(re.match(pattern, path) is not None for path in list(self.asked))

    def forget(self) -> None:
        """Counts anew."""
        self.asked.clear()
        self.most_waiting = self.waiting

    # --- in the proxy's own thread

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _change(self, change: Callable[[_Rule], None], rule: _Rule) -> None:
        async def apply() -> None:
            change(rule)
            self._changed.set()
            self._changed = asyncio.Event()

        self._call(apply())

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=0),
        )
        await self._listen()

    async def _listen(self) -> None:
        server = web.Server(self._answer)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop_listening(self) -> None:
        for connection in list(self._runner.server.connections if self._runner.server else ()):
            if connection.transport is not None:
                connection.transport.abort()
        await self._runner.cleanup()

    async def _close(self) -> None:
        with suppress(RuntimeError):
            await self._stop_listening()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._session.close()

    def _rule(self, path: str) -> _Rule | None:
        return next((rule for rule in self._rules if rule.matches(path)), None)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            return await self._answer_or_break(request, await request.read())
        finally:
            self.waiting -= 1

    async def _answer_or_break(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        asking: asyncio.Task[web.Response] | None = None
        try:
            while True:
                rule, changed = self._rule(request.path_qs), self._changed
                if rule is not None and isinstance(rule.fault, Status | Reset | Garbage):
                    return self._broken(request, rule.fault)
                asking = asking or asyncio.create_task(self._ask(request, body))
                noticed = asyncio.create_task(changed.wait())
                await asyncio.wait({asking, noticed}, return_when=asyncio.FIRST_COMPLETED)
                noticed.cancel()
                if asking.done():
                    return await self._damaged(request, asking.result())
        except aiohttp.ClientError:  # the server behind is away
            return self._broken(request, Reset())
        finally:
            if asking is not None:
                asking.cancel()

    async def _ask(self, request: web.BaseRequest, body: bytes) -> web.Response:
        url = f"http://127.0.0.1:{self.target}{request.raw_path}"
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        async with self._session.request(
            request.method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
        ) as answer:
            content = await answer.read()
            passed = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            return web.Response(status=answer.status, headers=passed, body=content)

    def _broken(self, request: web.BaseRequest, fault: Status | Reset | Garbage) -> web.Response:
        if isinstance(fault, Status):
            return web.Response(status=fault.status, body=fault.body)
        transport: Any = request.transport
        if transport is not None and isinstance(fault, Garbage):
            transport.write(fault.content)
            transport.close()
        elif transport is not None:
            transport.abort()
        return web.Response(status=500)

    async def _damaged(self, request: web.BaseRequest, answer: web.Response) -> web.StreamResponse:
        """The server's answer, with what the rules of this moment do to it."""
        rule = self._rule(request.path_qs)
        if rule is None:
            return answer
        rule.used += 1
        content = bytes(answer.body or b"")  # type: ignore[arg-type]  # bytes: it was read above
        match rule.fault:
            case Slow(seconds):
                await asyncio.sleep(seconds)
            case Rewrite(change):
                headers, content = change(dict(answer.headers), content)
                kept = {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
                return web.Response(status=answer.status, headers=kept, body=content)
            case Truncated():
                half = web.StreamResponse(status=answer.status, headers=answer.headers)
                half.content_length = len(content) + 1
                await half.prepare(request)
                await half.write(content[: len(content) // 2])
                if request.transport is not None:
                    request.transport.abort()
                return half
        return answer
