"""The REST API over real HTTP, on a folder and on a real Consul."""

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.frontdoor import reading
from gloo_nomad.frontdoor.access import TOKENS, tokens_of
from gloo_nomad.frontdoor.api import FrontDoor, build_app
from gloo_nomad.frontdoor.documents import parse_documents
from gloo_nomad.frontdoor.folder_objects import FolderObjects
from gloo_nomad.frontdoor.kv_objects import KvObjects
from gloo_nomad.frontdoor.objects import ObjectStore
from gloo_nomad.frontdoor.overlay import lay_over
from gloo_nomad.frontdoor.pages import openapi
from gloo_nomad.frontdoor.validation import MAX_WAITING, Validator
from gloo_nomad.pipeline import Pipeline
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.serving import serving
from gloo_nomad.store.snapshot import ConfigSnapshot

pytestmark = pytest.mark.consul
VS = "/v1/objects/VirtualService"
EMPTY = ConfigSnapshot()
Fetch = Callable[..., Any]
Stores = Callable[[], contextlib.AbstractAsyncContextManager[ObjectStore]]


def virtual_service(name: str = "a", domain: str = "a.example.com", **more: Any) -> dict[str, Any]:
    """A virtual service that answers by itself."""
    route = {"matchers": [{"prefix": "/"}], "directResponseAction": {"status": 200, "body": "hello"}}
    return {
        "metadata": {"namespace": "gloo-system", "name": name},
        "virtualHost": {"domains": [domain], "routes": [route]},
        **more,
    }


def unique_domains(snapshot: ConfigSnapshot, _: settings_pb2.Settings) -> Problems:
    """A small translation: a domain belongs to one virtual service; a display name is a warning."""
    owners: dict[str, list[Any]] = {}
    problems: list[Problem] = []
    for ref, message in snapshot.of(VIRTUAL_SERVICE.name).items():
        target = VIRTUAL_SERVICE.object_ref(ref)
        if message.display_name:
            problems.append(Problem(Severity.WARNING, target, "displayName", "is for people only"))
        for domain in message.virtual_host.domains:
            owners.setdefault(domain, []).append(target)
    for domain, targets in owners.items():
        if len(targets) > 1:
            problems += [Problem(Severity.ERROR, one, "virtualHost.domains", f"{domain} is taken") for one in targets]
    return tuple(problems)


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


@contextlib.asynccontextmanager
async def served(store: ObjectStore, snapshot: ConfigSnapshot = EMPTY, **more: Any) -> AsyncIterator[Fetch]:
    """The API on a free port, and a function that sends a request: status, headers, and the decoded body."""
    validator = Validator(lambda: (snapshot, settings_pb2.Settings()), more.pop("translate", unique_domains))
    door = FrontDoor(store, more.pop("validate", validator.validate), **more)
    async with (
        serving(build_app(door), "127.0.0.1", 0, "the front door") as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):

        async def fetch(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
            data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            if isinstance(data, bytes):
                data = io.BytesIO(data)
            async with session.request(method, path, data=data, headers=named) as answer:
                text = await answer.text()
                decoded = json.loads(text) if answer.content_type == "application/json" else text
                return answer.status, answer.headers, decoded

        yield fetch


def snapshot_of(*objects: dict[str, Any]) -> ConfigSnapshot:
    """A configuration in service."""
    documents = [parse_documents(json.dumps(written).encode(), "x")[0] for written in objects]
    assert all(document.message is not None for document in documents)
    return lay_over(ConfigSnapshot(), documents)


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


BAD_BODIES: Sequence[tuple[Any, int, str]] = [
    (b"", 422, "the value is empty"),
    (b"\xff\xfe", 422, ""),
    (b"a: [", 422, "not valid YAML"),
    (virtual_service("b"), 422, "says gloo-system.b, but the object is stored as gloo-system.a"),
    (virtual_service(virtualHosts={}), 422, "unknown field"),
    ([virtual_service(), virtual_service("b")], 400, ""),
    ({**virtual_service(), "metadata": {"name": "a"}}, 422, "is required"),
    (virtual_service(displayName="x" * 600_000), 413, ""),
    (b"x" * 1_100_000, 413, ""),
]


@pytest.mark.parametrize(("body", "status", "message"), BAD_BODIES)
def test_bad_bodies(tmp_path: Path, body: Any, status: int, message: str) -> None:
    """What is no such object is refused in the one shape of errors, and nothing is written."""

    async def scenario() -> None:
        async with served(FolderObjects(tmp_path)) as fetch:
            answered, _, answer = await fetch("PUT", f"{VS}/gloo-system/a", body)
            assert answered == status
            assert set(answer) == {"error", "problems"}
            if message:
                assert message in answer["problems"][0]["message"]
                assert answer["problems"][0]["name"] == "a"

    asyncio.run(scenario())
    assert list(tmp_path.iterdir()) == []


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


def test_yaml(tmp_path: Path) -> None:
    """YAML goes in and comes out."""

    async def scenario() -> None:
        async with served(FolderObjects(tmp_path)) as fetch:
            body = yaml.safe_dump(virtual_service()).encode()
            assert (await fetch("PUT", f"{VS}/gloo-system/a", body))[0] == 201
            _, headers, text = await fetch("GET", f"{VS}/gloo-system/a", Accept="application/yaml")
            assert headers["Content-Type"].startswith("application/yaml")
            assert yaml.safe_load(text)["virtualHost"]["domains"] == ["a.example.com"]
            written = (tmp_path / "virtualservices/gloo-system/a.yaml").read_text()
            assert yaml.safe_load(written)["virtualHost"]["domains"] == ["a.example.com"]

    asyncio.run(scenario())


def test_validate() -> None:
    """Many documents at once: each with its problems, then those that others would get."""

    async def scenario() -> None:
        door = served(FolderObjects(Path("/nonexistent")), snapshot_of(virtual_service("other", "b.example.com")))
        async with door as fetch:
            documents = [virtual_service("a"), virtual_service("b", "b.example.com"), {"metadata": {}, "routes": 3}]
            status, _, answer = await fetch("POST", "/v1/validate", documents)
            assert status == 200
            assert answer["accepted"] is False
            assert [(found["name"], found["accepted"]) for found in answer["objects"]] == [
                ("a", True),
                ("b", False),
                ("?", False),
            ]
            assert answer["objects"][1]["origin"] == "body, document 2"
            assert answer["objects"][2]["kind"] == "RouteTable"
            assert [found["name"] for found in answer["others"]] == ["other"]
            status, _, answer = await fetch("POST", "/v1/validate", virtual_service())
            assert answer["accepted"] is True

    asyncio.run(scenario())


def test_validate_twice_the_same() -> None:
    """One object twice in a body is an error: only one of them could be meant."""

    async def scenario() -> None:
        async with served(FolderObjects(Path("/nonexistent"))) as fetch:
            _, _, answer = await fetch("POST", "/v1/validate", [virtual_service(), virtual_service()])
            assert answer["accepted"] is False
            message = answer["objects"][0]["problems"][0]["message"]
            assert message == "is in body, document 1 and again in body, document 2; keep one of them"

    asyncio.run(scenario())


def test_pipeline_validates() -> None:
    """With the real translation: a missing upstream is a warning, a bad regular expression an error."""

    async def scenario() -> None:
        pipeline = Pipeline()

        def translate(snapshot: ConfigSnapshot, settings: settings_pb2.Settings) -> Problems:
            return pipeline.translate(snapshot, settings).problems

        gateway = {"metadata": {"namespace": "gloo-system", "name": "gw"}, "bindPort": 8080, "httpGateway": {}}
        door = served(FolderObjects(Path("/nonexistent")), snapshot_of(gateway), translate=translate)
        async with door as fetch:
            action = {"single": {"upstream": {"namespace": "gloo-system", "name": "missing"}}}
            warned = virtual_service("w")
            warned["virtualHost"]["routes"] = [{"matchers": [{"prefix": "/"}], "routeAction": action}]
            rejected = virtual_service("r", "r.example.com")
            rejected["virtualHost"]["routes"][0]["matchers"] = [{"regex": "("}]
            _, _, answer = await fetch("POST", "/v1/validate", [warned, rejected, virtual_service("ok", "ok")])
            severities = [{found["severity"] for found in one["problems"]} for one in answer["objects"]]
            assert severities == [{"warning"}, {"error"}, set()]
            assert "regex" in answer["objects"][1]["problems"][0]["path"]

    asyncio.run(scenario())


def test_tokens(tmp_path: Path) -> None:
    """With tokens in the environment every request for objects needs one; health and description do not."""

    async def scenario() -> None:
        authorize = tokens_of({TOKENS: "first, second"})
        async with served(FolderObjects(tmp_path), authorize=authorize) as fetch:
            for header in ("", "Basic first", "Bearer", "Bearer third", "Bearer firs"):
                headers = {"Authorization": header} if header else {}
                status, answered, answer = await fetch("GET", VS, **headers)
                assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
                assert "token" in answer["error"]
                assert "first" not in answer["error"]
            assert (await fetch("GET", VS, Authorization="Bearer second"))[0] == 200
            assert (await fetch("PUT", f"{VS}/gloo-system/a", virtual_service()))[0] == 401
            for path in ("/healthz", "/openapi.json", "/docs"):
                assert (await fetch("GET", path))[0] == 200

    asyncio.run(scenario())


def test_tokens_are_not_shown() -> None:
    """The list of tokens does not print them."""
    assert "canary" not in repr(tokens_of({TOKENS: "canary"}))


def test_not_ready(tmp_path: Path) -> None:
    """Before the configuration is known nothing is validated; reading works, and so does force."""

    async def scenario() -> None:
        async with served(FolderObjects(tmp_path), ready=lambda: False) as fetch:
            for method, path in (("POST", "/v1/validate"), ("PUT", f"{VS}/gloo-system/a")):
                status, headers, answer = await fetch(method, path, virtual_service())
                assert (status, headers["Retry-After"]) == (503, "2")
                assert "try again" in answer["error"]
            assert (await fetch("GET", VS))[0] == 200
            assert (await fetch("PUT", f"{VS}/gloo-system/a?force=true", virtual_service()))[0] == 201

    asyncio.run(scenario())


def test_consul_gone(free_port: Callable[[], int]) -> None:
    """A store that cannot be reached is 503 and says which."""

    async def scenario() -> None:
        client = ConsulClient(ConsulOptions(parse_address(f"127.0.0.1:{free_port()}", 8500)))
        async with served(KvObjects(client, "gloo")) as fetch:
            for method in ("GET", "DELETE"):
                status, _, answer = await fetch(method, f"{VS}/gloo-system/a")
                assert status == 503
                assert "Consul" in answer["error"]
        await client.close()

    asyncio.run(scenario())


def test_slow_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not end is given up after a while."""
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.2)

    async def scenario() -> None:
        async def dripping() -> AsyncIterator[bytes]:
            yield b"metadata:"
            await asyncio.sleep(5)

        async with served(FolderObjects(tmp_path)) as fetch:
            status, _, answer = await fetch("POST", "/v1/validate", dripping())
            assert status == 408
            assert "did not arrive" in answer["error"]

    asyncio.run(scenario())


def test_too_many_validations(tmp_path: Path) -> None:
    """Validations run one at a time; so many may wait, more are turned away at once."""

    async def scenario() -> None:
        running: list[int] = []
        most = 0

        def slow(snapshot: ConfigSnapshot, settings: settings_pb2.Settings) -> Problems:
            nonlocal most
            import time

            running.append(1)
            most = max(most, len(running))
            time.sleep(0.05)
            running.pop()
            return ()

        async with served(FolderObjects(tmp_path), translate=slow) as fetch:
            posts = [fetch("POST", "/v1/validate", virtual_service()) for _ in range(MAX_WAITING + 10)]
            statuses = [status for status, _, _ in await asyncio.gather(*posts)]
            assert statuses.count(200) >= MAX_WAITING
            assert statuses.count(503) >= 1
            assert set(statuses) == {200, 503}
            assert most == 1

    asyncio.run(scenario())


def test_defect(tmp_path: Path) -> None:
    """A failure that nobody foresaw is an error of the same shape, and the server goes on."""

    async def scenario() -> None:
        async def broken(*_: Any) -> Problems:
            raise RuntimeError("canary")

        async with served(FolderObjects(tmp_path), validate=broken) as fetch:
            status, _, answer = await fetch("POST", "/v1/validate", virtual_service())
            assert status == 500
            assert set(answer) == {"error", "problems"}
            assert "canary" not in answer["error"]
            assert (await fetch("GET", VS))[0] == 200

    asyncio.run(scenario())


def test_description_names_all_routes(tmp_path: Path) -> None:
    """The OpenAPI document and the routes are the same set, and every reference in it leads somewhere."""
    app = build_app(
        FrontDoor(FolderObjects(tmp_path), Validator(lambda: (EMPTY, settings_pb2.Settings()), unique_domains).validate)
    )
    routes = {
        (getattr(route, "path", ""), method.lower())
        for route in app.routes
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    described = openapi()
    documented = {
        (path, method) for path, item in described["paths"].items() for method in item if method != "parameters"
    }
    assert documented == routes
    assert described["openapi"].startswith("3.1")
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(described)):
        target: Any = described
        for part in reference.split("/"):
            target = target[part]
    for path, item in described["paths"].items():
        declared = [parameter["$ref"].rpartition("/")[2] for parameter in item.get("parameters", ())]
        assert declared == re.findall(r"{(\w+)}", path)


def test_docs_page(tmp_path: Path) -> None:
    """The page names every operation."""

    async def scenario() -> None:
        async with served(FolderObjects(tmp_path)) as fetch:
            text = (await fetch("GET", "/docs"))[2]
            assert "PUT    /v1/objects/{kind}/{namespace}/{name}" in text
            assert (await fetch("GET", "/openapi.json"))[2] == openapi()

    asyncio.run(scenario())
