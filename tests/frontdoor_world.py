"""A front door for tests: the REST API on a free port, with a small translation behind it."""

import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.frontdoor.api import FrontDoor, build_app
from gloo_nomad.frontdoor.documents import parse_documents
from gloo_nomad.frontdoor.objects import ObjectStore
from gloo_nomad.frontdoor.overlay import lay_over
from gloo_nomad.frontdoor.validation import Validator
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.serving import serving
from gloo_nomad.store.snapshot import ConfigSnapshot

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
