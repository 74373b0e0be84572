"""The admin pages over real HTTP."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from envoy.config.cluster.v3 import cluster_pb2

from gloo_nomad.admin.metrics import Metrics
from gloo_nomad.admin.server import build_app
from gloo_nomad.admin.view import AdminView, Client, SourceState
from gloo_nomad.api import codec, kinds
from gloo_nomad.api.gen import proxy_pb2, settings_pb2
from gloo_nomad.api.gen.http_listener_options_pb2 import HttpListenerOptions
from gloo_nomad.api.gen.listener_options_pb2 import ListenerOptions, RouteConfigurationOptions
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.messages import to_bytes
from gloo_nomad.proxies import HttpGroup, Listener, Proxy, VirtualHost
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.resources import CLUSTER, Resource, XdsSnapshot
from gloo_nomad.serving import ServingError, serving
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot
from gloo_nomad.xds.metrics import XdsMetrics

CANARY = "canary-7f3a91"
ROLE = "gloo-system~gateway-proxy"


@dataclass
class World:
    """What the pages are shown; a test changes it."""

    sources: list[SourceState] = field(default_factory=list)
    published: bool = True
    problems: tuple[Problem, ...] = ()
    clients: list[Client] = field(default_factory=list)
    level: str = "info"

    def view(self) -> AdminView:
        """The view of this world."""

        def set_level(name: str) -> None:
            if name not in {"debug", "info"}:
                raise ValueError(f"{name} is no level")
            self.level = name

        return AdminView(
            sources=lambda: self.sources,
            published=lambda: self.published,
            snapshot=lambda: SNAPSHOT,
            settings=lambda: SETTINGS,
            proxies=lambda: (PROXY,),
            xds=lambda: {ROLE: XDS},
            problems=lambda: self.problems,
            clients=lambda: self.clients,
            log_level=lambda: self.level,
            set_log_level=set_level,
        )


def _object(kind: kinds.Kind, fields: dict[str, Any]) -> Any:
    decoded = codec.decode(kind, json.dumps({"metadata": {"namespace": "ns", "name": "a"}, **fields}).encode())
    assert decoded.message is not None, decoded.rejection
    return decoded.message


SETTINGS = settings_pb2.Settings()
SETTINGS.consul.token = CANARY
SETTINGS.consul.http_address = "http://consul:8500"
SNAPSHOT = ConfigSnapshot(
    {
        "Secret": Collection({Ref("ns", "a"): _object(kinds.SECRET, {"header": {"headers": {"k": CANARY}}})}),
        "Upstream": Collection(
            {Ref("ns", "a"): _object(kinds.UPSTREAM, {"static": {"hosts": [{"addr": "echo", "port": 80}]}})}
        ),
    }
)
HOST = proxy_pb2.VirtualHost(name="ns.web", domains=["web.test"])
HOST.routes.add().direct_response_action.body = CANARY
WEB = VirtualHost.of(ObjectRef("VirtualService", "ns", "web"), HOST)
GROUP = HttpGroup(WEB.source, "routes", HttpListenerOptions(), (WEB,))
PROXY = Proxy(
    Ref("gloo-system", "gateway-proxy"),
    (Listener(WEB.source, "web", "::", 80, ListenerOptions(), RouteConfigurationOptions(), False, (GROUP,)),),
)
XDS = XdsSnapshot({CLUSTER: {"a_ns": Resource("a_ns", "1", to_bytes(cluster_pb2.Cluster(name="a_ns")))}})
Fetch = Callable[..., Any]


@contextlib.asynccontextmanager
async def served(world: World) -> AsyncIterator[tuple[Fetch, Metrics]]:
    """The pages on a free port, and a function that fetches one: status and body."""
    view = world.view()
    metrics = Metrics(view)
    async with (
        serving(build_app(view, metrics), "127.0.0.1", 0, "admin pages") as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):

        async def fetch(path: str, method: str = "GET", **options: Any) -> tuple[int, Any]:
            async with session.request(method, path, **options) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if "json" in answer.content_type else text

        yield fetch, metrics


def test_health() -> None:
    """The process is alive while a source fails, and says which one does."""

    async def scenario() -> None:
        world = World(sources=[SourceState("consul-kv", listed=True, error="connection refused", since=12.5)])
        async with served(world) as (fetch, _):
            status, body = await fetch("/healthz")
            assert status == 200
            assert body["status"] == "degraded"
            source = {"name": "consul-kv", "listed": True, "error": "connection refused", "since": 12.5}
            assert body["sources"] == [source]
            world.sources = [SourceState("consul-kv", listed=True)]
            assert (await fetch("/healthz"))[1]["status"] == "ok"

    asyncio.run(scenario())


def test_readiness() -> None:
    """Ready is who has heard every source once and published; a later failure changes nothing."""

    async def scenario() -> None:
        world = World(sources=[SourceState("consul-kv", listed=False)], published=False)
        async with served(world) as (fetch, _):
            waiting = {"ready": False, "waitingFor": ["consul-kv", "first configuration"]}
            assert await fetch("/readyz") == (503, waiting)
            world.sources = [SourceState("consul-kv", listed=True, error="gone")]
            assert (await fetch("/readyz"))[0] == 503
            world.published = True
            assert await fetch("/readyz") == (200, {"ready": True, "waitingFor": []})

    asyncio.run(scenario())


def test_snapshots_show_no_secret() -> None:
    """None of the snapshot pages shows a secret, and each shows its objects."""

    async def scenario() -> None:
        async with served(World()) as (fetch, _):
            for path, expected in (
                ("/snapshots/config", '"addr": "echo"'),
                ("/snapshots/proxies", "gloo-system.gateway-proxy"),
                ("/snapshots/proxies", '"domains": ["web.test"]'),
                ("/snapshots/xds", '"a_ns"'),
            ):
                status, body = await fetch(path)
                text = json.dumps(body)
                assert status == 200
                assert expected in text
                assert CANARY not in text
            assert (await fetch("/snapshots/config"))[1]["settings"]["consul"]["httpAddress"] == "http://consul:8500"

    asyncio.run(scenario())


def test_snapshots_are_filtered() -> None:
    """A kind, a name, a role and a type narrow a snapshot; what does not exist is 404 and says what does."""

    async def scenario() -> None:
        async with served(World()) as (fetch, _):
            only = (await fetch("/snapshots/config?kind=upstream"))[1]["objects"]
            assert list(only) == ["Upstream"]
            assert (await fetch("/snapshots/config?name=b"))[1]["objects"] == {"Secret": [], "Upstream": []}
            xds = (await fetch("/snapshots/xds", params={"role": ROLE, "type": "clusters", "name": "a_ns"}))[1]
            assert xds == {ROLE: {"clusters": {"a_ns": {"name": "a_ns"}}}}
            assert (await fetch("/snapshots/xds?type=routes"))[1] == {ROLE: {}}
            status, body = await fetch("/snapshots/xds?role=x")
            assert status == 404
            assert ROLE in body["error"]
            status, body = await fetch("/snapshots/config?kind=Nothing")
            assert status == 404
            assert "VirtualService" in body["error"]

    asyncio.run(scenario())


def test_problems_and_clients() -> None:
    """Problems and Envoys are listed as they are."""

    async def scenario() -> None:
        target = ObjectRef("VirtualService", "ns", "a")
        world = World(
            problems=(Problem(Severity.ERROR, target, "virtualHost", "is bad"),),
            clients=[Client("envoy-1", ROLE, "127.0.0.1:5", "delta", 1.0, (CLUSTER,), 2, "no such filter")],
        )
        async with served(world) as (fetch, _):
            assert (await fetch("/problems"))[1] == [
                {
                    "severity": "error",
                    "kind": "VirtualService",
                    "namespace": "ns",
                    "name": "a",
                    "path": "virtualHost",
                    "message": "is bad",
                }
            ]
            (client,) = (await fetch("/clients"))[1]
            assert client["types"] == ["clusters"]
            assert (client["nodeId"], client["nacks"], client["lastNack"]) == ("envoy-1", 2, "no such filter")

    asyncio.run(scenario())


def test_metrics() -> None:
    """Events and states are there, under our names and the reference's."""

    async def scenario() -> None:
        target = ObjectRef("VirtualService", "ns", "a")
        world = World(
            sources=[SourceState("consul-kv", listed=True, error="gone", since=5)],
            problems=(Problem(Severity.WARNING, target, "", "w"), Problem(Severity.ERROR, target, "", "e")),
            clients=[
                Client("envoy-1", ROLE, "127.0.0.1:5", "delta", 1.0, (), 1, "bad"),
                Client("evil", "role-that-nobody-has", "127.0.0.1:6", "sotw", 1.0),
            ],
        )
        async with served(world) as (fetch, metrics):
            metrics.translated(0.004)
            metrics.validated(False)
            status, text = await fetch("/metrics")
        assert status == 200
        for line in (
            "gloo_nomad_translation_seconds_count 1.0",
            "gloo_edge_translation_time_sec_count 1.0",
            'gloo_nomad_validations_total{result="rejected"} 1.0',
            'gloo_nomad_source_listed{source="consul-kv"} 1.0',
            'gloo_nomad_source_failing{source="consul-kv"} 1.0',
            'gloo_nomad_snapshot_objects{kind="Upstream"} 1.0',
            'gloo_nomad_config_status{kind="VirtualService",name="a",namespace="ns"} 2.0',
            'gloo_nomad_objects_with_problems{worst="error"} 1.0',
            "validation_gateway_solo_io_valid_config 0.0",
            f'gloo_nomad_served_resources{{role="{ROLE}",type="clusters"}} 1.0',
            'api_gloo_solo_io_translator_resources{proxy="gateway-proxy",resource="clusters"} 1.0',
            f'gloo_nomad_connected_envoys{{protocol="delta",role="{ROLE}"}} 1.0',
            'gloo_nomad_connected_envoys{protocol="sotw",role="unknown"} 1.0',
            f'gloo_nomad_rejecting_envoys{{role="{ROLE}"}} 1.0',
            "validation_gateway_solo_io_resources_rejected 1.0",
            "validation_gateway_solo_io_resources_accepted 0.0",
            "gloo_solo_io_namespaces_watched 0.0",
            "gloo_nomad_ready 1.0",
            'gloo_nomad_build_info{version="0.1.0"} 1.0',
        ):
            assert line in text.splitlines()
        assert "process_resident_memory_bytes" in text
        assert "role-that-nobody-has" not in text

    asyncio.run(scenario())


def test_registry_is_shared() -> None:
    """The xDS server's metrics fit into the same registry: no name is there twice."""
    metrics = Metrics(World(clients=[Client("e", ROLE, "127.0.0.1:5", "delta", 1.0)]).view())
    XdsMetrics(metrics.registry)
    families = re.findall(r"^# TYPE (\S+)", metrics.text().decode(), re.MULTILINE)
    assert len(families) == len(set(families))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b'{"level": 3}', b'{"level": "loud"}', b"\xff"])
def test_bad_level(body: bytes) -> None:
    """A level that is none is refused, and nothing changes."""

    async def scenario() -> None:
        world = World()
        async with served(world) as (fetch, _):
            status, answer = await fetch("/logging", "PUT", data=body)
            assert status == 400
            assert answer["error"]
            assert world.level == "info"

    asyncio.run(scenario())


def test_level() -> None:
    """The log level is read and changed; a body that is too large is refused."""

    async def scenario() -> None:
        world = World()
        async with served(world) as (fetch, _):
            assert await fetch("/logging") == (200, {"level": "info"})
            assert await fetch("/logging", "PUT", json={"level": "debug"}) == (200, {"level": "debug"})
            assert world.level == "debug"
            assert (await fetch("/logging", "PUT", data=b"x" * 5000))[0] == 413

    asyncio.run(scenario())


def test_index() -> None:
    """The first page names every other one, and shows what a source says without running it as HTML."""

    async def scenario() -> None:
        world = World(sources=[SourceState("consul-kv", listed=True, error="<script>")])
        async with served(world) as (fetch, _):
            _, page = await fetch("/")
            for path in ("/metrics", "/healthz", "/readyz", "/snapshots/xds", "/clients", "/problems", "/logging"):
                assert f'href="{path}"' in page
            assert "&lt;script&gt;" in page
            assert "<script>" not in page

    asyncio.run(scenario())


def test_other_paths_and_methods() -> None:
    """What is not there is 404, and nothing can be changed that is for reading."""

    async def scenario() -> None:
        async with served(World()) as (fetch, _):
            assert await fetch("/nothing") == (404, {"error": "Not Found"})
            assert (await fetch("/snapshots/config", "POST"))[0] == 405

    asyncio.run(scenario())


def test_taken_port() -> None:
    """A port in use is one clear line."""

    async def scenario() -> None:
        world = World()
        view = world.view()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ServingError) as failure:
                async with serving(build_app(view, Metrics(view)), "127.0.0.1", port, "admin pages"):
                    pass
        assert str(failure.value) == (
            f"admin pages cannot listen on 127.0.0.1:{port}: the port is taken by another process; "
            "stop that one, or choose another port"
        )

    asyncio.run(scenario())


def test_stop_frees_the_port() -> None:
    """After the block the port is free again, though a client kept its connection open."""

    async def scenario() -> None:
        view = World().view()
        async with serving(build_app(view, Metrics(view)), "127.0.0.1", 0, "admin pages") as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert await asyncio.wait_for(reader.read(), 5)  # the rest of the answer, then the end
        writer.close()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0

    asyncio.run(scenario())


def test_slow_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who never ends the headers of a request is disconnected, and others are served meanwhile."""
    monkeypatch.setattr("gloo_nomad.serving.HEADER_SECONDS", 0.2)

    async def scenario() -> None:
        view = World().view()
        async with serving(build_app(view, Metrics(view)), "127.0.0.1", 0, "admin pages") as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nx-slow: ")
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()

    asyncio.run(scenario())
