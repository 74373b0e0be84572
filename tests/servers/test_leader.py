"""The lock in Consul KV: one holder, a quick hand-over, and nothing that two could hold."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gloo_nomad.clients.address import Address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.clients.consul_cas import FencedOutError, Write, txn_cas
from gloo_nomad.clients.http import WorldError
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.store.leader import SESSION_TTL, Leader

pytestmark = pytest.mark.consul


class Candidates:
    """Candidates for one lock, each with a client of its own."""

    def __init__(self, port: int, key: str, stack: AsyncExitStack) -> None:
        self.key = key
        self._port = port
        self._stack = stack
        self._running: dict[str, asyncio.Task[None]] = {}
        self.failures: list[WorldError] = []

    def start(self, name: str) -> Leader:
        """A candidate that takes part from now on."""
        client = ConsulClient(ConsulOptions(Address("http", "127.0.0.1", self._port)))
        self._stack.push_async_callback(client.close)
        leader = Leader(client, self.key, name)
        task = asyncio.create_task(leader.run(lambda failure: self.failures.append(failure) if failure else None))
        self._running[name] = task
        self._stack.push_async_callback(self.stop, name)
        return leader

    async def stop(self, name: str) -> None:
        """A candidate that stops as it should."""
        task = self._running[name]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def freeze(self, leader: Leader) -> None:
        """A candidate that dies: nothing of it reaches Consul any more, not even the end of its session."""

        async def dead(*_: Any, **__: Any) -> None:
            raise WorldError("dead")

        for name in ("session_renew", "session_destroy", "session_create", "kv_get", "kv_acquire"):
            setattr(leader.client, name, dead)


async def until(condition: Callable[[], bool], seconds: float = 10) -> float:
    """Waits until it is so; how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)
    return time.monotonic() - began


def run(port: int, key: str, scenario: Callable[[Candidates], Awaitable[None]]) -> None:
    """Runs a scenario with candidates for a lock in the Consul on a port."""

    async def whole() -> None:
        async with AsyncExitStack() as stack:
            await scenario(Candidates(port, key, stack))

    asyncio.run(whole())


def holder(agent: ConsulAgent, key: str) -> str:
    """Who holds the lock: the key's value; empty without a session."""
    found = agent.request("GET", f"kv/{key}")
    return (agent.get(key) or b"").decode() if found and found[0].get("Session") else ""


def sessions(agent: ConsulAgent, name: str) -> list[str]:
    """The sessions of a candidate."""
    return [session["ID"] for session in agent.request("GET", "session/list") or [] if session["Name"] == name]


def test_one_of_two_holds_it(consul: ConsulAgent, root_key: str) -> None:
    """The first is the leader at once; the second is not, as long as the first lives."""

    async def scenario(candidates: Candidates) -> None:
        first = candidates.start(f"first {root_key}")
        assert await until(first.held.is_set) < 2
        second = candidates.start(f"second {root_key}")
        await asyncio.sleep(1.5)
        assert first.held.is_set()
        assert not second.held.is_set()
        assert holder(consul, candidates.key) == f"first {root_key}"

    run(consul.port, f"{root_key}/lock", scenario)


def test_who_stops_hands_over_at_once(consul: ConsulAgent, root_key: str) -> None:
    """A leader that is cancelled ends its session, and the next one follows without waiting for its time to live."""

    async def scenario(candidates: Candidates) -> None:
        first = candidates.start(f"first {root_key}")
        await until(first.held.is_set)
        second = candidates.start(f"second {root_key}")
        await asyncio.sleep(0.5)
        await candidates.stop(f"first {root_key}")
        assert not first.held.is_set()
        assert sessions(consul, f"first {root_key}") == []
        assert await until(second.held.is_set) < 2

    run(consul.port, f"{root_key}/lock", scenario)


def test_who_dies_loses_it_within_the_sessions_life(consul: ConsulAgent, root_key: str) -> None:
    """A leader that falls silent stops counting on the lock before its session ends; then another one takes over."""

    async def scenario(candidates: Candidates) -> None:
        first = candidates.start(f"first {root_key}")
        await until(first.held.is_set)
        second = candidates.start(f"second {root_key}")
        candidates.freeze(first)
        gave_up = asyncio.create_task(until(lambda: not first.held.is_set(), 30))
        took_over = asyncio.create_task(until(second.held.is_set, 2 * SESSION_TTL + 10))
        assert await gave_up < SESSION_TTL
        assert await took_over < 2 * SESSION_TTL + 2
        assert holder(consul, candidates.key) == f"second {root_key}"

    run(consul.port, f"{root_key}/lock", scenario)


def test_who_slept_through_the_end_of_it_writes_nothing(consul: ConsulAgent, root_key: str) -> None:
    """What a former leader still has in hand is refused by Consul, although nobody else changed that key."""

    async def scenario(candidates: Candidates) -> None:
        first = candidates.start(f"first {root_key}")
        await until(first.held.is_set)
        fence, small, large = first.fence(), f"{root_key}/small", f"{root_key}/large"
        found = await txn_cas(first.client, [Write(small, b"one", 0), Write(large, b"1" * 400_000, 0)], fence)
        assert all(written.index for written in found.values())
        late = [
            [Write(small, b"two", found[small].index)],
            [Write(small, None, found[small].index)],
            [Write(large, b"2" * 400_000, found[large].index)],
        ]
        second = candidates.start(f"second {root_key}")
        consul.request("PUT", f"session/destroy/{fence.session}")
        await until(second.held.is_set)
        for writes in late:
            with pytest.raises(FencedOutError):
                await txn_cas(first.client, writes, fence)
        assert (consul.get(small), (consul.get(large) or b"")[:1]) == (b"one", b"1")
        await until(lambda: not first.held.is_set())
        with pytest.raises(FencedOutError):
            first.fence()
        found = await txn_cas(second.client, [*late[0], Write(large, None, found[large].index)], second.fence())
        assert all(written.index for written in found.values())
        assert (consul.get(small), consul.get(large)) == (b"two", None)

    run(consul.port, f"{root_key}/lock", scenario)


def test_a_key_that_is_taken_away_is_not_held_by_two(consul: ConsulAgent, root_key: str) -> None:
    """Whoever deletes the key and locks it anew ends the leadership, though the leader's session lives on."""

    async def scenario(candidates: Candidates) -> None:
        both = candidates.start(f"first {root_key}"), candidates.start(f"second {root_key}")
        await until(lambda: any(leader.held.is_set() for leader in both))
        foreign = consul.request("PUT", "session/create", b'{"LockDelay": "0s"}')["ID"]
        steps = [
            {"KV": {"Verb": "delete", "Key": candidates.key}},
            {"KV": {"Verb": "lock", "Key": candidates.key, "Value": "eA==", "Session": foreign}},
        ]
        consul.request("PUT", "txn", json.dumps(steps).encode())
        assert await until(lambda: not any(leader.held.is_set() for leader in both)) < 2

        consul.request("PUT", f"session/destroy/{foreign}")
        await until(lambda: any(leader.held.is_set() for leader in both))
        await asyncio.sleep(0.5)
        (winner,) = (leader for leader in both if leader.held.is_set())
        assert holder(consul, candidates.key) == winner.name

    run(consul.port, f"{root_key}/lock", scenario)


def test_an_ended_session_is_replaced(consul: ConsulAgent, root_key: str) -> None:
    """A leader whose session an operator ends gives up at once, and competes again with a new one."""

    async def scenario(candidates: Candidates) -> None:
        leader = candidates.start(f"only {root_key}")
        await until(leader.held.is_set)
        await asyncio.sleep(0.3)
        (before,) = sessions(consul, leader.name)
        consul.request("PUT", f"session/destroy/{before}")
        assert await until(lambda: not leader.held.is_set()) < 2
        await until(leader.held.is_set)
        assert sessions(consul, leader.name) != [before]

    run(consul.port, f"{root_key}/lock", scenario)


def test_a_short_silence_changes_nothing(consul: ConsulAgent, root_key: str) -> None:
    """A few seconds without answers do not end a leadership, and the session is not left behind."""

    async def scenario(candidates: Candidates) -> None:
        leader = candidates.start(f"only {root_key}")
        await until(leader.held.is_set)
        lost: list[bool] = []
        answer = leader.client.kv_get

        async def silent(*_: Any, **__: Any) -> Any:
            lost.append(not leader.held.is_set())
            raise WorldError("silence")

        leader.client.kv_get = silent  # type: ignore[method-assign]
        await until(lambda: len(lost) >= 2, 15)
        leader.client.kv_get = answer  # type: ignore[method-assign]
        await asyncio.sleep(3)
        assert leader.held.is_set()
        assert not any(lost)
        assert len(sessions(consul, leader.name)) == 1

    run(consul.port, f"{root_key}/lock", scenario)


def test_without_consul_one_waits(new_consul: Callable[..., ConsulAgent], free_port: Callable[[], int]) -> None:
    """A candidate that starts before Consul does holds the lock soon after; each failure is reported."""
    port = free_port()
    agents: list[ConsulAgent] = []

    async def scenario(candidates: Candidates) -> None:
        leader = candidates.start("early")
        await until(lambda: bool(candidates.failures))
        assert not leader.held.is_set()
        agents.append(await asyncio.to_thread(new_consul, port=port))
        await until(leader.held.is_set, 15)

    run(port, "lock", scenario)
