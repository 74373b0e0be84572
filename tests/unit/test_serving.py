"""Web applications inside the event loop: addresses, TLS, and a stop that keeps its word."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import gloo_nomad.serving
from gloo_nomad.certificates import Authority
from gloo_nomad.serving import ServingError, Tls, read_body, serve, serving


async def hello(_: Request) -> Response:
    """Answers at once."""
    return PlainTextResponse("hello")


async def slow(_: Request) -> Response:
    """Answers after a moment."""
    await asyncio.sleep(0.5)
    return PlainTextResponse("late")


async def echo(request: Request) -> Response:
    """Answers with the body."""
    return Response(await read_body(request, 10))


APP = Starlette(routes=[Route("/", hello), Route("/slow", slow), Route("/echo", echo, methods=["POST"])])


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate with its key, as files."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    pair = authority.issue("127.0.0.1")
    (folder / "authority.pem").write_text(authority.certificate)
    (folder / "cert.pem").write_text(pair.certificates)
    (folder / "key.pem").write_text(pair.private_key)
    return Tls(str(folder / "cert.pem"), str(folder / "key.pem"))


def test_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body is read whole, up to a size that it need not announce, and not for ever."""
    monkeypatch.setattr(gloo_nomad.serving, "BODY_SECONDS", 0.5)

    async def parts(*sizes: int) -> AsyncIterator[bytes]:
        for size in sizes:
            yield b"x" * size
            if not size:
                await asyncio.sleep(10)

    async def scenario() -> None:
        async with serving(APP, "127.0.0.1", 0, "test") as port, aiohttp.ClientSession() as session:
            for body, status in ((b"x" * 10, 200), (b"x" * 11, 413), (parts(5, 6), 413), (parts(5, 0), 408)):
                async with session.post(f"http://127.0.0.1:{port}/echo", data=body) as answer:
                    assert answer.status == status

    asyncio.run(scenario())


def test_tls(tls: Tls) -> None:
    """With a certificate it is HTTPS, and plain HTTP gets no answer."""

    async def scenario() -> None:
        trusting = ssl.create_default_context(cafile=Path(tls.cert).with_name("authority.pem"))
        async with serving(APP, "127.0.0.1", 0, "test", tls) as port, aiohttp.ClientSession() as session:
            async with session.get(f"https://127.0.0.1:{port}/", ssl=trusting) as answer:
                assert await answer.text() == "hello"
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://127.0.0.1:{port}/")

    asyncio.run(scenario())


def test_bad_tls(tls: Tls, tmp_path: Path) -> None:
    """A file that is missing, or is no certificate, is said before anything listens."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")

    async def refused(wrong: Tls) -> str:
        with pytest.raises(ServingError) as failure:
            async with serving(APP, "127.0.0.1", 0, "the front door", wrong):
                pass
        return str(failure.value)

    for wrong, message in (
        (Tls(tls.cert, "/nonexistent.pem"), "the file /nonexistent.pem of its TLS settings does not exist"),
        (Tls("", tls.key), "the file (no name given) of its TLS settings does not exist"),
        (Tls(str(nonsense), tls.key), "are no certificate with its key"),
        (Tls(tls.cert, str(nonsense)), "are no certificate with its key"),
    ):
        told = asyncio.run(refused(wrong))
        assert told.startswith("the front door: ")
        assert message in told


def test_foreign_address() -> None:
    """An address that this machine does not have is one clear line."""

    async def scenario() -> None:
        with pytest.raises(ServingError) as failure:
            async with serving(APP, "192.0.2.1", 8080, "test"):
                pass
        assert (
            str(failure.value)
            == "test cannot listen on 192.0.2.1:8080: this machine does not have that address; choose another"
        )

    asyncio.run(scenario())


def test_ipv6() -> None:
    """IPv6 addresses are served."""

    async def scenario() -> None:
        async with (
            serving(APP, "::1", 0, "test") as port,
            aiohttp.ClientSession() as session,
            session.get(f"http://[::1]:{port}/") as answer,
        ):
            assert await answer.text() == "hello"

    asyncio.run(scenario())


def test_running_requests_end() -> None:
    """A request that runs at the stop is answered."""

    async def scenario() -> None:
        async with aiohttp.ClientSession() as session:
            async with serving(APP, "127.0.0.1", 0, "test") as port:
                request = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/slow"))
                await asyncio.sleep(0.2)
            answer = await request
            assert await answer.text() == "late"

    asyncio.run(scenario())


def test_cancelled() -> None:
    """``serve`` ends when its task is cancelled, and the port is free again."""

    async def scenario() -> None:
        async with serving(APP, "127.0.0.1", 0, "test") as port:
            pass
        task = asyncio.create_task(serve(APP, "127.0.0.1", port, "test"))
        await asyncio.sleep(0.2)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        async with serving(APP, "127.0.0.1", port, "test"):
            pass

    asyncio.run(scenario())
