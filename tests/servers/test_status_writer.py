"""Statuses written into objects in Consul KV: few writes, by compare-and-set, and each for a reason."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.change import Entry
from gloo_nomad.store.status_writer import Standing, StatusWriter
from tests.source_listener import open_client

pytestmark = pytest.mark.consul

NAMESPACE = "gloo-system"


@dataclass
class Scene:
    """A writer, its client, and the objects as a watch would show them."""

    agent: ConsulAgent
    root: str
    client: ConsulClient
    writer: StatusWriter
    transactions: int = 0

    def key(self, name: str, kind: str = "VirtualService") -> str:
        """Where an object is."""
        return KINDS[kind].key(self.root, Ref(NAMESPACE, name))

    def put(self, name: str, text: str | None = None, kind: str = "VirtualService") -> None:
        """Writes an object."""
        default = f"metadata: {{name: {name}, namespace: {NAMESPACE}}}\n"
        self.agent.put(self.key(name, kind), default if text is None else text)

    async def watched(self) -> dict[ObjectRef, Entry]:
        """All objects as they are stored now."""
        found: dict[ObjectRef, Entry] = {}
        for kind in KINDS.values():
            prefix = f"{self.root}/{kind.prefix}"
            for pair in (await self.client.kv_list(prefix)).pairs:
                namespace, _, name = pair.key.removeprefix(prefix).partition("/")
                decoded = codec.decode(kind, pair.text(), Ref(namespace, name))
                entry = Entry(decoded.message, decoded.rejection, decoded.status, pair.modify_index)
                found[ObjectRef(kind.name, namespace, name)] = entry
        return found

    async def round(self, entries: Mapping[ObjectRef, Entry], standing: Mapping[str, Standing] | None = None) -> int:
        """One round: how many statuses were written."""
        known = standing or {}
        self.writer.forget(self.writer.done.keys() - entries.keys())
        return await self.writer.write(self.writer.differing(entries, lambda ref: known.get(ref.name, Standing())))

    def stored(self, name: str, kind: str = "VirtualService") -> dict[str, Any]:
        """An object as it is stored."""
        found: dict[str, Any] = yaml.safe_load(self.agent.get(self.key(name, kind)) or b"{}")
        return found

    def status(self, name: str) -> dict[str, Any]:
        """The status that is stored."""
        found: dict[str, Any] = self.stored(name)["namespacedStatuses"]["statuses"][NAMESPACE]
        return found


def run(agent: ConsulAgent, root: str, scenario: Callable[[Scene], Awaitable[None]]) -> None:
    """Runs a scenario on a real Consul."""

    async def whole() -> None:
        client = open_client(agent)
        scene = Scene(agent, root, client, StatusWriter(client, root, NAMESPACE))
        original = client.txn

        async def counting(operations: Any) -> Any:
            scene.transactions += 1
            return await original(operations)

        client.txn = counting  # type: ignore[method-assign]
        try:
            await scenario(scene)
        finally:
            await client.close()

    asyncio.run(whole())


def rejected(message: str) -> Standing:
    """An error, and one proxy."""
    problem = Problem(Severity.ERROR, ObjectRef("VirtualService", NAMESPACE, "x"), "", message)
    return Standing((problem,), frozenset({Ref(NAMESPACE, "gateway-proxy")}))


def test_only_what_differs_is_written(consul: ConsulAgent, root_key: str) -> None:
    """The first round writes all, the next none; a new problem writes that one object."""

    async def scenario(scene: Scene) -> None:
        for name in ("a", "b", "c"):
            scene.put(name)
        assert await scene.round(await scene.watched()) == 3
        assert scene.status("a") == {"state": "Accepted", "reportedBy": "gloo"}

        entries = await scene.watched()
        assert await scene.round(entries) == 0
        assert await scene.round(entries, {"b": rejected("wrong")}) == 1
        assert scene.status("b")["reason"] == "1 error occurred:\n\t* wrong\n\n"
        assert scene.status("b")["subresourceStatuses"] == {
            "*v1.Proxy.gateway-proxy_gloo-system": {"state": "Rejected", "reportedBy": "gloo"}
        }
        assert (await scene.watched())[ObjectRef("VirtualService", NAMESPACE, "a")].version == entries[
            ObjectRef("VirtualService", NAMESPACE, "a")
        ].version

    run(consul, root_key, scenario)


def test_a_statuss_own_echo_is_waited_for(consul: ConsulAgent, root_key: str) -> None:
    """Rounds between a write and the watch that brings it back do not write again."""

    async def scenario(scene: Scene) -> None:
        scene.put("a")
        before = await scene.watched()
        assert await scene.round(before) == 1
        index = (await scene.watched())[ObjectRef("VirtualService", NAMESPACE, "a")].version
        for _ in range(3):
            assert await scene.round(before) == 0
        assert (await scene.watched())[ObjectRef("VirtualService", NAMESPACE, "a")].version == index

    run(consul, root_key, scenario)


def test_who_loses_tries_again_with_the_next_version(consul: ConsulAgent, root_key: str) -> None:
    """An object that somebody changed meanwhile keeps that change; its status follows once the watch has seen it."""

    async def scenario(scene: Scene) -> None:
        scene.put("a")
        scene.put("b")
        before = await scene.watched()
        scene.put("a", f"metadata: {{name: a, namespace: {NAMESPACE}}}\ndisplayName: theirs\n")
        assert await scene.round(before) == 1
        assert scene.stored("a") == {"metadata": {"name": "a", "namespace": NAMESPACE}, "displayName": "theirs"}

        assert await scene.round(await scene.watched()) == 1
        assert scene.stored("a")["displayName"] == "theirs"
        assert scene.status("a")["state"] == "Accepted"

    run(consul, root_key, scenario)


def test_who_loses_inside_the_transaction(consul: ConsulAgent, root_key: str) -> None:
    """A change between the reading and the transaction costs that one status, and no other one."""

    async def scenario(scene: Scene) -> None:
        for name in ("a", "b", "c"):
            scene.put(name)
        before = await scene.watched()
        counting = scene.client.txn

        async def late(operations: Any) -> Any:
            if scene.transactions == 0:
                scene.put("b", f"metadata: {{name: b, namespace: {NAMESPACE}}}\ndisplayName: theirs\n")
            return await counting(operations)

        scene.client.txn = late  # type: ignore[method-assign]
        assert await scene.round(before) == 2
        assert "namespacedStatuses" not in scene.stored("b")
        assert await scene.round(await scene.watched()) == 1
        assert scene.stored("b")["displayName"] == "theirs"

    run(consul, root_key, scenario)


def test_a_removed_object_is_not_made_again(consul: ConsulAgent, root_key: str) -> None:
    """A status never brings an object back that was deleted meanwhile."""

    async def scenario(scene: Scene) -> None:
        scene.put("a")
        before = await scene.watched()
        consul.delete(scene.key("a"))
        assert await scene.round(before) == 0
        assert consul.get(scene.key("a")) is None

    run(consul, root_key, scenario)


def test_two_hundred_objects_are_few_transactions(consul: ConsulAgent, root_key: str) -> None:
    """Statuses go in transactions of as many as Consul takes."""

    async def scenario(scene: Scene) -> None:
        for number in range(200):
            scene.put(f"vs-{number:03}")
        assert await scene.round(await scene.watched()) == 200
        assert scene.transactions <= 5
        assert scene.status("vs-199")["state"] == "Accepted"
        assert await scene.round(await scene.watched()) == 0
        assert scene.transactions <= 5

    run(consul, root_key, scenario)


def test_json_stays_json(consul: ConsulAgent, root_key: str) -> None:
    """An object in JSON is JSON afterwards, in one line or in several as it was; glooctl writes both."""

    async def scenario(scene: Scene) -> None:
        document = {"metadata": {"name": "x", "namespace": NAMESPACE}, "virtualHost": {"domains": ["ä.com"]}}
        for name, text in (
            ("line", json.dumps(document).replace('"x"', '"line"')),
            ("lines", json.dumps(document, indent=2).replace('"x"', '"lines"')),
        ):
            scene.put(name, text)
        assert await scene.round(await scene.watched()) == 2
        for name, lines in (("line", False), ("lines", True)):
            value = (consul.get(scene.key(name)) or b"").decode()
            found = json.loads(value)
            assert found.pop("namespacedStatuses")["statuses"][NAMESPACE]["state"] == "Accepted"
            assert found["virtualHost"] == document["virtualHost"]
            assert ("\n" in value.strip()) is lines

    run(consul, root_key, scenario)


def test_other_reporters_stay(consul: ConsulAgent, root_key: str) -> None:
    """Only the own status is replaced; a writer that reports under another name writes another one."""

    async def scenario(scene: Scene) -> None:
        scene.put(
            "a",
            f"metadata: {{name: a, namespace: {NAMESPACE}}}\n"
            "namespacedStatuses: {statuses: {other: {state: 2, reason: theirs}, gloo-system: {state: 0}}}\n",
        )
        assert await scene.round(await scene.watched()) == 1
        assert scene.stored("a")["namespacedStatuses"]["statuses"] == {
            "other": {"state": 2, "reason": "theirs"},
            NAMESPACE: {"state": "Accepted", "reportedBy": "gloo"},
        }
        assert await scene.round(await scene.watched()) == 0
        scene.writer.report_as("edge")
        assert await scene.round(await scene.watched()) == 1
        assert sorted(scene.stored("a")["namespacedStatuses"]["statuses"]) == ["edge", NAMESPACE, "other"]

    run(consul, root_key, scenario)


@pytest.mark.parametrize(
    "text",
    [
        "metadata: [}",
        "",
        "just text",
        "[1, 2]",
        f"metadata: {{name: bad, namespace: {NAMESPACE}}}\nnamespacedStatuses: [1]\n",
        f"metadata: {{name: bad, namespace: {NAMESPACE}}}\nnamespacedStatuses: {{statuses: {{gloo-system: [3]}}}}\n",
    ],
)
def test_texts_that_hold_no_status(consul: ConsulAgent, root_key: str, text: str) -> None:
    """What is no document is tried once and then left alone until it changes; what is one gets its status."""

    async def scenario(scene: Scene) -> None:
        scene.put("bad", text)
        written = await scene.round(await scene.watched(), {"bad": rejected("broken")})
        entries = await scene.watched()
        assert await scene.round(entries, {"bad": rejected("broken")}) == 0
        reads: list[str] = []
        original = scene.client.kv_get

        async def counting(key: str, *more: Any) -> Any:
            reads.append(key)
            return await original(key, *more)

        scene.client.kv_get = counting  # type: ignore[assignment,method-assign]
        assert await scene.round(entries, {"bad": rejected("broken")}) == 0
        assert reads == []
        assert (consul.get(scene.key("bad")) == text.encode()) is (written == 0)

        scene.put("bad")
        assert await scene.round(await scene.watched(), {"bad": rejected("mended")}) == 1

    run(consul, root_key, scenario)


def test_a_key_that_no_client_can_name(consul: ConsulAgent, root_key: str) -> None:
    """A key with an empty part, which only a transaction can write, gets no status and stops nobody else's."""

    async def scenario(scene: Scene) -> None:
        scene.put("good")
        entries = await scene.watched()
        for name in ("/x", "..", "a//b"):
            entries[ObjectRef("VirtualService", NAMESPACE, name)] = Entry(None, version=3)
        assert await scene.round(entries) == 1
        assert await scene.round(await scene.watched()) == 0

    run(consul, root_key, scenario)


def test_a_value_that_would_be_too_large(consul: ConsulAgent, root_key: str) -> None:
    """An object that fills its key leaves no room for a status: it stays as it is, others get theirs."""

    async def scenario(scene: Scene) -> None:
        head = f"metadata: {{name: big, namespace: {NAMESPACE}}}\ndisplayName: "
        scene.put("big", head + "x" * (512 * 1024 - len(head)))
        scene.put("small")
        assert await scene.round(await scene.watched()) == 1
        assert "namespacedStatuses" not in scene.stored("big")

    run(consul, root_key, scenario)


def test_memory_follows_the_objects(consul: ConsulAgent, root_key: str) -> None:
    """What is gone is forgotten."""

    async def scenario(scene: Scene) -> None:
        for number in range(5):
            scene.put(f"a{number}")
        await scene.round(await scene.watched())
        await scene.round(await scene.watched())
        consul.delete(f"{scene.root}/", recurse=True)
        await scene.round(await scene.watched())
        assert not scene.writer.done

    run(consul, root_key, scenario)


def test_a_consul_that_started_anew(new_consul: Callable[..., ConsulAgent], free_port: Callable[[], int]) -> None:
    """After Consul lost its data, its indexes are small again: statuses are written all the same."""
    port = free_port()
    agent = new_consul(port=port)

    async def scenario(scene: Scene) -> None:
        for _ in range(20):
            scene.put("a")
        assert await scene.round(await scene.watched()) == 1
        old = (await scene.watched())[ObjectRef("VirtualService", NAMESPACE, "a")].version
        agent.stop()
        await asyncio.to_thread(new_consul, port=port)
        scene.put("a")
        entries = await scene.watched()
        assert [ref.name for ref in entries] == ["a"]
        assert entries[ObjectRef("VirtualService", NAMESPACE, "a")].version < old
        assert await scene.round(entries) == 1
        assert scene.status("a")["state"] == "Accepted"

    run(agent, "gloo", scenario)
