"""Certificates are checked by all clients alike, against a real Consul that speaks TLS."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gloo_nomad.clients.address import Address, Tls, parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.clients.http import BadAnswerError, UnreachableError
from gloo_nomad.clients.vault import VaultClient, VaultOptions
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.consul import ConsulAgent

pytestmark = pytest.mark.consul


def _write(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


@pytest.fixture
def secure(
    tmp_path: Path, new_consul: Callable[..., ConsulAgent], free_port: Callable[[], int]
) -> tuple[Address, Path]:
    """The address of an agent that asks its clients for certificates, and a folder with those of its authority."""
    authority = Authority()
    _write(tmp_path, "ca.pem", authority.certificate)
    _write(tmp_path, "other.pem", Authority("other").certificate)
    for name in ("consul.internal", "client"):
        pair = authority.issue(name)
        _write(tmp_path, f"{name}.crt", pair.certificates)
        _write(tmp_path, f"{name}.key", pair.private_key)
    ports = {
        name: free_port() for name in ("http", "https", "dns", "grpc", "grpc_tls", "serf_lan", "serf_wan", "server")
    }
    https = {
        "ca_file": str(tmp_path / "ca.pem"),
        "cert_file": str(tmp_path / "consul.internal.crt"),
        "key_file": str(tmp_path / "consul.internal.key"),
        "verify_incoming": True,
    }
    new_consul(port=ports["http"], config={"ports": ports, "tls": {"https": https}})
    return parse_address(f"https://127.0.0.1:{ports['https']}", 8501), tmp_path


async def ask_consul(address: Address, tls: Tls) -> None:
    """A request through the asyncio transport."""
    client = ConsulClient(ConsulOptions(address, tls=tls))
    try:
        await client.kv_list("a/")
    finally:
        await client.close()


async def ask_in_thread(address: Address, tls: Tls) -> None:
    """A request through the transport of the blocking libraries; that Consul is no Vault shows that it arrived."""
    client = VaultClient(VaultOptions(address, tls=tls))
    try:
        with pytest.raises(BadAnswerError):
            await client.look_up_token()
    finally:
        await client.close()


@pytest.mark.parametrize("ask", [ask_consul, ask_in_thread])
def test_certificates(secure: tuple[Address, Path], ask: Callable[[Address, Tls], Awaitable[None]]) -> None:
    """Only the right authority, the right name and a certificate of one's own get through; without checks any name."""
    address, folder = secure
    right = Tls(
        ca_file=str(folder / "ca.pem"),
        cert_file=str(folder / "client.crt"),
        key_file=str(folder / "client.key"),
        server_name="consul.internal",
    )
    other = str(folder / "other.pem")

    async def run() -> None:
        await ask(address, right)
        await ask(address, replace(right, ca_file="", server_name="", insecure=True))
        for wrong in ({"server_name": ""}, {"ca_file": other}, {"ca_file": ""}, {"cert_file": "", "key_file": ""}):
            tls = replace(right, **wrong)  # type: ignore[arg-type]  # names of text fields
            with pytest.raises(UnreachableError):
                await ask(address, tls)

    asyncio.run(run())


def test_missing_files() -> None:
    """A file that is missing is an error when the client is made ready, and names itself as such."""
    with pytest.raises(OSError, match="No such file"):
        Tls(ca_file="/nonexistent/ca.pem").context()
