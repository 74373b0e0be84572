"""Secrets in a real OpenBao server."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from gloo_nomad.api.kinds import SECRET
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.token import Token
from gloo_nomad.clients.vault import VaultClient, VaultOptions
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.sources.vault_secrets import REFRESH, SecretsReader, VaultPlace, VaultSecretsSource
from tests.faults import Proxy, Status
from tests.source_listener import Listener

pytestmark = pytest.mark.bao

A = Ref("ns", "a")
B = Ref("ns", "b")
CANARY = "canary-9e03"
OUTAGE = 12.0
"""Seconds."""
_numbers = itertools.count(1)

POLICY = """
path "secret/data/{root}/*" {{ capabilities = ["read"] }}
path "secret/metadata/{root}/*" {{ capabilities = ["read", "list"] }}
path "secret/data/{root}/gloo.solo.io/v1/Secret/ns/forbidden" {{ capabilities = ["deny"] }}
"""


def new_root() -> str:
    """A root key that no other test has."""
    return f"sources-{next(_numbers)}"


def tls(key: str) -> dict[str, Any]:
    """A TLS secret's fields."""
    return {"tls": {"certChain": "chain", "privateKey": key}}


def key_of(listener: Listener, ref: Ref) -> str:
    """The private key of the served secret, empty if it is not served."""
    found = listener.value(SECRET, ref)
    return str(found.tls.private_key) if found is not None else ""


@asynccontextmanager
async def listening(bao: OpenBao, place: VaultPlace, token: str = "", **options: Any) -> AsyncIterator[Listener]:
    """A listener on a source of its own."""
    client = VaultClient(VaultOptions(parse_address(bao.address, 8200), Token(token or bao.token), timeout=2.0))
    async with Listener(VaultSecretsSource(client, place, **options)) as listener:
        yield listener
    await client.close()


def test_create_edit_delete(openbao: OpenBao) -> None:
    """Secrets come, change and go, the last one too; what says nothing new is not said."""
    root = new_root()

    async def run() -> None:
        async with listening(openbao, VaultPlace(root_key=root), refresh=0.2) as listener:
            await listener.listed()
            (first,) = listener.changes
            assert first.complete
            assert not first.puts

            await asyncio.to_thread(openbao.put_secret, "ns", "a", tls("1"), root=root)
            await listener.until(lambda: key_of(listener, A) == "1")
            await asyncio.to_thread(openbao.put_secret, "ns", "b", tls("1"), root=root)
            await listener.until(lambda: key_of(listener, B) == "1")
            before = len(listener.changes)
            await asyncio.to_thread(openbao.put_secret, "ns", "a", tls("2"), root=root)
            await listener.until(lambda: key_of(listener, A) == "2")
            assert [set(change.puts) for change in listener.changes[before:]] == [{A}]
            entry = listener.entry(SECRET, A)
            assert entry
            assert entry.version == 2

            await asyncio.to_thread(openbao.delete_secret, "ns", "a", root=root)
            await asyncio.to_thread(openbao.request, "DELETE", f"secret/data/{root}/gloo.solo.io/v1/Secret/ns/b")
            await listener.until(lambda: not listener.store.entries(SECRET.name))

    asyncio.run(run())


def test_change_is_seen_within_five_seconds(openbao: OpenBao) -> None:
    """With the default refresh a rotated secret is served within five seconds."""
    root = new_root()
    for i in range(20):
        openbao.put_secret("ns", f"s{i}", tls("1"), root=root)

    async def run() -> None:
        async with listening(openbao, VaultPlace(root_key=root)) as listener:
            await listener.listed()
            await asyncio.to_thread(openbao.put_secret, "ns", "s7", tls("2"), root=root)
            await listener.until(lambda: key_of(listener, Ref("ns", "s7")) == "2", seconds=5)

    assert REFRESH < 5
    asyncio.run(run())


@pytest.mark.parametrize("versions_with_list", [True, False], ids=["with the list", "one by one"])
def test_only_what_changed_is_read(openbao: OpenBao, versions_with_list: bool) -> None:
    """A look costs two requests where versions come with the list, else one more for each secret, and reads none."""
    root = new_root()
    for i in range(30):
        openbao.put_secret("ns", f"s{i}", tls("1"), root=root)

    async def run(proxy: Proxy) -> None:
        client = VaultClient(VaultOptions(parse_address(proxy.address, 0), Token(openbao.create_token(root))))
        reader = SecretsReader(client, VaultPlace(root_key=root), frozenset())
        assert len(await reader.read()) == 30
        assert proxy.count("/v1/secret/data/") == 30
        proxy.forget()
        before = await reader.read()
        assert proxy.count("/v1/secret/data/") == 0
        assert len(proxy.asked) == (2 if versions_with_list else 32)
        assert proxy.most_waiting <= 4
        openbao.put_secret("ns", "s7", tls("2"), root=root)
        openbao.delete_secret("ns", "s8", root=root)
        proxy.forget()
        after = await reader.read()
        assert proxy.count("/v1/secret/data/") == 1
        assert {ref for ref in before if after.get(ref) is not before[ref]} == {Ref("ns", "s7"), Ref("ns", "s8")}
        assert len(after) == 29
        await client.close()

    rule = f'path "secret/detailed-metadata/{root}/*" {{ capabilities = ["list"] }}' if versions_with_list else ""
    openbao.write_policy(root, POLICY.format(root=root) + rule)
    with Proxy(openbao.port) as proxy:
        asyncio.run(run(proxy))


def test_a_404_of_something_else(openbao: OpenBao) -> None:
    """What stands before Vault and does not find it is no empty Vault."""
    root = new_root()
    openbao.put_secret("ns", "a", tls("1"), root=root)

    async def run(proxy: Proxy) -> None:
        client = VaultClient(VaultOptions(parse_address(proxy.address, 0), Token(openbao.token)))
        async with Listener(VaultSecretsSource(client, VaultPlace(root_key=root), refresh=0.2)) as listener:
            await listener.listed()
            for broken in (Status(404, b"<html>not found</html>"), Status(200, b"<html>"), Status(200, b"{}")):
                with proxy.fault("/v1/secret/", broken):
                    await listener.until(lambda: bool(listener.source.state.last_error))
                    assert key_of(listener, A) == "1"
                await listener.until(lambda: not listener.source.state.last_error)
            assert len(listener.changes) == 1
        await client.close()

    with Proxy(openbao.port) as proxy:
        asyncio.run(run(proxy))


def test_bad_secret_spoils_only_itself(openbao: OpenBao) -> None:
    """What is no Secret, stands outside a namespace or may not be read is rejected alone, and quotes no value."""
    root = new_root()
    folder = f"secret/data/{root}/gloo.solo.io/v1/Secret"
    openbao.put_secret("ns", "a", tls("1"), root=root)
    openbao.put_secret("ns", "forbidden", tls(CANARY), root=root)
    openbao.put_secret("ns", "type", {"tls": {"privateKey": {CANARY: [CANARY]}}}, root=root)
    openbao.put_secret("ns", "field", {"tls": {"secretKey": CANARY}}, root=root)
    openbao.put_secret("ns", "bytes", {"tls": {"ocspStaple": f"{CANARY}!"}}, root=root)
    openbao.request("POST", f"{folder}/ns/other", {"data": {"metadata": {"name": "a", "namespace": "ns"}, **tls("9")}})
    openbao.request("POST", f"{folder}/ns/plain", {"data": {"password": CANARY}})
    openbao.request("POST", f"{folder}/loose", {"data": {"password": CANARY}})
    openbao.write_policy(root, POLICY.format(root=root))
    token = openbao.create_token(root)
    bad = {Ref("ns", name) for name in ("forbidden", "type", "field", "bytes", "other", "plain")} | {Ref("", "loose")}

    async def run() -> None:
        async with listening(openbao, VaultPlace(root_key=root), token, refresh=0.2) as listener:
            await listener.listed()
            assert set(listener.store.entries(SECRET.name)) == {A, *bad}
            assert key_of(listener, A) == "1"
            for ref in bad:
                assert listener.rejection(SECRET, ref), ref
            said = " ".join(str(problem) for problem in listener.store.problems())
            assert CANARY not in said
            assert "grant read" in said

            await asyncio.to_thread(openbao.put_secret, "ns", "type", tls("2"), root=root)
            await listener.until(lambda: key_of(listener, Ref("ns", "type")) == "2")

    asyncio.run(run())


def test_outage_keeps_secrets(new_openbao: Callable[..., OpenBao]) -> None:
    """A sealed Vault, one that is gone, and one without the engine are failures: nothing is said, nothing withdrawn."""
    bao = new_openbao()
    bao.put_secret("ns", "a", tls(CANARY))

    async def run() -> None:
        with structlog.testing.capture_logs() as logs:
            async with listening(bao, VaultPlace(), refresh=0.2) as listener:
                await listener.listed()
                state = listener.source.state
                await asyncio.to_thread(bao.request, "POST", "sys/mounts/moved", {"type": "kv"})
                await asyncio.to_thread(bao.request, "DELETE", "sys/mounts/secret")
                await listener.until(lambda: "no handler for route" in state.last_error)
                await asyncio.to_thread(bao.request, "POST", "sys/seal")
                await listener.until(lambda: "sealed" in state.last_error)
                await asyncio.to_thread(bao.stop)
                await listener.until(lambda: "refused" in state.last_error)
                assert key_of(listener, A) == CANARY
                assert len(listener.changes) == 1

                again = await asyncio.to_thread(lambda: new_openbao(port=bao.port))
                await asyncio.to_thread(again.put_secret, "ns", "a", tls("after"))
                await listener.until(lambda: key_of(listener, A) == "after")
                assert state.last_error == ""
        assert logs
        assert CANARY not in str(logs)

    asyncio.run(run())


def test_an_outage_is_no_long_reading(openbao: OpenBao) -> None:
    """After a Vault was away it is looked at as often as before: not only once the same time has passed again."""
    root = new_root()
    openbao.put_secret("ns", "a", tls("1"), root=root)

    async def run(proxy: Proxy) -> None:
        client = VaultClient(VaultOptions(parse_address(proxy.address, 0), Token(openbao.token)))
        async with Listener(VaultSecretsSource(client, VaultPlace(root_key=root), refresh=0.2)) as listener:
            state = listener.source.state
            await listener.listed()
            with proxy.down():
                await listener.until(lambda: bool(state.last_error))
                await asyncio.sleep(OUTAGE)
            await listener.until(lambda: not state.last_error)
            await asyncio.to_thread(openbao.put_secret, "ns", "a", tls("2"), root=root)
            await listener.until(lambda: key_of(listener, A) == "2", seconds=OUTAGE / 2)
        await client.close()

    with Proxy(openbao.port) as proxy:
        asyncio.run(run(proxy))


@pytest.mark.parametrize("engine", [0, 2], ids=["asked", "told"])
def test_deleted_while_vault_is_away(openbao: OpenBao, engine: int) -> None:
    """No secret is left: believed if the engine says that it is the same one, and not if it is not asked."""
    root = new_root()
    openbao.put_secret("ns", "a", tls("1"), root=root)

    async def run(proxy: Proxy) -> None:
        client = VaultClient(VaultOptions(parse_address(proxy.address, 0), Token(openbao.token)))
        place = VaultPlace(root_key=root, engine=engine)
        async with Listener(VaultSecretsSource(client, place, refresh=0.2)) as listener:
            state = listener.source.state
            await listener.listed()
            with proxy.down():
                await listener.until(lambda: bool(state.last_error))
                await asyncio.to_thread(openbao.delete_secret, "ns", "a", root=root)
            if engine:
                await listener.until(lambda: "has no secret below" in state.last_error)
                await listener.quiet(3)
                assert key_of(listener, A) == "1"
            else:
                await listener.until(lambda: listener.entry(SECRET, A) is None)
                assert state.last_error == ""
        await client.close()

    with Proxy(openbao.port) as proxy:
        asyncio.run(run(proxy))


def test_an_engine_mounted_anew(openbao: OpenBao) -> None:
    """It is another one: that it is empty after it could not be read is not believed, however often it is seen."""
    place = VaultPlace(mount="anew")

    def mount() -> None:
        openbao.request("POST", "sys/mounts/anew", {"type": "kv", "options": {"version": "2"}})

    def put(key: str) -> None:
        data = {"metadata": {"name": "a", "namespace": "ns"}, **tls(key)}
        openbao.request("POST", f"anew/data/{place.folder}/ns/a", {"data": data})

    async def run() -> None:
        async with listening(openbao, place, refresh=0.2) as listener:
            state = listener.source.state
            await listener.until(lambda: key_of(listener, A) == "1")
            await asyncio.to_thread(openbao.request, "DELETE", "sys/mounts/anew")
            await listener.until(lambda: bool(state.last_error))
            await asyncio.to_thread(mount)
            await listener.until(lambda: "has no secret below" in state.last_error)
            await listener.quiet(3)
            assert key_of(listener, A) == "1"
            await asyncio.to_thread(put, "2")
            await listener.until(lambda: key_of(listener, A) == "2")

    mount()
    try:
        put("1")
        asyncio.run(run())
    finally:
        openbao.request("DELETE", "sys/mounts/anew")


def test_namespaces_are_exact(openbao: OpenBao) -> None:
    """Watching namespace x reads neither x2 nor what stands outside of namespaces."""
    root = new_root()
    openbao.put_secret("x", "a", tls("1"), root=root)
    openbao.put_secret("x2", "a", tls("1"), root=root)
    openbao.request("POST", f"secret/data/{root}/gloo.solo.io/v1/Secret/loose", {"data": {"a": 1}})

    async def run() -> None:
        async with listening(openbao, VaultPlace(root_key=root), namespaces=("x",)) as listener:
            await listener.listed()
            assert set(listener.store.entries(SECRET.name)) == {Ref("x", "a")}

    asyncio.run(run())


def test_first_engine(openbao: OpenBao) -> None:
    """Secrets of a KV 1 engine are read as well, and followed although they have no versions."""
    openbao.request("POST", "sys/mounts/old-secrets", {"type": "kv", "options": {"version": "1"}})
    path = "old-secrets/gloo/gloo.solo.io/v1/Secret/ns/a"
    metadata = {"metadata": {"name": "a", "namespace": "ns"}}

    async def run() -> None:
        async with listening(openbao, VaultPlace(mount="old-secrets"), refresh=0.2) as listener:
            await listener.until(lambda: key_of(listener, A) == "1")
            said = len(listener.changes)
            await listener.quiet(1)
            assert len(listener.changes) == said
            await asyncio.to_thread(openbao.request, "POST", path, {**metadata, **tls("2")})
            await listener.until(lambda: key_of(listener, A) == "2")

    try:
        openbao.request("POST", path, {**metadata, **tls("1")})
        asyncio.run(run())
    finally:
        openbao.request("DELETE", "sys/mounts/old-secrets")
