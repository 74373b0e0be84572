"""The Vault client against a real OpenBao server."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.http import (
    BadRequestError,
    ForbiddenError,
    SealedError,
    TimedOutError,
    UnreachableError,
    WorldError,
)
from gloo_nomad.clients.token import Token
from gloo_nomad.clients.vault import VaultClient, VaultOptions
from gloo_nomad.clients.vault_errors import NoMountError
from gloo_nomad.demo.openbao import OpenBao

pytestmark = pytest.mark.bao

CANARY = "canary-1be4"
_numbers = itertools.count(1)


def _run(bao: OpenBao, scenario: Callable[[VaultClient], Awaitable[None]], token: Token | None = None) -> None:
    async def run() -> None:
        client = VaultClient(VaultOptions(parse_address(bao.address, 8200), token or Token(bao.token)))
        try:
            await scenario(client)
        finally:
            await client.close()

    asyncio.run(run())


def test_secrets_and_versions(openbao: OpenBao) -> None:
    """What is written is read, versions count up, and a deleted or unknown secret has version 0."""
    path = f"clients-{next(_numbers)}"

    async def scenario(client: VaultClient) -> None:
        assert await client.list_names("secret", path) == ()
        assert await client.write_secret("secret", f"{path}/a", {"k": {"n": [1, "ä"]}}) == 1
        assert await client.write_secret("secret", f"{path}/sub/b", {"k": 1}) == 1
        assert await client.list_names("secret", path) == ("a", "sub/")
        stored = await client.read_secret("secret", f"{path}/a")
        assert stored
        assert (stored.data, stored.version) == ({"k": {"n": [1, "ä"]}}, 1)

        assert await client.write_secret("secret", f"{path}/a", {"k": 2}, cas=1) == 2
        with pytest.raises(BadRequestError, match="check-and-set"):
            await client.write_secret("secret", f"{path}/a", {"k": CANARY}, cas=1)
        assert await client.current_version("secret", f"{path}/a") == 2

        await asyncio.to_thread(openbao.request, "DELETE", f"secret/data/{path}/a")
        assert await client.current_version("secret", f"{path}/a") == 0
        assert await client.read_secret("secret", f"{path}/a") is None
        await client.delete_secret("secret", f"{path}/a")
        assert await client.list_names("secret", path) == ("sub/",)
        assert await client.current_version("secret", f"{path}/none") == 0

    _run(openbao, scenario)


def test_first_engine(openbao: OpenBao) -> None:
    """Version 1 of the engine is recognised and read; a mount that does not exist is an error and not empty."""
    openbao.request("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    openbao.request("POST", "old/x/a", {"k": "v"})

    async def scenario(client: VaultClient) -> None:
        old, standard = await client.kv_engine("old"), await client.kv_engine("secret")
        assert (old.version, standard.version) == (1, 2)
        assert old.uuid
        assert old.uuid != standard.uuid
        assert await client.list_names("old", "x", 1) == ("a",)
        stored = await client.read_secret("old", "x/a", 1)
        assert stored
        assert stored.data == {"k": "v"}
        with pytest.raises(NoMountError):
            await client.list_names("none", "x")

    try:
        _run(openbao, scenario)
    finally:
        openbao.request("DELETE", "sys/mounts/old")


def test_forbidden(openbao: OpenBao) -> None:
    """A wrong token, none, or one without the right is ForbiddenError, and no text shows a token."""

    async def scenario(client: VaultClient) -> None:
        with pytest.raises(ForbiddenError) as caught:
            await client.list_names("secret", "gloo")
        assert CANARY not in str(caught.value)

    openbao.write_policy("nothing", 'path "nowhere" { capabilities = ["read"] }')
    for token in (f"{CANARY}-token", "", openbao.create_token("nothing")):
        _run(openbao, scenario, Token(token))


def test_environment_is_not_read(openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> None:
    """VAULT_* variables and proxies change nothing; an anonymous client stays anonymous."""
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_TOKEN", openbao.token)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def known(client: VaultClient) -> None:
        assert (await client.kv_engine("secret")).version == 2

    async def anonymous(client: VaultClient) -> None:
        with pytest.raises(ForbiddenError):
            await client.look_up_token()

    _run(openbao, known)
    _run(openbao, anonymous, Token())


def test_sealed_stopped_and_slow(new_openbao: Callable[..., OpenBao]) -> None:
    """Sealed, gone and silent are told apart."""
    bao = new_openbao()

    async def failure(client: VaultClient) -> WorldError:
        try:
            await client.list_names("secret", "gloo")
        except WorldError as failed:
            return failed
        raise AssertionError("no failure")

    async def run() -> None:
        client = VaultClient(VaultOptions(parse_address(bao.address, 8200), Token(bao.token)))
        await asyncio.to_thread(bao.request, "POST", "sys/seal")
        assert isinstance(await failure(client), SealedError)
        await asyncio.to_thread(bao.stop)
        gone = await failure(client)
        assert isinstance(gone, UnreachableError)
        assert "refused" in str(gone)
        await client.close()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", bao.port)
        slow = VaultClient(VaultOptions(parse_address(bao.address, 8200), Token("x"), timeout=0.3))
        assert isinstance(await failure(slow), TimedOutError)
        await slow.close()
        server.close()
        await asyncio.sleep(0.1)

    asyncio.run(run())


def test_token_is_renewed(openbao: OpenBao) -> None:
    """A token that would end after a while is prolonged for as long as it is kept."""
    openbao.write_policy("reader", 'path "secret/*" { capabilities = ["read", "list"] }')
    token = openbao.create_token("reader", ttl="4s")

    async def scenario(client: VaultClient) -> None:
        assert (await client.look_up_token()).renewable
        reports: list[Any] = []
        keeping = asyncio.create_task(client.keep_token(reports.append))
        await asyncio.sleep(6)
        assert (await client.look_up_token()).ttl > 0
        assert set(reports) == {None}
        keeping.cancel()

    _run(openbao, scenario, Token(token))


def test_token_file_is_followed(openbao: OpenBao, tmp_path: Path) -> None:
    """When the file of a token gets another one, the next request uses it."""
    file = tmp_path / "token"
    file.write_text("wrong")

    async def scenario(client: VaultClient) -> None:
        with pytest.raises(ForbiddenError):
            await client.list_names("secret", "gloo")
        (tmp_path / "new").write_text(openbao.token)
        (tmp_path / "new").rename(file)
        await client.list_names("secret", "gloo")

    _run(openbao, scenario, Token(file=str(file)))
