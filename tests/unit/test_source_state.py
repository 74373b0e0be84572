"""What is in the log of a source that fails: one line for one reason, however many of its parts fail by it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from structlog.testing import capture_logs

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.http import HttpOptions, HttpSession, UnreachableError
from gloo_nomad.clients.threads import connection_error
from gloo_nomad.sources import source
from gloo_nomad.sources.source import SourceState

REFUSED = "Consul at http://127.0.0.1:1, GET /v1/kv/{}/: cannot connect: Connection refused"


class Clock:
    """A time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    time = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of sources."""
    clock = Clock()
    monkeypatch.setattr(source, "time", clock)
    return clock


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as entries:
        yield entries


def test_one_reason_is_one_line(clock: Clock, logged: list[Any]) -> None:
    """Hundreds of requests that one server refuses are one warning, and one more while it lasts; their end is one."""
    state = SourceState("consul-kv")
    parts = [f"part-{number}" for number in range(300)]
    for _ in range(3):
        for part in parts:
            state.fail(part, REFUSED.format(part))
        clock.now += 10
    assert [(entry["event"], entry["part"]) for entry in logged] == [("source failing", "part-0")]
    state.fail("part-7", REFUSED.format("part-7"))
    assert [entry["part"] for entry in logged] == ["part-0", "part-7"]

    for part in parts:
        assert state.last_error
        state.succeed(part)

    assert [(entry["event"], entry["log_level"]) for entry in logged[2:]] == [("source recovered", "info")]
    assert (state.last_error, state.since) == ("", clock.now)


def test_other_reasons_are_other_lines(logged: list[Any], clock: Clock) -> None:
    """A part that fails by a reason of its own is told, also while others fail, and so is its end."""
    state = SourceState("consul-kv")
    state.fail("a", REFUSED.format("a"))
    clock.now += 1
    state.fail("b", "Consul at http://127.0.0.1:1, GET /v1/kv/b/: 403 Permission denied")
    state.fail("a", "Consul at http://127.0.0.1:1, GET /v1/kv/a/: 403 Permission denied")
    state.succeed("b")
    state.forget("a")
    state.fail("a", REFUSED.format("a"))

    assert [(entry["event"], entry["part"]) for entry in logged] == [
        ("source failing", "a"),
        ("source failing", "b"),
        ("source failing", "a"),
    ]
    assert list(state.errors) == ["a"]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:{port}", "cannot connect: Connection refused"),
        ("nobody.invalid:{port}", "cannot connect: "),
        ("unix://{folder}/no.sock", "cannot connect: No such file or directory"),
    ],
)
def test_why_there_is_no_connection(address: str, why: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """The system's words, and nothing of the library's."""
    where = parse_address(address.format(port=free_port(), folder=tmp_path), 80)

    async def run() -> str:
        session = HttpSession(HttpOptions("Consul", where))
        try:
            with pytest.raises(UnreachableError) as failure:
                await session.request("GET", "/v1/kv/a")
        finally:
            await session.close()
        return str(failure.value)

    told = asyncio.run(run())
    assert told.startswith(f"Consul at {where}, GET /v1/kv/a: {why}")
    assert "Client" not in told


@pytest.mark.parametrize(("host", "why"), [("127.0.0.1", "Connection refused"), ("nobody.invalid", "")])
def test_why_vault_is_away(host: str, why: str, free_port: Callable[[], int]) -> None:
    """The same for the clients that are called in threads."""
    with pytest.raises(requests.ConnectionError) as failure:
        requests.get(f"http://{host}:{free_port()}/", timeout=20)
    told = str(connection_error(failure.value, "Vault at x, mount secret"))
    assert told.startswith(f"Vault at x, mount secret: cannot connect: {why}")
    assert "HTTPConnection" not in told
