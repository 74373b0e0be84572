"""What options do to requests: one real Envoy with a route for each, and an upstream that tells what it was sent."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import start_envoy
from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.ports import free_port
from tests.envoy_validate import build_bootstrap
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, run_pipeline

ROUTES: Mapping[str, Mapping[str, Any]] = {
    "/timeout": {"options": {"timeout": "0.2s"}},
    "/idle": {"options": {"timeout": "0s", "idleTimeout": "0.2s"}},
    "/stream": {"options": {"timeout": "0s", "maxStreamDuration": {"maxStreamDuration": "0.2s"}}},
    "/retries": {"options": {"retries": {"retryOn": "5xx", "numRetries": 2}}},
    "/retry-codes": {"options": {"retries": {"retryOn": "retriable-status-codes", "retriableStatusCodes": [409]}}},
    "/prefix": {"options": {"prefixRewrite": "/rewritten"}},
    "/regex": {
        "options": {"regexRewrite": {"pattern": {"regex": "^/regex/([^/]+)/([^/]+)$"}, "substitution": r"/\2/\1"}}
    },
    "/literal-host": {"options": {"hostRewrite": "inside.example.com", "appendXForwardedHost": True}},
    "/host-header": {"options": {"hostRewriteHeader": "x-wanted"}},
    "/host-path": {
        "options": {
            "hostRewritePathRegex": {"pattern": {"regex": "^/host-path/(.+)$"}, "substitution": r"\1.example.com"}
        }
    },
    "/host-auto": {
        "options": {"autoHostRewrite": True},
        "routeAction": {"single": {"upstream": {"name": "named", "namespace": "gloo-system"}}},
    },
    "/headers": {
        "options": {
            "headerManipulation": {
                "requestHeadersToAdd": [
                    {"header": {"key": "x-appended", "value": "second"}},
                    {"header": {"key": "x-replaced", "value": "%REQ(:METHOD)% 100%%"}, "append": False},
                    {"headerSecretRef": {"name": "login", "namespace": "gloo-system"}},
                ],
                "requestHeadersToRemove": ["x-internal"],
                "responseHeadersToAdd": [{"header": {"key": "x-answered", "value": "yes"}}],
                "responseHeadersToRemove": ["content-type"],
            }
        }
    },
    "/cors": {
        "options": {
            "cors": {
                "allowOrigin": ["https://a.example.com"],
                "allowOriginRegex": [r"https://\d+\.example\.com"],
                "allowMethods": ["GET", "PUT"],
                "exposeHeaders": ["x-of-route"],
                "maxAge": "60",
            }
        }
    },
    "/no-cors": {"options": {"cors": {"disableForRoute": True}}},
    "/direct": {
        "directResponseAction": {"status": 200, "body": "direct"},
        "options": {"cors": {"allowOrigin": ["https://a.example.com"], "allowCredentials": True}},
    },
    "/abort": {"options": {"faults": {"abort": {"percentage": 100, "httpStatus": 418}}}},
    "/delay": {"options": {"faults": {"delay": {"percentage": 100, "fixedDelay": "0.3s"}}}},
    "/metadata": {
        "options": {
            "envoyMetadata": {"shop": {"team": "carts"}},
            "headerManipulation": {
                "requestHeadersToAdd": [{"header": {"key": "x-team", "value": "%METADATA(ROUTE:shop:team)%"}}]
            },
        }
    },
    "/bad-option": {"options": {"timeout": "-1s"}},
    "/": {},
}
HOST_OPTIONS: Mapping[str, Any] = {
    "includeRequestAttemptCount": True,
    "includeAttemptCountInResponse": True,
    "cors": {"allowOrigin": ["https://host.example.com"], "exposeHeaders": ["x-of-host"]},
    "corsPolicyMergeSettings": {"exposeHeaders": "UNION"},
    "headerManipulation": {"responseHeadersToAdd": [{"header": {"key": "x-host-wide", "value": "yes"}}]},
}


@dataclass(frozen=True)
class Gateway:
    """A running Envoy."""

    port: int

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request; underscores in names of headers stand for dashes."""
        host = headers.pop("host", "gateway.example.com")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return fetch(self.port, path, host=host, method=method, headers=sent)

    def seen(self, path: str, **headers: str) -> dict[str, Any]:
        """What the upstream was sent."""
        answer: dict[str, Any] = self.get(path, **headers).json()
        return answer


def _objects(port: int, echo: int) -> list[dict[str, Any]]:
    routes = [{"matchers": [{"prefix": prefix}], **route} for prefix, route in ROUTES.items()]
    login = {"headers": {"x-login": "50% secret"}}
    return [
        {"kind": "Gateway", "bindAddress": "127.0.0.1", "bindPort": port},
        {"kind": "VirtualService", "virtualHost": {"options": HOST_OPTIONS, "routes": routes}},
        {"kind": "Upstream", "static": {"hosts": [{"addr": "127.0.0.1", "port": echo}]}},
        {
            "kind": "Upstream",
            "metadata": {"name": "named"},
            "static": {"hosts": [{"addr": "localhost", "port": echo}]},
        },
        {"kind": "Secret", "metadata": {"name": "login"}, "header": login},
    ]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[Gateway]:
    """An Envoy with all the routes."""
    folder = tmp_path_factory.mktemp("effects")
    port = free_port()
    echo, echo_port = start_echo(folder, name="echo")
    outcome = run_pipeline(fill_frame(_objects(port, echo_port)))
    bootstrap = json_format.MessageToDict(build_bootstrap(outcome.snapshots[ROLE]))
    envoy = start_envoy(folder, bootstrap, binary=envoy_binary, ready=True)
    yield Gateway(port)
    envoy.stop()
    echo.stop()


pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("path", ["/timeout", "/idle", "/stream"])
def test_slow_requests_are_ended(gateway: Gateway, path: str) -> None:
    """Time-outs of a route, of an idle stream, and of a stream as a whole answer long before the upstream does."""
    began = time.monotonic()
    answer = gateway.get(f"{path}?delay=3")

    assert answer.status in (408, 504)
    assert time.monotonic() - began < 2


def test_failed_requests_are_tried_again(gateway: Gateway) -> None:
    """Two retries make three tries; the client and the upstream are told how many it were."""
    assert gateway.get("/retries?status=503").headers["x-envoy-attempt-count"] == "3"
    assert gateway.get("/?status=503").headers["x-envoy-attempt-count"] == "1"
    assert gateway.seen("/retries")["headers"]["x-envoy-attempt-count"] == "1"


def test_chosen_statuses_are_tried_again(gateway: Gateway) -> None:
    """Only the listed status is retried, once by default."""
    assert gateway.get("/retry-codes?status=409").headers["x-envoy-attempt-count"] == "2"
    assert gateway.get("/retry-codes?status=503").headers["x-envoy-attempt-count"] == "1"


def test_paths_are_rewritten(gateway: Gateway) -> None:
    """A prefix is replaced, a pattern is rearranged by its groups."""
    assert gateway.seen("/prefix/a?b=c")["path"] == "/rewritten/a?b=c"
    assert gateway.seen("/regex/a/b")["path"] == "/b/a"


def test_hosts_are_rewritten(gateway: Gateway) -> None:
    """By a literal, a header, the path, or the upstream's own name; the original is kept when asked for."""
    literal = gateway.seen("/literal-host", host="outside.example.com")["headers"]

    assert literal["host"] == "inside.example.com"
    assert literal["x-forwarded-host"] == "outside.example.com"
    assert gateway.seen("/host-header", x_wanted="from.header")["headers"]["host"] == "from.header"
    assert gateway.seen("/host-path/abc")["headers"]["host"] == "abc.example.com"
    assert gateway.seen("/host-auto")["headers"]["host"] == "localhost"


def test_headers_are_added_and_removed(gateway: Gateway) -> None:
    """Appended, replaced, taken from a Secret literally, removed; the virtual host's come on top."""
    answer = gateway.get("/headers", x_appended="first", x_replaced="old", x_internal="1")
    seen = answer.json()["headers"]

    assert seen["x-replaced"] == "GET 100%"
    assert seen["x-login"] == "50% secret"
    assert "x-internal" not in seen
    assert "second" in seen["x-appended"]
    assert answer.headers["x-answered"] == "yes"
    assert answer.headers["x-host-wide"] == "yes"
    assert "content-type" not in answer.headers


def test_pages_of_other_origins_may_call(gateway: Gateway) -> None:
    """Listed origins and patterns are allowed, with the route's methods; others are not."""
    allowed = gateway.get("/cors", "OPTIONS", origin="https://a.example.com", access_control_request_method="PUT")
    by_pattern = gateway.get("/cors", origin="https://12.example.com")
    other = gateway.get("/cors", origin="https://b.example.com")

    assert allowed.headers["access-control-allow-origin"] == "https://a.example.com"
    assert allowed.headers["access-control-allow-methods"] == "GET,PUT"
    assert allowed.headers["access-control-max-age"] == "60"
    assert by_pattern.headers["access-control-allow-origin"] == "https://12.example.com"
    assert by_pattern.headers["access-control-expose-headers"] == "x-of-host,x-of-route"
    assert "access-control-allow-origin" not in other.headers


def test_a_virtual_hosts_policy_holds_where_no_route_takes_it_away(gateway: Gateway) -> None:
    """Without a policy of its own a route has the virtual host's, and none where it is disabled."""
    origin = "https://host.example.com"

    assert gateway.get("/", origin=origin).headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in gateway.get("/no-cors", origin=origin).headers


def test_a_direct_response_names_its_origin(gateway: Gateway) -> None:
    """Envoy's filter leaves direct responses alone; the headers are there all the same."""
    answer = gateway.get("/direct", origin="https://a.example.com")

    assert answer.text == "direct"
    assert answer.headers["access-control-allow-origin"] == "https://a.example.com"
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_faults_happen(gateway: Gateway) -> None:
    """Aborted requests never reach the upstream, delayed ones do, later; less than a second is possible."""
    began = time.monotonic()
    delayed = gateway.get("/delay")

    assert delayed.status == 200
    assert 0.25 < time.monotonic() - began < 2
    assert gateway.get("/abort").status == 418


def test_metadata_can_be_read(gateway: Gateway) -> None:
    """What is said about a route is there for format strings."""
    assert gateway.seen("/metadata")["headers"]["x-team"] == "carts"


def test_a_route_with_a_mistake_is_answered_for_itself(gateway: Gateway) -> None:
    """A rejected route answers 404; its neighbours work."""
    assert gateway.get("/bad-option").status == 404
    assert gateway.get("/").status == 200
