"""Objects in Consul KV that are watched in shards, over real agents."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from gloo_nomad.api.kinds import CONFIG_KINDS, UPSTREAM
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.clients.consul_cas import Write, txn_cas
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.sources.consul_kv import ConsulKvSource
from gloo_nomad.sources.kv_connections import Connections
from gloo_nomad.sources.kv_cut import Bounds
from gloo_nomad.sources.kv_shards import Cutting
from gloo_nomad.sources.source import cancel
from tests.servers.test_sources_consul_kv import port_of, upstream
from tests.source_listener import Listener, open_client, until

pytestmark = pytest.mark.consul

SEED = 300
MOST = 40


def cutting(**more: Any) -> Cutting:
    """Shards of twenty keys, soon."""
    return Cutting(Connections(lambda: MOST), **{"bounds": Bounds(keys=20), "settle": 0.5, "wait": 0.4, **more})


def ref_of(number: int) -> Ref:
    """An object's name."""
    return Ref("ns", f"u-{number:04d}")


async def write(writer: ConsulClient, root: str, numbers: range, port: int = 80) -> None:
    """Creates objects."""
    writes = [Write(UPSTREAM.key(root, ref_of(number)), upstream(ref_of(number), port), 0) for number in numbers]
    await txn_cas(writer, writes)


def has_port(listener: Listener, ref: Ref, port: int) -> bool:
    """Whether an object is served with this port; 0: whether it is gone."""
    if listener.value(UPSTREAM, ref) is None:
        return port == 0
    return port_of(listener, ref) == port


def shards() -> list[str]:
    """The shards that are watched now, by the names of their tasks."""
    begins = f"{UPSTREAM.name} "
    found = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(begins)]
    return [name for name in found if not name.endswith(" names")]


@asynccontextmanager
async def sharded(
    agent: ConsulAgent, root: str, *, count: int = SEED, port: int = 0, how: Cutting | None = None
) -> AsyncIterator[tuple[ConsulClient, Listener]]:
    """A client to write with, and a listener whose source has cut the kind; *port* is another way to the agent."""
    writer = open_client(agent)
    reader = ConsulClient(ConsulOptions(parse_address(f"127.0.0.1:{port or agent.port}", 8500)))
    await write(writer, root, range(count))
    try:
        async with Listener(ConsulKvSource(reader, root, (UPSTREAM,), wait=5, cutting=how or cutting())) as listener:
            await listener.listed()
            await listener.until(lambda: len(shards()) > 5)
            yield writer, listener
    finally:
        await writer.close()
        await reader.close()


async def agree(writer: ConsulClient, listener: Listener, root: str, seconds: float = 30) -> None:
    """Waits until the source has said what a plain reader sees."""
    prefix = f"{root}/{UPSTREAM.prefix}"
    pairs = (await writer.kv_list(prefix)).pairs
    expected = {Ref(*pair.key.removeprefix(prefix).split("/")): pair.modify_index for pair in pairs}

    def same() -> bool:
        return {ref: entry.version for ref, entry in listener.store.entries(UPSTREAM.name).items()} == expected

    await listener.until(same, seconds)


def test_create_edit_delete(consul: ConsulAgent, root_key: str) -> None:
    """Inside of shards and outside of all, a change is said, and nothing else is."""

    async def run() -> None:
        async with sharded(consul, root_key) as (writer, listener):
            before = len(listener.changes)
            for ref in (ref_of(7), ref_of(SEED - 1), Ref("ns", "v"), Ref("other", "u-0001")):
                for port in (1, 2):
                    await writer.kv_put(UPSTREAM.key(root_key, ref), upstream(ref, port))
                    await listener.until(partial(has_port, listener, ref, port))
                await writer.kv_delete(UPSTREAM.key(root_key, ref))
                await listener.until(partial(has_port, listener, ref, 0))
            said = listener.changes[before:]
            assert not any(change.complete for change in said)
            assert max(len(change.puts) + len(change.deletes) for change in said) == 1

    asyncio.run(run())


def test_small_kinds_are_read_as_one(consul: ConsulAgent, root_key: str) -> None:
    """What shrinks is put together again, and what grows again is cut again; all stays as it is meanwhile."""

    async def run() -> None:
        async with sharded(consul, root_key) as (writer, listener):
            for number in range(5, SEED):
                await writer.kv_delete(UPSTREAM.key(root_key, ref_of(number)))
            await agree(writer, listener, root_key)
            await listener.until(lambda: not shards())
            await agree(writer, listener, root_key)

            await write(writer, root_key, range(5, SEED))
            await listener.until(lambda: len(shards()) > 5)
            await agree(writer, listener, root_key)

    asyncio.run(run())


def test_splits_under_load(consul: ConsulAgent, root_key: str) -> None:
    """While names of all kinds come and go, shards are exchanged and nothing is lost; nor is anything taken away.

    The objects of the beginning are only edited: they never leave the store.
    """
    done = asyncio.Event()
    dice = random.Random(7)  # not a secret

    async def edit(writer: ConsulClient) -> None:
        while not done.is_set():
            ref = ref_of(dice.randrange(SEED))
            await writer.kv_put(UPSTREAM.key(root_key, ref), upstream(ref, dice.randrange(1, 60_000)))

    async def grow_and_shrink(writer: ConsulClient, begins: str) -> None:
        refs = [Ref("ns", f"{begins}{dice.randrange(10**6):06d}") for _ in range(120)]
        for ref in refs:
            await writer.kv_put(UPSTREAM.key(root_key, ref), upstream(ref))
        for ref in refs[20:]:
            await writer.kv_delete(UPSTREAM.key(root_key, ref))

    async def run() -> None:
        seen = set[str]()
        kept = {ref_of(number) for number in range(SEED)}
        async with sharded(consul, root_key, how=cutting(settle=0.2)) as (writer, listener):
            editing = [asyncio.create_task(edit(writer)) for _ in range(2)]
            growing = [asyncio.create_task(grow_and_shrink(writer, begins)) for begins in ("u-", "u-00", "w", "é")]
            while not all(task.done() for task in growing):
                seen.update(shards())
                assert len(shards()) <= MOST
                assert kept <= listener.store.entries(UPSTREAM.name).keys()
                await asyncio.sleep(0.02)
            done.set()
            await asyncio.gather(*editing, *growing)
            await agree(writer, listener, root_key)
            assert len(seen) > 20

    asyncio.run(run())


def test_restored_snapshot(new_consul: Callable[..., ConsulAgent], tmp_path: Any) -> None:
    """After a restore of an older snapshot the store is what the snapshot holds, in every shard."""
    agent = new_consul()

    async def run() -> None:
        async with sharded(agent, "gloo") as (writer, listener):
            await asyncio.to_thread(agent.command, "snapshot", "save", str(tmp_path / "snap"))
            await writer.kv_put(UPSTREAM.key("gloo", ref_of(1)), upstream(ref_of(1), 9))
            await writer.kv_delete(UPSTREAM.key("gloo", ref_of(200)))
            await write(writer, "gloo", range(SEED, SEED + 50))
            await agree(writer, listener, "gloo")

            await asyncio.to_thread(agent.command, "snapshot", "restore", str(tmp_path / "snap"))
            await agree(writer, listener, "gloo")
            assert port_of(listener, ref_of(1)) == 80

            await writer.kv_put(UPSTREAM.key("gloo", ref_of(200)), upstream(ref_of(200), 3))
            await listener.until(lambda: port_of(listener, ref_of(200)) == 3)

    asyncio.run(run())


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_another_consul(new_consul: Callable[..., ConsulAgent], *, filled: bool) -> None:
    """A Consul without its data takes nothing away by parts: it is said as one change that everything is gone."""
    first = new_consul()
    other = Ref("ns", "other")

    async def run() -> None:
        async with sharded(first, "gloo") as (_, listener):
            said = len(listener.changes)
            await asyncio.to_thread(first.stop)
            await listener.until(lambda: listener.source.state.last_error)
            assert len(listener.store.entries(UPSTREAM.name)) == SEED

            second = await asyncio.to_thread(lambda: new_consul(port=first.port))
            if filled:
                await asyncio.to_thread(second.put, UPSTREAM.key("gloo", other), upstream(other))
            left = {other} if filled else set()
            await listener.until(lambda: listener.store.entries(UPSTREAM.name).keys() == left, 30)
            await listener.until(lambda: listener.source.state.last_error == "")
            taken = [change for change in listener.changes[said:] if change.deletes or change.complete]
            assert all(change.complete for change in taken)

    asyncio.run(run())


def test_user_deletes_everything(consul: ConsulAgent, root_key: str) -> None:
    """A tree that is deleted while it is watched is gone at once, as it is without shards."""

    async def run() -> None:
        async with sharded(consul, root_key) as (writer, listener):
            for number in range(0, SEED, 10):  # so that every shard has answered
                await writer.kv_put(UPSTREAM.key(root_key, ref_of(number)), upstream(ref_of(number), 2))
            await agree(writer, listener, root_key)
            said = len(listener.changes)
            await writer.kv_delete_tree(f"{root_key}/")
            await listener.until(lambda: not listener.store.entries(UPSTREAM.name))
            await listener.until(lambda: not shards())
            deleted = [change.deletes for change in listener.changes[said:] if not change.complete]
            assert len(frozenset[Ref]().union(*deleted)) == SEED

    asyncio.run(run())


def test_rewriting_everything_changes_nothing(consul: ConsulAgent, root_key: str) -> None:
    """Every key written anew with what it holds: new versions, and the same objects."""

    async def run() -> None:
        async with sharded(consul, root_key) as (writer, listener):
            snapshot = listener.store.snapshot
            for number in range(SEED):
                await writer.kv_put(UPSTREAM.key(root_key, ref_of(number)), upstream(ref_of(number)) + b"\n")
            await agree(writer, listener, root_key)
            assert listener.store.snapshot is snapshot

    asyncio.run(run())


@dataclass
class Relay:
    """A way to an agent that can be cut for queries whose target holds some text."""

    agent: ConsulAgent
    broken: str = ""
    _open: dict[asyncio.StreamWriter, bytes] = field(default_factory=dict)
    _relaying: set["asyncio.Task[None] | None"] = field(default_factory=set)

    async def serve(self) -> asyncio.Server:
        """Listens on a free port."""
        return await asyncio.start_server(self._relay, "127.0.0.1", 0)

    def cut(self, text: str) -> None:
        """From now on such queries fail, running ones too; an empty text mends it."""
        self.broken = text
        for writer, target in self._open.items():
            if text and text.encode() in target:
                writer.close()

    async def ended(self) -> None:
        """Returns when nobody is connected any more."""
        await asyncio.gather(*(task for task in self._relaying if task is not None), return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relaying.add(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", self.agent.port)
        answering = asyncio.create_task(self._copy(there, writer))
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self._open[writer] = head.partition(b"\r\n")[0]
                if self.broken and self.broken.encode() in self._open[writer]:
                    break
                back.write(head)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.pop(writer, None)
            await cancel([answering])
            for end in (back, writer):
                end.close()
                await asyncio.gather(end.wait_closed(), return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(65536):
            writer.write(part)


def test_one_shard_fails(consul: ConsulAgent, root_key: str) -> None:
    """While one shard cannot be read the others go on, the source says why, and later it catches up."""

    async def run() -> None:
        relay = Relay(consul)
        server = await relay.serve()
        port = server.sockets[0].getsockname()[1]
        async with sharded(consul, root_key, port=port, how=cutting(settle=3.0)) as (writer, listener):
            said = len(listener.changes)
            broken = min(shards(), key=len).split(" ")[1]
            inside = [n for n in range(SEED) if UPSTREAM.key(root_key, ref_of(n)).startswith(broken)]
            outside = next(n for n in range(SEED) if n not in inside)
            relay.cut(f"/{broken}?")
            await listener.until(lambda: listener.source.state.last_error)
            await writer.kv_delete(UPSTREAM.key(root_key, ref_of(inside[1])))
            await writer.kv_put(UPSTREAM.key(root_key, ref_of(inside[0])), upstream(ref_of(inside[0]), 2))
            await writer.kv_put(UPSTREAM.key(root_key, ref_of(outside)), upstream(ref_of(outside), 3))
            await listener.until(lambda: port_of(listener, ref_of(outside)) == 3)
            assert port_of(listener, ref_of(inside[0])) == 80
            assert broken in listener.source.state.last_error

            relay.cut("")
            await agree(writer, listener, root_key)
            assert not any(change.complete for change in listener.changes[said:])
            await listener.until(lambda: listener.source.state.last_error == "")
        server.close()
        await relay.ended()

    asyncio.run(run())


def test_restarts_in_a_row_have_few_connections(new_consul: Callable[..., ConsulAgent]) -> None:
    """Programs that start anew, each when the one before has cut its kind, never come near 200 connections.

    Consul counts the queries of those that are gone until their waits are over.
    """
    agent = new_consul()

    async def run() -> None:
        most = 0
        for _ in range(4):
            async with sharded(agent, "gloo", how=cutting(settle=5.0, wait=4.0)):
                for _ in range(20):
                    most = max(most, server_side(agent))
                    await asyncio.sleep(0.05)
        assert 20 < most <= MOST + 2 * len(CONFIG_KINDS)

        async def all_gone() -> bool:
            return server_side(agent) == 0

        await until(all_gone, seconds=60)

    asyncio.run(run())


def test_too_many_connections(new_consul: Callable[..., ConsulAgent]) -> None:
    """Where Consul allows fewer connections, shards are given up, and all is watched as one."""
    agent = new_consul(config={"limits": {"http_max_conns_per_client": 20}})

    async def run() -> None:
        writer, reader = open_client(agent), open_client(agent)
        await write(writer, "gloo", range(SEED))
        source = ConsulKvSource(reader, "gloo", (UPSTREAM,), cutting=cutting(settle=2.0))
        with capture_logs() as logs:
            async with Listener(source) as listener:
                await listener.until(lambda: any(entry["event"] == "kind_whole_again" for entry in logs))
                await writer.kv_put(UPSTREAM.key("gloo", ref_of(3)), upstream(ref_of(3), 3))
                await listener.until(lambda: port_of(listener, ref_of(3)) == 3, 30)
                assert len(listener.store.entries(UPSTREAM.name)) == SEED
        assert "Consul has too many connections" in [entry.get("reason") for entry in logs]
        await writer.close()
        await reader.close()

    asyncio.run(run())


def server_side(agent: ConsulAgent) -> int:
    """Connections as Consul counts them."""
    found = psutil.Process(agent.server.pid).net_connections("tcp")
    return sum(c.laddr.port == agent.port and c.status in {"ESTABLISHED", "CLOSE_WAIT"} for c in found)


def test_shards_give_way_when_others_need_the_connections(consul: ConsulAgent, root_key: str) -> None:
    """They end, whether an object changed or not, and nothing is lost meanwhile."""

    async def run() -> None:
        most = MOST
        connections = Connections(lambda: most)
        how = Cutting(connections, Bounds(keys=20), settle=0.5, wait=0.4)
        async with sharded(consul, root_key, how=how) as (writer, listener):
            most = 0
            await listener.until(lambda: not shards())
            await write(writer, root_key, range(SEED, SEED + 10))
            await agree(writer, listener, root_key)
            assert not shards()
            most = MOST
            await listener.until(lambda: len(shards()) > 5)
            await agree(writer, listener, root_key)

    asyncio.run(run())
