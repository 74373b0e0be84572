"""Serves a web application inside the running event loop, beside everything else that runs there.

The process decides about signals, addresses and the end of things: uvicorn's own handling of them is switched off.
"""

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h11
import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

BACKLOG: Final = 128
MAX_CONNECTIONS: Final = 512
"""More at once are answered with 503."""
IDLE_SECONDS: Final = 15
HEADER_SECONDS: Final = 10
"""How long a client may take from its first byte to the end of its request's headers."""
BODY_SECONDS: Final = 10
"""How long it may take from then on until a whole body is there."""
STOP_SECONDS: Final = 5
"""How long running requests may take to end after the stop."""


class ServingError(Exception):
    """The address cannot be served; the text names what for, the address, and what to do."""


@dataclass(frozen=True, slots=True)
class Tls:
    """A server's certificate chain and key, as files."""

    cert: str
    key: str


class _PatientButNotForEver(H11Protocol):
    """HTTP/1.1 with a limit on the time for headers, which uvicorn has not: a slow client holds no connection."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch_headers(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: Ctrl-C belongs to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int, purpose: str, setting: str = "") -> socket.socket:
    """A listening socket; port 0 takes a free one. *setting* is what another address is chosen by.

    Raises:
        ServingError: the address is in use, forbidden or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as failure:
        listener.close()
        chosen_by = f" ({setting})" if setting else ""
        raise ServingError(
            f"{purpose} cannot listen on {shown(host, port)}: {_reason(failure)}{chosen_by}"
        ) from failure
    listener.setblocking(False)
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown(host: str, port: int) -> str:
    """The address as people write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(failure: OSError) -> str:
    if failure.errno == errno.EADDRINUSE:
        return "the port is taken by another process; stop that one, or choose another port"
    if failure.errno == errno.EACCES:
        return "not allowed; ports below 1024 need a privilege, or choose another port"
    if failure.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; choose another"
    return os.strerror(failure.errno) if failure.errno else str(failure)


@contextlib.asynccontextmanager
async def serving(app: Any, host: str, port: int, purpose: str, tls: Tls | None = None) -> AsyncIterator[int]:
    """Serves *app* inside the block, and yields the port.

    At the end no new connection is taken, running requests get ``STOP_SECONDS``, and the socket is closed.

    Raises:
        ServingError: the address is taken, or the certificate cannot be used.
    """
    _check_tls(tls, purpose)
    listener = bind(host, port, purpose)
    bound: int = listener.getsockname()[1]
    server = _Server(
        uvicorn.Config(
            app,
            http=_PatientButNotForEver,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            limit_concurrency=MAX_CONNECTIONS,
            ssl_certfile=tls.cert if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]), name=f"serve {purpose}")
    try:
        await _started(server, task)
        yield bound
    finally:
        server.should_exit = True
        try:
            await asyncio.shield(asyncio.wait({task}))
        finally:
            listener.close()


async def _started(server: uvicorn.Server, task: "asyncio.Task[None]") -> None:
    while not server.started:
        if task.done():
            await task
            raise ServingError("the web server ended before it had started")
        await asyncio.sleep(0.005)


async def serve(app: Any, host: str, port: int, purpose: str, tls: Tls | None = None) -> None:
    """Serves *app* until the task is cancelled; raises as ``serving`` does."""
    async with serving(app, host, port, purpose, tls):
        await asyncio.Event().wait()


async def read_body(request: Request, most: int) -> bytes:
    """A request's body.

    Raises:
        HTTPException: 413 for more than *most* bytes, 408 if it does not come, 400 if the connection ends before it.
    """
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > most:
        raise HTTPException(413, f"the body is larger than {most} bytes")
    received = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                received += part
                if len(received) > most:
                    raise HTTPException(413, f"the body is larger than {most} bytes")
    except TimeoutError as failure:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS} seconds") from failure
    except ClientDisconnect as failure:
        raise HTTPException(400, "the connection ended before the body") from failure
    return bytes(received)


def _check_tls(tls: Tls | None, purpose: str) -> None:
    if tls is None:
        return
    for path in (tls.cert, tls.key):
        if not Path(path).is_file():
            raise ServingError(f"{purpose}: the file {path or '(no name given)'} of its TLS settings does not exist")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
    except (ssl.SSLError, OSError) as failure:
        raise ServingError(
            f"{purpose}: {tls.cert} and {tls.key} are no certificate with its key: {failure}"
        ) from failure
