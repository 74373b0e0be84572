"""Validation, authorisation, bounds and the description of the REST API, over real HTTP."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from gloo_nomad import serving
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.frontdoor.access import TOKENS, tokens_of
from gloo_nomad.frontdoor.api import FrontDoor, build_app
from gloo_nomad.frontdoor.folder_objects import FolderObjects
from gloo_nomad.frontdoor.kv_objects import KvObjects
from gloo_nomad.frontdoor.pages import openapi
from gloo_nomad.frontdoor.validation import MAX_WAITING, Validator
from gloo_nomad.pipeline import Pipeline
from gloo_nomad.reports import Problems
from gloo_nomad.store.snapshot import ConfigSnapshot
from tests.frontdoor_world import EMPTY, VS, served, snapshot_of, unique_domains, virtual_service

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
        guard = tokens_of({TOKENS: "first, second"})
        async with served(FolderObjects(tmp_path), guard=guard) as fetch:
            for header in ("", "Basic first", "Bearer", "Bearer third", "Bearer firs"):
                headers = {"Authorization": header} if header else {}
                status, answered, answer = await fetch("GET", VS, **headers)
                assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
                assert "token" in answer["error"]
                assert "first" not in answer["error"]
            assert (await fetch("GET", VS, Authorization="Bearer second"))[0] == 200
            assert (await fetch("PUT", f"{VS}/gloo-system/a", virtual_service()))[0] == 401
            for path in ("/healthz", "/openapi.json", "/docs", "/"):
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
    monkeypatch.setattr(serving, "BODY_SECONDS", 0.2)

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
