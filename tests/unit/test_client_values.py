"""Addresses, tokens and texts of failures."""

from pathlib import Path

import pytest

from gloo_nomad.clients.address import Address, parse_address
from gloo_nomad.clients.consul import ConsulOptions
from gloo_nomad.clients.consul_cas import MAX_BYTES, MAX_OPERATIONS, Write, batches
from gloo_nomad.clients.http import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    ServerError,
    refusal,
)
from gloo_nomad.clients.token import Token
from gloo_nomad.clients.vault import VaultOptions
from gloo_nomad.clients.vault_session import Lifetime, renewal_delay

CANARY = "canary-5f1d"


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("localhost", "http://localhost:8500"),
        ("10.0.0.1:81", "http://10.0.0.1:81"),
        ("https://consul.example", "https://consul.example:8500"),
        ("http://consul.example:80/sub/", "http://consul.example:80/sub"),
        ("[::1]:8500", "http://[::1]:8500"),
    ],
)
def test_address_forms(text: str, base: str) -> None:
    """Hosts, hosts with ports and URLs are understood."""
    assert parse_address(text, 8500).base == base


def test_unix_socket() -> None:
    """A socket in the file system is an address too."""
    address = parse_address("unix:///run/consul.sock", 8500)

    assert address.is_unix
    assert str(address) == "unix:///run/consul.sock"


@pytest.mark.parametrize("text", ["", "http://", "ftp://x", "a:b:c", "host:99999", "http://[::1"])
def test_bad_address(text: str) -> None:
    """What is no address is refused with the forms that are."""
    with pytest.raises(ValueError) as caught:
        parse_address(text, 8500)

    assert "expected host:port" in str(caught.value)


def test_credentials_do_not_show() -> None:
    """A password in an address or a token in options is in no text of them."""
    address = parse_address(f"http://user:{CANARY}@consul:8500", 8500)
    values = [address, ConsulOptions(address, Token(CANARY), password=CANARY), VaultOptions(address, Token(CANARY))]

    assert address.password == CANARY
    assert CANARY not in f"{address} {values!r}"


def test_token_file_is_followed(tmp_path: Path) -> None:
    """A token in a file is the present content of that file, and the last one while there is none."""
    file = tmp_path / "token"
    token = Token(file=str(file))
    assert token.read() == ""

    file.write_text("first\n")
    assert token.read() == "first"

    replacement = tmp_path / "new"
    replacement.write_text("second")
    replacement.rename(file)
    assert token.read() == "second"

    file.unlink()
    assert token.read() == "second"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, ForbiddenError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, BadRequestError),
        (429, RateLimitedError),
        (500, ServerError),
        (503, ServerError),
    ],
)
def test_refusals(status: int, kind: type[RefusedError]) -> None:
    """Each error code has its exception, whose text is one short line."""
    failure = refusal(status, "Consul at x, GET /y", "line\none\x00" + "z" * 5000)

    assert type(failure) is kind
    assert str(failure).startswith(f"Consul at x, GET /y: {status} line one zzz")
    assert len(str(failure)) < 250


def test_batches_are_what_consul_takes() -> None:
    """No transaction has more operations or bytes than Consul takes; none is lost and the order is kept."""
    writes = [Write(f"key-{i}", b"x" * (i * 997 % 90_000), i) for i in range(500)]
    found = list(batches(writes))

    assert [write for batch in found for write in batch] == writes
    assert max(len(batch) for batch in found) <= MAX_OPERATIONS
    assert all(sum(write.size for write in batch) <= MAX_BYTES for batch in found)


@pytest.mark.parametrize(
    ("lifetime", "jitter", "delay"),
    [
        (Lifetime(0, renewable=False), 0.5, 600),
        (Lifetime(900, renewable=True), 0.5, 300),
        (Lifetime(900, renewable=True), 0.0, 270),
        (Lifetime(900, renewable=True), 1.0, 330),
        (Lifetime(0.1, renewable=True), 0.5, 0.2),
        (Lifetime(2_764_800, renewable=True), 0.5, 921_600),
    ],
)
def test_token_is_renewed_at_a_third(lifetime: Lifetime, jitter: float, delay: float) -> None:
    """A token is renewed when a third of its remaining life is over, and never in a hurry."""
    assert renewal_delay(lifetime, jitter) == pytest.approx(delay)


def test_address_text_is_its_repr() -> None:
    """An address shows itself as what one would type."""
    assert repr(Address("https", "consul", 8501)) == "Address('https://consul:8501')"
