"""What limits, checks and copies do to requests: one real Envoy, and the servers that it asks."""

import queue
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, start_envoy
from gloo_nomad.demo.fetch import Answer, Connection, fetch
from gloo_nomad.demo.ports import free_port
from tests.envoy_validate import build_bootstrap
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, run_pipeline
from tests.pipeline.policy_servers import SECONDS, CopyServer, PolicyServer
from tests.wasm_module import build_module

NAMESPACE = "gloo-system"
ONE_A_MINUTE = {"maxTokens": 1, "fillInterval": "60s"}
CHECKED = {"extauth": {"customAuth": {"contextExtensions": {"realm": "shop"}}}}
ECHO = {"upstream": {"name": "echo", "namespace": NAMESPACE}}
COPIED = {"upstream": {"name": "copies", "namespace": NAMESPACE}, "percentage": 100}
PROCESSED = {
    "grpcService": {"extProcServerRef": {"name": "policies", "namespace": NAMESPACE}},
    "messageTimeout": "5s",
}
ROUTES: Mapping[str, Mapping[str, Any]] = {
    "/one-a-minute": {"options": {"ratelimit": {"localRatelimit": ONE_A_MINUTE}}},
    "/counted": {
        "options": {
            "ratelimit": {
                "includeVhRateLimits": True,
                "rateLimits": [
                    {
                        "actions": [
                            {"genericKey": {"descriptorValue": "shop"}},
                            {"requestHeaders": {"headerName": "x-plan", "descriptorKey": "plan"}},
                        ]
                    }
                ],
            }
        }
    },
    "/checked": {"options": CHECKED},
    "/half-checked": {
        "routeAction": {
            "multi": {
                "destinations": [
                    {"destination": ECHO, "weight": 1, "options": CHECKED},
                    {"destination": ECHO, "weight": 0},
                ]
            }
        }
    },
    "/unenforced": {"options": {"rbac": {"policies": {"admins": {}}}}},
    "/copied": {"options": {"shadowing": COPIED}},
    "/shadowed-as": {"options": {"shadowing": {**COPIED, "hostRewriteLiteral": "copy.example.com"}}},
    "/shadowed-alike": {"options": {"shadowing": {**COPIED, "disableShadowHostSuffixAppend": True}}},
    "/not-from-here": {"options": {"extensions": {"configs": {"ipAccess": {"deny": ["127.0.0.0/8"]}}}}},
    "/from-here": {"options": {"extensions": {"configs": {"ipAccess": {"allow": ["127.0.0.0/8", "::1"]}}}}},
    "/from-elsewhere": {"options": {"extensions": {"configs": {"ipAccess": {"allow": ["192.0.2.0/24"]}}}}},
    "/unprocessed": {"options": {"extProcEarly": {"disabled": True}}},
    "/": {},
}
GATEWAYS: Mapping[str, Mapping[str, Any]] = {
    "main": {"statefulSession": {"headerBased": {"headerName": "x-session-host"}}},
    "limited": {
        "httpLocalRatelimit": {"defaultLimit": {**ONE_A_MINUTE, "maxTokens": 2}, "enableXRatelimitHeaders": True}
    },
    "by-cookie": {"statefulSession": {"cookieBased": {"cookie": {"name": "host", "path": "/", "ttl": "60s"}}}},
    "each-connection": {
        "httpLocalRatelimit": {"defaultLimit": ONE_A_MINUTE, "localRateLimitPerDownstreamConnection": True}
    },
    "processed-late": {"extProcLate": {**PROCESSED, "requestAttributes": ["request.path"]}},
    "watched": {"extProcLate": {**PROCESSED, "asyncMode": True}},
    "one-connection": {"connectionLimit": {"maxActiveConnections": 1}},
    "few-connections": {"networkLocalRatelimit": ONE_A_MINUTE},
    "processed": {"extProcEarly": PROCESSED},
    "unanswered": {"extProc": {"grpcService": {"extProcServerRef": {"name": "nowhere", "namespace": NAMESPACE}}}},
    "by-http": {
        "extauth": {
            "extauthzServerRef": {"name": "echo", "namespace": NAMESPACE},
            "httpService": {
                "request": {"allowedHeaders": ["x-asked"], "headersToAdd": {"x-gateway": "shop"}},
                "response": {"allowedUpstreamHeaders": ["server"]},
            },
        }
    },
}
PROTECTED = {
    "metadata": {"name": "protected"},
    "virtualHost": {
        "domains": ["protected.example.com"],
        "options": CHECKED,
        "routes": [{"matchers": [{"prefix": "/open"}], "options": {"extauth": {"disable": True}}}, {}],
    },
}
SETTINGS = {
    "extauth": {
        "extauthzServerRef": {"name": "policies", "namespace": NAMESPACE},
        "requestTimeout": "5s",
        "userIdHeader": "x-checked",
    },
    "ratelimitServer": {
        "ratelimitServerRef": {"name": "policies", "namespace": NAMESPACE},
        "requestTimeout": "5s",
        "denyOnFail": True,
    },
}


@dataclass(frozen=True)
class World:
    """A running Envoy with a port for each gateway, and what it asks."""

    ports: Mapping[str, int]
    policies: PolicyServer
    copies: CopyServer
    envoy: Envoy

    def get(self, path: str, gateway: str = "main", host: str = "gateway.example.com", **headers: str) -> Answer:
        """One request; underscores in names of headers stand for dashes."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return fetch(self.ports[gateway], path, host=host, headers=sent)


def _objects(
    ports: Mapping[str, int], echoes: list[int], policies: int, copies: int, module: Path
) -> list[dict[str, Any]]:
    routes = [{"matchers": [{"prefix": prefix}], **route} for prefix, route in ROUTES.items()]
    limits: dict[str, Any] = {"ratelimit": {"rateLimits": [{"actions": [{"remoteAddress": {}}]}]}}
    kinds = {"stats": {"virtualClusters": [{"name": "items", "pattern": "/items/[0-9]+", "method": "GET"}]}}
    gateways = [
        {
            "kind": "Gateway",
            "metadata": {"name": name},
            "bindAddress": "127.0.0.1",
            "bindPort": ports[name],
            "httpGateway": {"options": options},
        }
        for name, options in GATEWAYS.items()
    ]
    code = {"kind": "Gateway", "metadata": {"name": "code"}, "bindAddress": "127.0.0.1", "bindPort": ports["code"]}
    hosts = [{"addr": "127.0.0.1", "port": port} for port in echoes]
    return [
        {"kind": "Gateway", "bindAddress": "127.0.0.1", "bindPort": ports["gateway-proxy"]},
        *gateways,
        {**code, "httpGateway": {"options": {"wasm": {"filters": [{"filePath": str(module)}]}}}},
        {"kind": "VirtualService", "virtualHost": {"routes": routes, "options": {**limits, **kinds}}},
        {"kind": "VirtualService", **PROTECTED},
        {"kind": "Upstream", "static": {"hosts": hosts}},
        {
            "kind": "Upstream",
            "metadata": {"name": "policies"},
            "useHttp2": True,
            "static": {"hosts": [{"addr": "127.0.0.1", "port": policies}]},
        },
        {
            "kind": "Upstream",
            "metadata": {"name": "copies"},
            "static": {"hosts": [{"addr": "127.0.0.1", "port": copies}]},
        },
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[World]:
    """An Envoy with all the gateways, and the servers that it asks."""
    folder = tmp_path_factory.mktemp("policies")
    ports = {name: free_port() for name in (*GATEWAYS, "gateway-proxy", "code")}
    policies, copies = PolicyServer(), CopyServer()
    server = policies.start()
    copies.start()
    echoes = [start_echo(folder, name=name) for name in ("one", "two")]
    module = folder / "add-header.wasm"
    module.write_bytes(build_module())
    objects = _objects(ports, [port for _, port in echoes], policies.port, copies.server_port, module)
    outcome = run_pipeline(fill_frame(objects), SETTINGS)
    bootstrap = json_format.MessageToDict(build_bootstrap(outcome.snapshots[ROLE]))
    envoy = start_envoy(folder, bootstrap, binary=envoy_binary, ready=True)
    yield World(ports, policies, copies, envoy)
    envoy.stop()
    for echo, _ in echoes:
        echo.stop()
    copies.shutdown()
    copies.server_close()
    server.stop(None).wait()


pytestmark = pytest.mark.envoy


def test_a_route_has_a_bucket_of_its_own(world: World) -> None:
    """The second request within a minute is refused; other routes are not concerned."""
    assert world.get("/one-a-minute").status == 200
    assert world.get("/one-a-minute").status == 429
    assert world.get("/").status == 200


def test_clients_do_not_say_who_they_are(world: World) -> None:
    """The header by which the server tells it is taken off, where the server is asked and where it is not."""
    forged = {"x_checked": "I am root", "x_user": "ann"}

    assert world.get("/checked", **forged).json()["headers"]["x-checked"] == "yes"
    assert "x-checked" not in world.get("/", **forged).json()["headers"]


def test_a_gateway_has_a_bucket_for_all_requests(world: World) -> None:
    """Answers tell how much is left in it, down to nothing."""
    answers = [world.get("/", "limited") for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]


def test_connections_above_the_limit_are_closed(world: World) -> None:
    """While one is open there is no second one."""
    with socket.create_connection(("127.0.0.1", world.ports["one-connection"]), timeout=SECONDS) as first:
        first.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert first.recv(12) == b"HTTP/1.1 200"
        assert not _is_served(world.ports["one-connection"])


def test_new_connections_take_tokens(world: World) -> None:
    """The second one within a minute is closed, though the first is closed already."""
    assert [_is_served(world.ports["few-connections"]) for _ in range(2)] == [True, False]


def _is_served(port: int) -> bool:
    try:
        return fetch(port, "/", timeout=SECONDS).status == 200
    except OSError:
        return False


def _drain(seen: "queue.Queue[Any]") -> None:
    """Forgets what other tests have sent."""
    while not seen.empty():
        seen.get_nowait()


def test_a_server_counts_requests(world: World) -> None:
    """It is asked with the route's and the virtual host's descriptors, and its answer is the client's 429."""
    _drain(world.policies.counted)

    assert world.get("/counted", x_plan="free").status == 429
    asked = world.policies.counted.get(timeout=SECONDS)
    entries = {tuple((entry.key, entry.value) for entry in descriptor.entries) for descriptor in asked.descriptors}

    assert asked.domain == "custom"
    assert entries == {(("generic_key", "shop"), ("plan", "free")), (("remote_address", "127.0.0.1"),)}
    assert world.get("/counted", x_plan="gold").status == 200


@pytest.mark.parametrize("path", ["/checked", "/half-checked"])
def test_a_server_decides_who_is_let_in(world: World, path: str) -> None:
    """On a route, or a weighted destination: its refusal is the answer, its headers go on to the upstream."""
    _drain(world.policies.checks)
    refused = world.get(path)
    seen = world.get(path, x_user="ann").json()["headers"]
    asked = world.policies.checks.get(timeout=SECONDS)

    assert (refused.status, refused.text) == (403, "who are you?")
    assert seen["x-checked"] == "yes"
    assert asked.attributes.context_extensions["realm"] == "shop"


def test_a_virtual_host_is_protected_but_for_what_is_opened(world: World) -> None:
    """Its routes need the check unless they switch it off, and other virtual hosts do not."""
    host = "protected.example.com"

    assert world.get("/", host=host).status == 403
    assert world.get("/", host=host, x_user="ann").status == 200
    assert world.get("/open", host=host).status == 200
    assert world.get("/").status == 200


def test_a_server_is_asked_by_http(world: World) -> None:
    """The gateway's own server answers by its status, and listed headers of its answer go on to the upstream."""
    assert world.get("/checked?status=401", "by-http").status == 401
    assert world.get("/checked", "by-http").json()["headers"]["server"].startswith("BaseHTTP")


def test_a_server_changes_requests(world: World) -> None:
    """Its header goes on to the upstream, but not on a route that does without."""
    assert world.get("/", "processed").json()["headers"]["x-processed"] == "yes"
    assert "x-processed" not in world.get("/unprocessed", "processed").json()["headers"]


def test_requests_fail_without_the_server_that_looks_at_them(world: World) -> None:
    """A server without an Upstream does not answer, and nothing goes past it."""
    assert world.get("/", "unanswered").status == 500


def test_code_of_ones_own_is_run(world: World) -> None:
    """A module from a file adds its header, on its own gateway only."""
    assert world.get("/", "code").json()["headers"]["x-wasm"] == "yes"
    assert "x-wasm" not in world.get("/").json()["headers"]


def test_what_cannot_be_enforced_is_not_served(world: World) -> None:
    """A route that asks for roles answers like any other invalid route."""
    assert world.get("/unenforced").status == 404


def test_requests_are_copied(world: World) -> None:
    """The upstream and the other one get the same request; the copy's host says what it is."""
    _drain(world.copies.seen)

    assert world.get("/copied/a?b=c").status == 200
    path, headers = world.copies.seen.get(timeout=SECONDS)
    assert path == "/copied/a?b=c"
    assert headers["host"] == "gateway.example.com-shadow"
    assert world.get("/").status == 200
    with pytest.raises(queue.Empty):
        world.copies.seen.get(timeout=0.2)


def test_copies_go_to_the_host_that_is_named(world: World) -> None:
    """One of their own, or that of the request without a suffix."""
    hosts = {}
    for path in ("/shadowed-as", "/shadowed-alike"):
        assert world.get(path).status == 200
        copied, headers = world.copies.seen.get(timeout=SECONDS)
        hosts[copied] = headers["host"]

    assert hosts == {"/shadowed-as": "copy.example.com", "/shadowed-alike": "gateway.example.com"}


def test_a_cookie_keeps_a_client_at_its_host(world: World) -> None:
    """The cookie of the first answer leads to the same host; without it both answer."""
    first = world.get("/", "by-cookie")
    cookie = first.headers["set-cookie"].partition(";")[0]
    answers = {world.get("/", "by-cookie", cookie=cookie).json()["instance"] for _ in range(6)}

    assert cookie.startswith("host=")
    assert "Max-Age=60" in first.headers["set-cookie"]
    assert answers == {first.json()["instance"]}
    assert {world.get("/", "by-cookie").json()["instance"] for _ in range(6)} == {"one", "two"}


def test_each_connection_has_a_bucket(world: World) -> None:
    """Two connections may ask once each."""
    for _ in range(2):
        with Connection(world.ports["each-connection"], host="gateway.example.com") as connection:
            assert [connection.request("/").status for _ in range(2)] == [200, 429]


def test_who_watches_changes_nothing(world: World) -> None:
    """The late one changes the request as the early one does, unless nobody waits for it."""
    answers = {name: world.get("/", name) for name in ("processed-late", "watched")}

    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert answers["processed-late"].json()["headers"]["x-processed"] == "yes"
    assert "x-processed" not in answers["watched"].json()["headers"]


def test_addresses_are_let_in_or_not(world: World) -> None:
    """By a list of those that are not, or of the only ones that are; the gateway knows the client by its address."""
    assert world.get("/not-from-here").status == 403
    assert world.get("/from-here").status == 200
    assert world.get("/from-elsewhere").status == 403
    assert world.get("/from-elsewhere", x_forwarded_for="192.0.2.1").status == 403


def test_kinds_of_requests_are_counted(world: World) -> None:
    """A request that fits is counted as of its kind."""
    stat = f"vhost.{NAMESPACE}_default.vcluster.items.upstream_rq_200"
    before = world.envoy.stat(stat)

    assert world.get("/items/7").status == 200
    assert world.get("/items/x").status == 200
    assert world.envoy.stat(stat) == before + 1


def test_a_client_stays_at_its_host(world: World) -> None:
    """The first answer names the host, and requests that name it are answered there."""
    first = world.get("/")
    session = first.headers["x-session-host"]
    answers = {world.get("/", x_session_host=session).json()["instance"] for _ in range(6)}

    assert answers == {first.json()["instance"]}
    assert {world.get("/").json()["instance"] for _ in range(6)} == {"one", "two"}
