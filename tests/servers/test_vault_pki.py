"""The source of certificates against a real OpenBao: when it is listed, what it keeps, and how often it asks."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from cryptography import x509

from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.token import Token
from gloo_nomad.clients.vault import VaultClient, VaultOptions
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.sources import vault_pki
from gloo_nomad.sources.vault_pki import NO_VAULT, PkiSource
from gloo_nomad.store.issued import ISSUED, CertificateRequest, IssuedCertificate
from tests.faults import Proxy
from tests.source_listener import Listener
from tests.vault_pki import enable_pki

pytestmark = pytest.mark.bao

A, B = Ref("ns", "a"), Ref("ns", "b")
REQUEST = CertificateRequest("gloo", "a.test", mount_path="pki")


@pytest.fixture
def bao(new_openbao: Callable[..., OpenBao]) -> OpenBao:
    """A server of the test's own with an engine."""
    server = new_openbao()
    enable_pki(server, "pki")
    return server


@asynccontextmanager
async def listening(
    port: int, token: str, known: dict[Ref, IssuedCertificate] | None = None
) -> AsyncIterator[tuple[PkiSource, Listener]]:
    """A source, and a listener on it."""
    client = VaultClient(VaultOptions(parse_address(f"http://127.0.0.1:{port}", 0), Token(token), timeout=2.0))
    source = PkiSource([client], known or {}, keeps_tokens=True)
    async with Listener(source) as listener:
        yield source, listener
    await client.close()


def issued(listener: Listener, ref: Ref) -> IssuedCertificate | None:
    """What the store has of it."""
    entry = listener.store.entries(ISSUED).get(ref)
    found: IssuedCertificate | None = entry.value if entry else None
    return found


def serial(listener: Listener, ref: Ref) -> int:
    """Which certificate is served; 0 for none."""
    found = issued(listener, ref)
    if found is None or found.secret is None:
        return 0
    return x509.load_pem_x509_certificate(found.secret.tls.cert_chain.encode()).serial_number


def test_wanted_and_not_wanted(bao: OpenBao) -> None:
    """It is listed once all that is wanted was issued or refused; an edit exchanges, and an end removes."""

    async def run() -> None:
        async with listening(bao.port, bao.token) as (source, listener):
            assert not source.state.listed
            refused = CertificateRequest("gloo", "a.elsewhere", mount_path="pki")
            source.want({A: REQUEST, B: refused})
            await listener.listed()
            await listener.until(lambda: serial(listener, A) != 0)
            found = issued(listener, B)
            assert found is not None
            assert found.secret is None
            assert "not allowed by this role" in found.failure
            chain = issued(listener, A).secret.tls.cert_chain  # type: ignore[union-attr]  # it was seen above
            assert chain.count("BEGIN CERTIFICATE") == 2  # its own and the authority's, without the root

            first = serial(listener, A)
            source.want({A: CertificateRequest("gloo", "b.test", mount_path="pki"), B: None})
            await listener.until(lambda: serial(listener, A) not in {0, first})
            second = serial(listener, A)
            source.want({A: None, B: None})
            source.want({A: CertificateRequest("gloo", "c.elsewhere", mount_path="pki")})
            await listener.until(lambda: "not allowed" in (issued(listener, A) or found).failure)
            assert serial(listener, A) == second
            source.want({})
            await listener.until(lambda: not listener.store.entries(ISSUED))
            assert not source.state.errors

    asyncio.run(run())


def test_what_is_known_is_not_asked_for_again(bao: OpenBao) -> None:
    """Other settings, such as another poll interval, do not exchange certificates."""

    async def run() -> None:
        with Proxy(bao.port) as proxy:
            async with listening(proxy.port, bao.token) as (source, listener):
                source.want({A: REQUEST})
                await listener.until(lambda: serial(listener, A) != 0)
                known = issued(listener, A)
            assert known is not None
            assert proxy.count("/v1/pki/issue") == 1
            async with listening(proxy.port, bao.token, {A: known}) as (source, listener):
                source.want({A: REQUEST})
                await listener.listed()
                await asyncio.sleep(0.5)
            assert proxy.count("/v1/pki/issue") == 1

    asyncio.run(run())


@pytest.mark.parametrize("shift", [-86_400.0, 86_400.0], ids=["a day behind", "a day ahead"])
def test_a_clock_that_is_wrong(bao: OpenBao, monkeypatch: pytest.MonkeyPatch, shift: float) -> None:
    """A certificate whose end our clock misjudges is renewed half its life later, neither never nor all the time."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + shift)

    async def run() -> None:
        with Proxy(bao.port) as proxy:
            async with listening(proxy.port, bao.token) as (source, listener):
                source.want({A: replace(REQUEST, ttl="40s")})
                await listener.until(lambda: serial(listener, A) != 0)
                found = issued(listener, A)
                assert found is not None
                assert 10 < found.renew_at - time.time() < 45
                await asyncio.sleep(2.5)
            assert proxy.count("/v1/pki/issue") == 1

    asyncio.run(run())


def test_a_clock_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set forward, what is waited for comes at once; set back, no later than it seemed at first."""
    right, shift = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: right() + shift[0])
    monkeypatch.setattr(vault_pki, "_LOOK_SECONDS", 0.1)

    async def run(seconds: float, jump: float) -> float:
        shift[0], began = 0.0, time.monotonic()
        waiting = asyncio.create_task(vault_pki.sleep_until(time.time() + seconds))
        await asyncio.sleep(0.2)
        shift[0] = jump
        await waiting
        return time.monotonic() - began

    assert asyncio.run(run(60.0, 3600.0)) < 20
    assert 1.0 <= asyncio.run(run(1.0, -3600.0)) < 20


def test_many_are_asked_for_a_few_at_a_time(bao: OpenBao) -> None:
    """No more than four requests at once, however many Secrets ask."""

    async def run() -> None:
        with Proxy(bao.port) as proxy:
            async with listening(proxy.port, bao.token) as (source, listener):
                source.want({Ref("ns", f"c{i}"): REQUEST for i in range(40)})
                await listener.until(lambda: len(listener.store.entries(ISSUED)) == 40, seconds=30)
            assert proxy.count("/v1/pki/issue") == 40
            assert proxy.most_waiting <= 5  # four, and one that keeps the token alive

    asyncio.run(run())


def test_without_a_vault() -> None:
    """That is told, and holds nothing up."""

    async def run() -> None:
        source = PkiSource([], {})
        async with Listener(source) as listener:
            source.want({A: REQUEST})
            await listener.listed()
            found = issued(listener, A)
            assert found is not None
            assert found.failure == NO_VAULT

    asyncio.run(run())


def test_a_vault_that_fails_is_waited_for(bao: OpenBao) -> None:
    """As long as it does not answer the source is not listed, so that nothing is served without its certificate."""

    async def run() -> None:
        with Proxy(bao.port) as proxy:
            async with listening(proxy.port, bao.token) as (source, listener):
                with proxy.down():
                    source.want({A: REQUEST})
                    await listener.until(lambda: bool(source.state.errors))
                    assert not source.state.listed
                await listener.listed()
                assert serial(listener, A) != 0
                await listener.until(lambda: not source.state.errors)

    asyncio.run(run())
