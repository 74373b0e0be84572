"""The Consul client against a real agent."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import OWN_SCOPE, Blocking, ConsulClient, ConsulOptions, Reading, Scope
from gloo_nomad.clients.consul_cas import Write, txn_cas
from gloo_nomad.clients.http import (
    BadAnswerError,
    BadRequestError,
    ForbiddenError,
    HttpOptions,
    HttpSession,
    TimedOutError,
    UnreachableError,
)
from gloo_nomad.clients.token import Token
from gloo_nomad.demo.consul import ConsulAgent
from tests.source_listener import open_client, until

pytestmark = pytest.mark.consul

CANARY = "canary-77aa"


def _run(agent: ConsulAgent, scenario: Callable[[ConsulClient], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        client = open_client(agent, **options)
        try:
            await scenario(client)
        finally:
            await client.close()

    asyncio.run(run())


def test_kv(consul: ConsulAgent, root_key: str) -> None:
    """A value comes back as it was written, whatever its bytes; a missing key or prefix is empty, with an index."""

    async def scenario(client: ConsulClient) -> None:
        value = bytes(range(256))
        assert await client.kv_put(f"{root_key}/ä b?#%", value)

        answer = await client.kv_list(f"{root_key}/")
        assert [(pair.key, pair.text()) for pair in answer.pairs] == [(f"{root_key}/ä b?#%", value)]
        assert answer.index >= answer.pairs[0].modify_index > 0
        assert (await client.kv_keys(f"{root_key}/")).keys == (f"{root_key}/ä b?#%",)

        missing = await client.kv_list(f"{root_key}/none/")
        assert missing.pairs == ()
        assert missing.index > 0

    _run(consul, scenario)


def test_compare_and_set(consul: ConsulAgent, root_key: str) -> None:
    """A write or delete with an old index does nothing and says so."""

    async def scenario(client: ConsulClient) -> None:
        key = f"{root_key}/a"
        assert await client.kv_put(key, b"1", cas=0)
        assert not await client.kv_put(key, b"2", cas=0)
        (pair,) = (await client.kv_get(key)).pairs
        assert await client.kv_put(key, b"2", cas=pair.modify_index)
        assert not await client.kv_delete(key, cas=pair.modify_index)
        assert (await client.kv_get(key)).pairs[0].text() == b"2"
        assert await client.kv_delete(key)

    _run(consul, scenario)


def test_many_writes_each_for_itself(consul: ConsulAgent, root_key: str) -> None:
    """Of 150 writes in a few transactions exactly those fail whose key somebody else changed, and one is large."""

    async def scenario(client: ConsulClient) -> None:
        writes = [Write(f"{root_key}/{i:03}", b"x" * 4000, 0) for i in range(149)]
        writes.append(Write(f"{root_key}/large", b"y" * 500_000, 0))
        for i in (3, 70, 71):
            await client.kv_put(f"{root_key}/{i:03}", b"faster")

        written = await txn_cas(client, writes)

        assert {key for key, outcome in written.items() if not outcome.index} == {
            f"{root_key}/{i:03}" for i in (3, 70, 71)
        }
        stored = {pair.key: pair.modify_index for pair in (await client.kv_list(f"{root_key}/")).pairs}
        assert all(stored[key] == outcome.index for key, outcome in written.items() if outcome.index)
        assert len(stored) == 150

    _run(consul, scenario)


def test_lock(consul: ConsulAgent, root_key: str) -> None:
    """A lock has one holder, passes on when its session ends, and a session that ended cannot be renewed."""

    async def scenario(client: ConsulClient) -> None:
        key = f"{root_key}/leader"
        first = await client.session_create("first", ttl=10, lock_delay=0)
        second = await client.session_create("second", ttl=10)
        assert await client.kv_acquire(key, b"first", first)
        assert not await client.kv_acquire(key, b"second", second)
        assert (await client.kv_get(key)).pairs[0].session == first
        assert await client.session_renew(first)

        await client.session_destroy(first)
        assert not await client.session_renew(first)
        assert await client.kv_acquire(key, b"second", second)
        assert await client.kv_release(key, b"", second)
        await client.session_destroy(second)

    _run(consul, scenario)


def test_catalog(consul: ConsulAgent) -> None:
    """Datacenters, names with tags, and passing instances are there; a service that does not exist has none."""
    instance = consul.register("client-catalog", 1234, Tags=["b", "a"], Weights={"Passing": 7, "Warning": 1})
    try:

        async def scenario(client: ConsulClient) -> None:
            assert await client.datacenters() == ("dc1",)
            assert (await client.catalog_services()).names["client-catalog"] == ("a", "b")
            for reading in (Reading(), Reading(cached=True), Reading(consistent=True)):
                answer = await client.health_service("client-catalog", Scope("dc1"), reading=reading)
                (entry,) = answer.entries
                assert (entry.service.port, entry.service.weights and entry.service.weights.passing) == (1234, 7)
                assert answer.index > 0
            assert (await client.health_service("no such service")).entries == ()
            assert await client.leader()

        _run(consul, scenario)
    finally:
        consul.deregister(instance)


def test_settings_win_over_environment(consul: ConsulAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONSUL_* variables, which the library below prefers to its arguments, change nothing."""
    monkeypatch.setitem(os.environ, "CONSUL_HTTP_ADDR", "not:an:address:at:all")
    monkeypatch.setitem(os.environ, "CONSUL_HTTP_TOKEN", "somebody else's")
    monkeypatch.setitem(os.environ, "CONSUL_HTTP_SSL", "true")

    async def scenario(client: ConsulClient) -> None:
        assert await client.leader()

    _run(consul, scenario)


def test_acl(new_consul: Callable[..., ConsulAgent]) -> None:
    """Without the right token the answer is ForbiddenError, with it all works; no text shows a token."""
    tokens = {"initial_management": CANARY, "agent": CANARY}
    agent = new_consul(config={"acl": {"enabled": True, "default_policy": "deny", "tokens": tokens}})

    async def forbidden(client: ConsulClient) -> None:
        with pytest.raises(ForbiddenError) as caught:
            await client.kv_put("a", b"secret value")
        assert CANARY not in str(caught.value)
        assert "secret value" not in str(caught.value)

    async def allowed(client: ConsulClient) -> None:
        assert await client.kv_put("a", b"x")

    _run(agent, allowed, token=Token(CANARY))
    _run(agent, forbidden, token=Token(f"{CANARY}-wrong"))
    _run(agent, forbidden)


def test_value_too_large(consul: ConsulAgent, root_key: str) -> None:
    """What Consul refuses comes with Consul's reason."""

    async def scenario(client: ConsulClient) -> None:
        with pytest.raises(BadRequestError, match="too large"):
            await client.kv_put(f"{root_key}/a", b"x" * 600_000)

    _run(consul, scenario)


def test_answer_too_large(consul: ConsulAgent, root_key: str) -> None:
    """An answer above the bound is an error and not memory."""

    async def scenario(client: ConsulClient) -> None:
        await client.kv_put(f"{root_key}/a", b"x" * 100_000)
        with pytest.raises(BadAnswerError, match="longer than 50000 bytes"):
            await client.kv_get(f"{root_key}/a")

    _run(consul, scenario, max_body=50_000)


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/../b", "./a"])
def test_keys_that_would_name_another(consul: ConsulAgent, key: str) -> None:
    """A key that Consul's router would turn into another one never leaves."""

    async def scenario(client: ConsulClient) -> None:
        with pytest.raises(ValueError, match="is no key"):
            await client.kv_put(key, b"")

    _run(consul, scenario)


def test_unreachable() -> None:
    """A refused connection says where it was refused."""

    async def scenario() -> None:
        client = ConsulClient(ConsulOptions(parse_address("127.0.0.1:1", 8500)))
        with pytest.raises(UnreachableError, match=r"Consul at http://127\.0\.0\.1:1, GET /v1/kv/a/"):
            await client.kv_list("a/")
        await client.close()

    asyncio.run(scenario())


@asynccontextmanager
async def _serve(answer: bytes) -> AsyncIterator[int]:
    """A port that answers anything with the same bytes and then says nothing more."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(answer)
        await reader.read()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.close()
            await writer.wait_closed()


def test_silent_server() -> None:
    """A server that accepts and never answers, or never ends its answer, is given up in time."""

    async def scenario() -> None:
        for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"):
            async with _serve(answer) as port:
                session = HttpSession(HttpOptions("X", parse_address(f"127.0.0.1:{port}", 1)))
                with pytest.raises(TimedOutError, match=r"within 0\.3 s"):
                    await session.request("GET", "/", timeout=0.3)
                await session.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nX-Consul-Index: many\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nContent-Length: 9\r\n\r\n<p>no</p>",
        b'HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nContent-Length: 9\r\n\r\n[{"a":1}]',
        b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["no index", "no number", "no JSON", "no key", "redirect"],
)
def test_foreign_answers(answer: bytes) -> None:
    """What no Consul would answer is an error, never an empty list."""

    async def scenario() -> None:
        async with _serve(answer) as port:
            client = ConsulClient(ConsulOptions(parse_address(f"127.0.0.1:{port}", 1)))
            with pytest.raises(BadAnswerError):
                await client.kv_list("a/")
            await client.close()

    asyncio.run(scenario())


def test_unix_socket(tmp_path: Any, new_consul: Callable[..., ConsulAgent]) -> None:
    """An agent behind a socket of the file system is reached like any other."""
    path = tmp_path / "consul.sock"
    agent = new_consul(config={"addresses": {"http": f"127.0.0.1 unix://{path}"}})
    assert agent.address

    async def scenario() -> None:
        client = ConsulClient(ConsulOptions(parse_address(f"unix://{path}", 8500)))
        assert await client.kv_put("a", b"1")
        assert (await client.kv_get("a")).pairs[0].text() == b"1"
        await client.close()

    asyncio.run(scenario())


def _server_side(agent: ConsulAgent) -> int:
    """Connections that the agent still has open on its HTTP port."""
    found = psutil.Process(agent.server.pid).net_connections("tcp")
    return sum(c.laddr.port == agent.port and c.status in {"ESTABLISHED", "CLOSE_WAIT"} for c in found)


def test_cancelled_query_leaves_no_connection(new_consul: Callable[..., ConsulAgent]) -> None:
    """The agent drops the connections of cancelled queries for services at once, long before their wait is over."""
    agent = new_consul()

    async def few_connections() -> bool:
        return _server_side(agent) <= 2

    async def scenario(client: ConsulClient) -> None:
        index = (await client.health_service("consul")).index
        queries = [
            asyncio.create_task(
                client.health_service("consul", OWN_SCOPE, Blocking(index + 1000, 60.0), Reading(stale=bool(i % 2)))
            )
            for i in range(20)
        ]
        await asyncio.sleep(0.5)
        assert _server_side(agent) >= 20
        for query in queries:
            query.cancel()
        await asyncio.gather(*queries, return_exceptions=True)
        await until(few_connections, seconds=5)

    _run(agent, scenario)
