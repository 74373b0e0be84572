"""Objects over the REST API, on a folder and on a real Consul."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.frontdoor.documents import parse_documents
from gloo_nomad.frontdoor.folder_objects import FolderObjects
from gloo_nomad.frontdoor.kv_objects import KvObjects
from gloo_nomad.frontdoor.objects import ObjectStore
from tests.frontdoor_world import VS, Stores, served, snapshot_of, virtual_service

pytestmark = pytest.mark.consul


@pytest.fixture(params=["folder", "consul"])
def stores(request: pytest.FixtureRequest, tmp_path: Path, consul: ConsulAgent, root_key: str) -> Stores:
    """Opens a store of each sort."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[ObjectStore]:
        if request.param == "folder":
            yield FolderObjects(tmp_path)
            return
        client = ConsulClient(ConsulOptions(parse_address(consul.address, 8500)))
        try:
            yield KvObjects(client, root_key)
        finally:
            await client.close()

    return opened


def test_life_of_an_object(stores: Stores) -> None:
    """Create, read, list, change by version, delete."""

    async def scenario() -> None:
        async with stores() as store, served(store) as fetch:
            assert (await fetch("GET", f"{VS}/gloo-system/a"))[0] == 404
            assert (await fetch("GET", VS))[2] == {"items": [], "problems": []}
            status, headers, body = await fetch("PUT", f"{VS}/gloo-system/a", virtual_service())
            assert (status, body["created"], body["changed"], body["problems"]) == (201, True, True, [])
            assert headers["ETag"] == f'"{body["version"]}"'
            status, headers, read = await fetch("GET", f"{VS}/gloo-system/a")
            assert status == 200
            assert headers["ETag"] == f'"{body["version"]}"'
            assert read["metadata"]["resourceVersion"] == body["version"]
            assert read["virtualHost"]["domains"] == ["a.example.com"]
            for path in (VS, f"{VS}/gloo-system", "/v1/objects/vs/gloo-system", "/v1/objects/virtualservices"):
                assert (await fetch("GET", path))[2]["items"] == [read]
            assert (await fetch("GET", f"{VS}/gloo"))[2]["items"] == []  # a neighbour whose name begins the same
            read["virtualHost"]["domains"] = ["b.example.com"]
            status, _, changed = await fetch("PUT", f"{VS}/gloo-system/a", read)
            assert (status, changed["created"], changed["changed"]) == (200, False, True)
            status, _, again = await fetch("PUT", f"{VS}/gloo-system/a", virtual_service(domain="b.example.com"))
            assert (status, again["changed"], again["version"]) == (200, False, changed["version"])
            assert (await fetch("DELETE", f"{VS}/gloo-system/a"))[0] == 204
            assert (await fetch("DELETE", f"{VS}/gloo-system/a"))[0] == 404

    asyncio.run(scenario())


def test_compare_and_set(stores: Stores) -> None:
    """A stale version changes nothing, by header or in the object; the answer says the version that is stored."""

    async def scenario() -> None:
        async with stores() as store, served(store) as fetch:
            path = f"{VS}/gloo-system/a"
            first = (await fetch("PUT", path, virtual_service(), If_None_Match="*"))[2]["version"]
            assert (await fetch("PUT", path, virtual_service(), If_None_Match="*"))[0] == 412
            second = (await fetch("PUT", path, virtual_service(domain="b"), If_Match=f'"{first}"'))[2]["version"]
            assert second != first
            stale = virtual_service(domain="c")
            stale["metadata"]["resourceVersion"] = first
            for attempt in (
                await fetch("PUT", path, virtual_service(domain="c"), If_Match=f'"{first}"'),
                await fetch("PUT", path, stale),
                await fetch("DELETE", path, If_Match=f'"{first}"'),
            ):
                status, headers, body = attempt
                assert (status, headers["ETag"]) == (412, f'"{second}"')
                assert "read it again and repeat the change" in body["error"]
                assert body["problems"] == []
            assert (await fetch("GET", path))[2]["virtualHost"]["domains"] == ["b"]
            assert (await fetch("PUT", path, virtual_service(domain="c"), If_Match="*"))[0] == 200
            current = (await fetch("GET", path))[1]["ETag"]
            assert (await fetch("DELETE", path, If_Match=current))[0] == 204
            assert (await fetch("PUT", path, virtual_service(), If_Match=current))[0] == 412

    asyncio.run(scenario())


def test_race(consul: ConsulAgent, root_key: str) -> None:
    """Of twelve writers who all create the same object one does, and the others are told."""

    async def scenario() -> None:
        client = ConsulClient(ConsulOptions(parse_address(consul.address, 8500)))
        async with served(KvObjects(client, root_key)) as fetch:
            path = f"{VS}/gloo-system/a"
            bodies = [virtual_service(domain=f"d{number}") for number in range(12)]
            answers = await asyncio.gather(*(fetch("PUT", path, body, If_None_Match="*") for body in bodies))
            assert sorted(status for status, _, _ in answers) == [201] + [412] * 11
            (winner,) = [number for number, (status, _, _) in enumerate(answers) if status == 201]
            assert (await fetch("GET", path))[2]["virtualHost"]["domains"] == [f"d{winner}"]
        await client.close()

    asyncio.run(scenario())


def test_statuses_stay(stores: Stores) -> None:
    """A write keeps the statuses of the stored object and takes none from the body."""

    async def scenario() -> None:
        async with stores() as store, served(store) as fetch:
            path = f"{VS}/gloo-system/a"
            stored = {"statuses": {"gloo-system": {"state": "Accepted", "reportedBy": "gloo"}}}
            text = json.dumps(virtual_service(namespacedStatuses=stored)).encode()
            document = parse_documents(text, "x")[0]
            await store.put_object(VIRTUAL_SERVICE, document.ref.ref, text, "0")
            forged = {"statuses": {"gloo-system": {"state": "Rejected"}}}
            assert (await fetch("PUT", path, virtual_service(domain="b", namespacedStatuses=forged)))[0] == 200
            read = (await fetch("GET", path))[2]
            assert read["namespacedStatuses"] == stored
            assert read["virtualHost"]["domains"] == ["b"]

    asyncio.run(scenario())


def test_errors_are_refused(stores: Stores) -> None:
    """An object with errors is not written, with what is wrong on it and on others; force writes it all the same."""

    async def scenario() -> None:
        async with stores() as store, served(store, snapshot_of(virtual_service("other"))) as fetch:
            path = f"{VS}/gloo-system/a"
            status, _, body = await fetch("PUT", path, virtual_service())
            assert status == 422
            assert "?force=true" in body["error"]
            assert {(found["name"], found["severity"]) for found in body["problems"]} == {
                ("a", "error"),
                ("other", "error"),
            }
            assert (await fetch("GET", path))[0] == 404
            status, _, body = await fetch("PUT", f"{path}?force=true", virtual_service())
            assert status == 201
            assert len(body["problems"]) == 2

    asyncio.run(scenario())


def test_warnings_are_told(stores: Stores) -> None:
    """An object with warnings is written, and they are in the answer."""

    async def scenario() -> None:
        async with stores() as store, served(store) as fetch:
            status, _, body = await fetch("PUT", f"{VS}/gloo-system/a", virtual_service(displayName="x"))
            assert status == 201
            assert [found["path"] for found in body["problems"]] == ["displayName"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/objects/Nothing", 404),
        ("/v1/objects/Secret", 404),
        ("/v1/objects/Endpoint/x", 404),
        ("/v2", 404),
        (f"{VS}/..%2f..%2fetc/passwd", 404),
        (f"{VS}/%2e%2e/a", 404),
        (f"{VS}/*/a", 404),
        (f"{VS}/a%00b/c", 404),
    ],
)
def test_bad_paths(stores: Stores, path: str, status: int) -> None:
    """Kinds that are not stored and names that are none lead nowhere."""

    async def scenario() -> None:
        async with stores() as store, served(store) as fetch:
            answered, _, answer = await fetch("GET", path)
            assert answered == status
            assert set(answer) == {"error", "problems"}

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a" * 253 + "b"])
def test_bad_names_are_not_written(stores: Stores, name: str) -> None:
    """An object is only written under a DNS name, as the reference does."""

    async def scenario() -> None:
        async with stores() as store, served(store) as fetch:
            status, _, answer = await fetch("PUT", f"{VS}/gloo-system/{name}", virtual_service(name))
            assert status == (422 if len(name) <= 253 else 404)
            assert answer["error"]
            assert (await fetch("GET", VS))[2] == {"items": [], "problems": []}

    asyncio.run(scenario())


def test_stored_garbage(stores: Stores) -> None:
    """A stored value that is no object is listed as a problem, shown raw on request, and can be replaced."""

    async def scenario() -> None:
        async with stores() as store, served(store) as fetch:
            path = f"{VS}/gloo-system/a"
            ref = parse_documents(json.dumps(virtual_service()).encode(), "x")[0].ref.ref
            await store.put_object(VIRTUAL_SERVICE, ref, b"virtualHost: [", "0")
            listed = (await fetch("GET", VS))[2]
            assert listed["items"] == []
            assert [found["name"] for found in listed["problems"]] == ["a"]
            assert (await fetch("GET", path))[0] == 422
            assert (await fetch("GET", f"{path}?raw=true"))[2] == "virtualHost: ["
            assert (await fetch("PUT", path, virtual_service()))[0] == 200
            assert (await fetch("GET", path))[0] == 200

    asyncio.run(scenario())
