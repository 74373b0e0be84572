"""Objects in Consul KV, from a real agent to the store."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import CONFIG_KINDS, UPSTREAM, VIRTUAL_SERVICE, Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_cas import Write, txn_cas
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.sources.consul_kv import ConsulKvSource
from tests.source_listener import Listener, open_client, until

pytestmark = pytest.mark.consul

A = Ref("ns", "a")
B = Ref("ns", "b")


def upstream(ref: Ref, port: int = 80, **more: Any) -> bytes:
    """A static upstream as it is stored."""
    metadata = {"name": ref.name, "namespace": ref.namespace}
    return json.dumps({"metadata": metadata, "static": {"hosts": [{"addr": "a", "port": port}]}, **more}).encode()


def port_of(listener: Listener, ref: Ref) -> int:
    """The port of the served upstream."""
    return int(listener.value(UPSTREAM, ref).static.hosts[0].port)


@asynccontextmanager
async def listening(
    agent: ConsulAgent,
    root: str,
    kinds: tuple[Kind, ...] = (UPSTREAM,),
    namespaces: tuple[str, ...] = (),
    wait: float = 60.0,
) -> AsyncIterator[tuple[ConsulClient, Listener]]:
    """A client to write with, and a listener on a source of its own."""
    writer, reader = open_client(agent), open_client(agent)
    async with Listener(ConsulKvSource(reader, root, kinds, namespaces, wait=wait)) as listener:
        await listener.listed()
        yield writer, listener
    await writer.close()
    await reader.close()


Scenario = Callable[[ConsulClient, Listener], Awaitable[None]]


def play(agent: ConsulAgent, root: str, scenario: Scenario, **options: Any) -> None:
    """Runs a scenario while a source is listened to."""

    async def run() -> None:
        async with listening(agent, root, **options) as (writer, listener):
            await scenario(writer, listener)

    asyncio.run(run())


def test_nothing_is_a_state(consul: ConsulAgent, root_key: str) -> None:
    """A source over an empty tree says once per kind that there is nothing, and is listed."""

    async def scenario(_: ConsulClient, listener: Listener) -> None:
        assert sorted(change.kind for change in listener.changes) == sorted(kind.name for kind in CONFIG_KINDS)
        assert all(change.complete and not change.puts for change in listener.changes)

    play(consul, root_key, scenario, kinds=CONFIG_KINDS)


def test_create_edit_delete(consul: ConsulAgent, root_key: str) -> None:
    """What is written is there, what is edited is edited, what is deleted is gone, the last object too."""

    async def scenario(writer: ConsulClient, listener: Listener) -> None:
        key = UPSTREAM.key(root_key, A)
        await writer.kv_put(key, upstream(A, 1))
        await listener.until(lambda: listener.value(UPSTREAM, A) is not None)
        entry = listener.entry(UPSTREAM, A)
        (pair,) = (await writer.kv_get(key)).pairs
        assert entry
        assert (entry.version, entry.created) == (pair.modify_index, pair.create_index)

        await writer.kv_put(key, upstream(A, 2))
        await listener.until(lambda: port_of(listener, A) == 2)

        await writer.kv_delete(key)
        await listener.until(lambda: listener.value(UPSTREAM, A) is None)
        assert listener.entry(UPSTREAM, A) is None

    play(consul, root_key, scenario)


def test_a_tree_deleted_above(consul: ConsulAgent, root_key: str) -> None:
    """Consul's index does not tell of it where a key was deleted before; it is seen when the wait is over."""

    async def scenario(writer: ConsulClient, listener: Listener) -> None:
        for ref in (A, B):
            await writer.kv_put(UPSTREAM.key(root_key, ref), upstream(ref, 1))
        await writer.kv_delete(UPSTREAM.key(root_key, B))
        await listener.until(lambda: list(listener.store.entries(UPSTREAM.name)) == [A])
        await writer.kv_delete_tree(f"{root_key}/")
        await listener.until(lambda: not listener.store.entries(UPSTREAM.name))

    play(consul, root_key, scenario, wait=1)


def test_only_what_differs_is_said(consul: ConsulAgent, root_key: str) -> None:
    """Of many objects a change names the one that changed, and foreign keys wake nobody."""

    async def scenario(writer: ConsulClient, listener: Listener) -> None:
        refs = [Ref("ns", f"u{i}") for i in range(100)]
        await txn_cas(writer, [Write(UPSTREAM.key(root_key, ref), upstream(ref), 0) for ref in refs])
        await listener.until(lambda: len(listener.store.entries(UPSTREAM.name)) == 100)
        await listener.quiet()

        before = len(listener.changes)
        await writer.kv_put(UPSTREAM.key(root_key, refs[7]), upstream(refs[7], 99))
        await writer.kv_put(f"{root_key}/elsewhere", b"x")
        await listener.quiet()
        assert [set(change.puts) for change in listener.changes[before:]] == [{refs[7]}]

    play(consul, root_key, scenario)


def test_status_write_changes_nothing_that_is_served(consul: ConsulAgent, root_key: str) -> None:
    """A write of statuses alone gives an entry with the new status and version and the same object."""

    async def scenario(writer: ConsulClient, listener: Listener) -> None:
        key = UPSTREAM.key(root_key, A)
        await writer.kv_put(key, upstream(A, 1))
        await listener.until(lambda: listener.value(UPSTREAM, A) is not None)
        served, snapshot = listener.value(UPSTREAM, A), listener.store.snapshot
        before = listener.entry(UPSTREAM, A)

        text = codec.with_status(upstream(A, 1), UPSTREAM, "gloo-system", {"state": "Accepted", "reportedBy": "gloo"})
        await writer.kv_put(key, text)
        await listener.until(lambda: listener.store.entries(UPSTREAM.name)[A].status)

        after = listener.entry(UPSTREAM, A)
        assert before
        assert after
        assert after.version > before.version
        assert listener.value(UPSTREAM, A) is served
        assert listener.store.snapshot is snapshot

    play(consul, root_key, scenario)


BAD_VALUES = {
    "bad YAML": b"a: [b",
    "unknown field": b"metadata: {name: bad, namespace: ns}\nbogus: 1\n",
    "wrong type": b"metadata: {name: bad, namespace: ns}\nstatic: 7\n",
    "empty": b"",
    "binary": bytes(range(256)),
    "no mapping": b"[1, 2]",
    "no name": b"static: {}\n",
    "other name": b"metadata: {name: other, namespace: ns}\n",
    "huge": b"a: " + b"x" * 520_000,
    "deep": b"[" * 10_000,
    "bomb": b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c, *c, *c]\n",
}


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_value_spoils_only_itself(consul: ConsulAgent, root_key: str, value: bytes) -> None:
    """A bad value is rejected under its key with a reason, also at a start; the others are served and changeable."""
    bad = Ref("ns", "bad")

    async def scenario(writer: ConsulClient, listener: Listener) -> None:
        await listener.until(lambda: listener.rejection(UPSTREAM, bad))
        assert listener.value(UPSTREAM, bad) is None
        assert port_of(listener, A) == 1
        await writer.kv_put(UPSTREAM.key(root_key, A), upstream(A, 2))
        await listener.until(lambda: port_of(listener, A) == 2)

        await writer.kv_put(UPSTREAM.key(root_key, bad), upstream(bad, 3))
        await listener.until(lambda: listener.value(UPSTREAM, bad) is not None)
        served = listener.value(UPSTREAM, bad)
        await writer.kv_put(UPSTREAM.key(root_key, bad), value)
        await listener.until(lambda: listener.rejection(UPSTREAM, bad))
        assert listener.value(UPSTREAM, bad) is served

    consul.put(UPSTREAM.key(root_key, A), upstream(A, 1))
    consul.put(UPSTREAM.key(root_key, bad), value)
    play(consul, root_key, scenario)


def test_odd_keys(consul: ConsulAgent, root_key: str) -> None:
    """Folder marks are no objects; a key without namespace or with too many parts is rejected on what it can be."""
    prefix = f"{root_key}/{UPSTREAM.prefix}"
    consul.put(prefix, b"")
    consul.put(f"{prefix}ns/", b"")
    consul.put(f"{prefix}loose", upstream(A))
    consul.put(f"{prefix}ns/sub/a", upstream(A))
    consul.put(f"{prefix}ns/a", upstream(A))

    async def scenario(_: ConsulClient, listener: Listener) -> None:
        assert set(listener.store.entries(UPSTREAM.name)) == {Ref("", "loose"), Ref("ns", "sub/a"), A}
        for ref in (Ref("", "loose"), Ref("ns", "sub/a")):
            assert f"is not {prefix}<namespace>/<name>" in listener.rejection(UPSTREAM, ref)
        assert listener.value(UPSTREAM, A) is not None

    play(consul, root_key, scenario)


def test_namespaces_are_exact(consul: ConsulAgent, root_key: str) -> None:
    """Watching namespace x neither reads x2 nor the kind whose name only begins alike."""
    for namespace in ("x", "x2"):
        consul.put(UPSTREAM.key(root_key, Ref(namespace, "a")), upstream(Ref(namespace, "a")))
    consul.put(f"{root_key}/{UPSTREAM.prefix.rstrip('/')}Group/x/g", b"metadata: {name: g, namespace: x}")

    async def scenario(writer: ConsulClient, listener: Listener) -> None:
        assert set(listener.store.entries(UPSTREAM.name)) == {Ref("x", "a")}
        before = len(listener.changes)
        await writer.kv_put(UPSTREAM.key(root_key, Ref("x2", "b")), upstream(Ref("x2", "b")))
        await listener.quiet()
        assert listener.changes[before:] == []

    play(consul, root_key, scenario, namespaces=("x",))


def test_restored_snapshot(new_consul: Callable[..., ConsulAgent], tmp_path: Any) -> None:
    """After a restore of an older snapshot the store is what the snapshot holds."""
    agent = new_consul()
    agent.put(UPSTREAM.key("gloo", A), upstream(A, 1))
    agent.command("snapshot", "save", str(tmp_path / "snap"))

    async def scenario(writer: ConsulClient, listener: Listener) -> None:
        await writer.kv_put(UPSTREAM.key("gloo", A), upstream(A, 2))
        await writer.kv_put(UPSTREAM.key("gloo", B), upstream(B, 2))
        await listener.until(lambda: listener.value(UPSTREAM, B) is not None)

        await asyncio.to_thread(agent.command, "snapshot", "restore", str(tmp_path / "snap"))
        await listener.until(lambda: listener.value(UPSTREAM, B) is None and port_of(listener, A) == 1)

        await writer.kv_put(UPSTREAM.key("gloo", A), upstream(A, 3))
        await listener.until(lambda: port_of(listener, A) == 3)

    play(agent, "gloo", scenario)


def test_consul_away_and_another_one_back(new_consul: Callable[..., ConsulAgent]) -> None:
    """While Consul is away all stays as it was and the state says why; an empty new one at lower indexes is heeded."""
    first = new_consul()
    for port in range(1, 40):
        first.put(UPSTREAM.key("gloo", A), upstream(A, port))

    async def scenario(_: ConsulClient, listener: Listener) -> None:
        served, said = listener.value(UPSTREAM, A), len(listener.changes)

        await asyncio.to_thread(first.stop)
        await listener.until(lambda: listener.source.state.last_error)
        await asyncio.sleep(1)
        assert listener.value(UPSTREAM, A) is served
        assert len(listener.changes) == said

        second = await asyncio.to_thread(lambda: new_consul(port=first.port))
        await asyncio.to_thread(second.put, UPSTREAM.key("gloo", B), upstream(B, 2))
        await listener.until(lambda: listener.value(UPSTREAM, B) is not None and listener.value(UPSTREAM, A) is None)
        assert listener.source.state.last_error == ""

    play(first, "gloo", scenario)


def test_start_without_consul(new_consul: Callable[..., ConsulAgent]) -> None:
    """A source that starts before Consul is not listed, says nothing, and lists when Consul comes."""
    gone = new_consul()
    gone.stop()

    async def run() -> None:
        reader = open_client(gone)
        async with Listener(ConsulKvSource(reader, "gloo", (UPSTREAM,))) as listener:
            await listener.until(lambda: listener.source.state.last_error)
            assert not listener.source.state.listed
            assert listener.changes == []

            again = await asyncio.to_thread(lambda: new_consul(port=gone.port))
            again.put(UPSTREAM.key("gloo", A), upstream(A))
            await listener.listed()
            await listener.until(lambda: listener.value(UPSTREAM, A) is not None)
        await reader.close()

    asyncio.run(run())


def test_idle_source_is_quiet(consul: ConsulAgent, root_key: str) -> None:
    """A source of all kinds over a thousand keys takes next to no processor time while nothing happens."""

    async def scenario(writer: ConsulClient, listener: Listener) -> None:
        refs = [Ref("ns", f"u{i}") for i in range(1000)]
        await txn_cas(writer, [Write(UPSTREAM.key(root_key, ref), upstream(ref), 0) for ref in refs])
        await listener.until(lambda: len(listener.store.entries(UPSTREAM.name)) == 1000)
        await listener.quiet()
        process = psutil.Process()
        before = process.cpu_times()
        await asyncio.sleep(3)
        after = process.cpu_times()
        assert after.user + after.system - before.user - before.system < 0.15

    play(consul, root_key, scenario, kinds=CONFIG_KINDS)


def test_loop_lives_during_a_cold_start(consul: ConsulAgent, root_key: str) -> None:
    """While two thousand values in YAML are read for the first time, the event loop is never held for long."""
    pauses: list[float] = []

    async def measure() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            pauses.append(time.perf_counter() - began)

    async def run() -> None:
        writer = open_client(consul)
        refs = [Ref("ns", f"v{i}") for i in range(2000)]
        writes = [Write(VIRTUAL_SERVICE.key(root_key, ref), virtual_service(ref), 0) for ref in refs]
        await txn_cas(writer, writes)
        measuring = asyncio.create_task(measure())
        async with listening(consul, root_key, (VIRTUAL_SERVICE,)) as (_, listener):
            assert len(listener.store.snapshot.of(VIRTUAL_SERVICE.name)) == 2000
        measuring.cancel()
        await writer.close()

    asyncio.run(run())
    assert max(pauses) < 0.5


def virtual_service(ref: Ref) -> bytes:
    """A virtual service of ten routes as users write it."""
    route = (
        "  - matchers: [{{prefix: /api/{}}}]\n    routeAction: {{single: {{upstream: {{name: u, namespace: ns}}}}}}\n"
    )
    routes = "".join(route.format(i) for i in range(10))
    metadata = f"metadata: {{name: {ref.name}, namespace: {ref.namespace}}}\n"
    return f"{metadata}virtualHost:\n  domains: [{ref.name}.example.com]\n  routes:\n{routes}".encode()


def test_stopping_leaves_few_connections(new_consul: Callable[..., ConsulAgent]) -> None:
    """Starts and stops in a row never come near Consul's limit of 200 connections.

    Consul keeps the blocking KV queries of a client that went away until their wait is over, so that what counts is
    that they are few and the waits on small prefixes are short.
    """
    agent = new_consul()

    async def run() -> None:
        for _ in range(10):
            async with listening(agent, "gloo", CONFIG_KINDS):
                pass
        assert _server_side(agent) <= 10 * len(CONFIG_KINDS) + 2

        async def all_gone() -> bool:
            return _server_side(agent) == 0

        await until(all_gone, seconds=20)

    asyncio.run(run())


def _server_side(agent: ConsulAgent) -> int:
    found = psutil.Process(agent.server.pid).net_connections("tcp")
    return sum(c.laddr.port == agent.port and c.status in {"ESTABLISHED", "CLOSE_WAIT"} for c in found)
