"""Libraries that block (hvac, python-nomad), made safe for an event loop: threads, bounds and one kind of exception.

Both speak through ``requests``. The session here trusts nothing of the environment (no proxy, no ``.netrc``, no bundle
of authorities other than the settings'), follows no redirects by itself and reads no more than it must.
"""

import asyncio
import functools
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter

from gloo_nomad.clients.address import Tls
from gloo_nomad.clients.http import (
    BAD_HEADER,
    BadAnswerError,
    BadRequestError,
    TimedOutError,
    UnreachableError,
    WorldError,
    excerpt,
    no_connection,
)

T = TypeVar("T")
THREADS: Final = 4
_MAX_BODY: Final = 16 * 1024 * 1024


class Threads:
    """A few threads for one server's blocking calls.

    They are daemons, unlike those of ``ThreadPoolExecutor``: a call that still waits for an answer must not keep a
    process from ending.
    """

    def __init__(self, system: str, total_timeout: float) -> None:
        """*system* names server and address in messages; no call takes longer than *total_timeout* seconds."""
        self._system = system
        self._timeout = total_timeout
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._started = 0
        self._idle = threading.Semaphore(0)

    async def call(
        self, what: str, function: Callable[[], T], translate: Callable[[Exception, str], WorldError | None]
    ) -> T:
        """The function's value, called in a thread.

        Its exceptions come out as a ``WorldError`` of the same meaning: those of the library by way of *translate*,
        which answers None for what it does not know. The library's own are left behind, because they may quote bodies.
        """
        where = f"{self._system}, {what}"
        try:
            async with asyncio.timeout(self._timeout):
                return await self._submit(function)
        except WorldError:
            raise
        except TimeoutError:
            raise TimedOutError(f"{where}: no complete answer within {self._timeout:g} s") from None
        except requests.exceptions.InvalidHeader:  # its text quotes the header
            raise BadRequestError(f"{where}: {BAD_HEADER}") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as failure:
            raise connection_error(failure, where) from None
        except Exception as failure:
            known = translate(failure, where)
            if known is None:
                known = BadAnswerError(f"{where}: unexpected answer ({type(failure).__name__})")
            raise known from None

    def close(self) -> None:
        """Lets the threads end after what they are doing; does not wait for them."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            if future.cancelled():
                return
            try:
                settle = functools.partial(future.set_result, function())
            except Exception as failure:
                settle = functools.partial(future.set_exception, failure)
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: None if future.cancelled() else settle())

        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and self._started < THREADS:
            self._started += 1
            threading.Thread(target=self._work, name=f"{self._system} {self._started}", daemon=True).start()
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            self._idle.release()


def connection_error(failure: Exception, where: str) -> WorldError:
    """A broken or slow connection as one of our exceptions, in a line."""
    if isinstance(failure, requests.Timeout | urllib3.exceptions.TimeoutError):
        return TimedOutError(f"{where}: no answer in time")
    inner = _innermost(failure)
    if isinstance(inner, urllib3.exceptions.NewConnectionError) and (why := no_connection(inner.__cause__)):
        return UnreachableError(f"{where}: {why}")
    return UnreachableError(f"{where}: {type(failure).__name__}: {excerpt(str(inner))}")


def _innermost(failure: BaseException) -> BaseException:
    """What happened, out of the library's wrappings."""
    for _ in range(8):
        inner = next((a for a in (*failure.args, getattr(failure, "reason", None)) if isinstance(a, Exception)), None)
        if inner is None:
            break
        failure = inner
    return failure


def open_session(tls: Tls, max_body: int = _MAX_BODY) -> Any:
    """A ``requests.Session`` with these TLS options and a bound on answers, in bytes."""
    if tls.insecure:  # said once by the settings, not at each request by the library
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    session = requests.Session()
    session.trust_env = False
    adapter = _Adapter(tls, max_body)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _Adapter(HTTPAdapter):  # type: ignore[misc]  # the library has no types
    """Connections whose TLS is decided by one context, and whose answers have a bound."""

    def __init__(self, tls: Tls, max_body: int) -> None:
        self._context = tls.context()
        self._server_name = tls.server_name
        self._max_body = max_body
        super().__init__(pool_connections=1, pool_maxsize=THREADS, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Hands the context over."""
        if self._server_name:
            options |= {"server_hostname": self._server_name, "assert_hostname": self._server_name}
        super().init_poolmanager(*args, ssl_context=self._context, **options)

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Only where to connect to: verification is the context's."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: verification is the context's."""

    def send(self, *args: Any, **options: Any) -> Any:
        """The answer with its body, unless that is too long."""
        response = super().send(*args, **options)
        body = response.raw.read(self._max_body + 1, decode_content=True)
        if len(body) > self._max_body:
            response.close()
            raise BadAnswerError(f"{response.url}: the answer is longer than {self._max_body} bytes")
        response._content = body  # noqa: SLF001  # where the library keeps a body that was read
        response._content_consumed = True  # noqa: SLF001
        return response
