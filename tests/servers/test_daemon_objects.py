"""Objects in Consul KV and what the daemon says of them: statuses, bad input, nothing done twice."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon, start_daemon


def direct(body: str, prefix: str = "/") -> dict[str, Any]:
    """A route that answers by itself."""
    return {"matchers": [{"prefix": prefix}], "directResponseAction": {"status": 200, "body": body}}


def host(domain: str, *routes: dict[str, Any]) -> dict[str, Any]:
    """A virtual service for one domain."""
    return {"virtualHost": {"domains": [domain], "routes": list(routes)}}


@pytest.fixture
def daemon(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[tuple[Daemon, int]]:
    """A daemon with a Gateway and one good virtual service, and the Gateway's port."""
    running = start_daemon(tmp_path, consul, root_key, free_port)
    port = free_port()
    with running.server:
        gateway = {"bindAddress": "127.0.0.1", "bindPort": port, "httpGateway": {}}
        running.put("Gateway", "gateway-proxy", gateway)
        running.put("VirtualService", "good", host("good.test", direct("good")))
        yield running, port


@pytest.fixture
def served(
    daemon: tuple[Daemon, int], run_envoy: Callable[..., Envoy], free_port: Callable[[], int]
) -> Callable[..., Any]:
    """An Envoy behind the daemon; a call makes a request and returns status and body."""
    running, port = daemon
    run_envoy(build_bootstrap(xds_port=running.xds_port, admin_port=free_port()), ready=True)

    def get(name: str, path: str = "/") -> tuple[int, str]:
        answer = fetch(port, path, host=name)
        return answer.status, answer.text

    wait_until(lambda: get("good.test") == (200, "good"), "the first answer", 15)
    return get


BAD_VALUES: dict[str, tuple[bytes, str]] = {
    "bad-yaml": (b"metadata: [}", "YAML"),
    "unknown-field": (b"metadata: {name: unknown-field, namespace: gloo-system}\nvirtualHosts: {}\n", "virtualHosts"),
    "wrong-type": (
        b"metadata: {name: wrong-type, namespace: gloo-system}\nvirtualHost: {domains: 3}\n",
        "virtualHost.domains",
    ),
    "empty": (b"", "empty"),
    "garbage": (bytes(range(256)) * 8, "UTF-8"),
    "elsewhere": (b"metadata: {name: other, namespace: gloo-system}\nvirtualHost: {}\n", "metadata"),
    "nameless": (b"virtualHost: {}\n", "metadata"),
}


def test_bad_values_spoil_only_themselves(daemon: tuple[Daemon, int], served: Callable[..., Any]) -> None:
    """Each bad value is reported on its own object; the rest is served and changeable; no restart, no busy loop."""
    running, _ = daemon
    for name, (value, _) in BAD_VALUES.items():
        running.consul.put(running.key("VirtualService", name), value)
    for name, (_, told) in BAD_VALUES.items():
        wait_until(partial(_is_reported, running, name), f"the report on {name}", 10)
        assert told in str(running.problems_of(name)), name
    running.put("VirtualService", "good", host("good.test", direct("changed")))
    wait_until(lambda: served("good.test") == (200, "changed"), "the change beside bad values", 10)

    process = psutil.Process(running.server.pid)
    time.sleep(1.0)
    before = sum(process.cpu_times()[:2])
    time.sleep(3.0)
    assert sum(process.cpu_times()[:2]) - before < 0.3

    assert "unknown field" in running.wait_status("VirtualService", "unknown-field", "Rejected")["reason"]
    assert running.status("VirtualService", "elsewhere")["state"] == "Rejected"
    assert running.stored("VirtualService", "other") is None


def test_an_edit_that_breaks_keeps_the_last_good_version(
    daemon: tuple[Daemon, int], served: Callable[..., Any]
) -> None:
    """A served virtual service whose edit cannot be read, or has an error, is served as it was."""
    running, _ = daemon
    running.consul.put(running.key("VirtualService", "good"), b"metadata: [}")
    wait_until(lambda: running.problems_of("good") != [], "the report", 10)
    assert served("good.test") == (200, "good")

    running.put("VirtualService", "good", host("good.test", direct("better"), {"matchers": [{"prefix": "//"}]}))
    running.wait_status("VirtualService", "good", "Rejected")
    assert served("good.test") == (200, "good")

    running.put("VirtualService", "good", host("good.test", direct("mended")))
    wait_until(lambda: served("good.test") == (200, "mended"), "the mended version", 10)
    assert running.wait_status("VirtualService", "good", "Accepted")["reportedBy"] == "gloo"


def test_two_virtual_services_with_one_domain(daemon: tuple[Daemon, int], served: Callable[..., Any]) -> None:
    """The one that was served goes on, both are told of the other, everybody else is untouched."""
    running, _ = daemon
    running.put("VirtualService", "second", host("good.test", direct("stolen")))
    first = running.wait_status("VirtualService", "good", "Rejected")
    second = running.wait_status("VirtualService", "second", "Rejected")

    assert "second" in first["reason"]
    assert "good" in second["reason"]
    assert served("good.test") == (200, "good")

    running.delete("VirtualService", "second")
    running.wait_status("VirtualService", "good", "Accepted")


def test_missing_upstream_and_delegation_cycle(daemon: tuple[Daemon, int], served: Callable[..., Any]) -> None:
    """A missing upstream is a warning and answers 503; a cycle rejects its objects; the rest is served."""
    running, _ = daemon
    missing = {"routeAction": {"single": {"upstream": {"name": "nowhere", "namespace": "gloo-system"}}}}
    running.put("VirtualService", "missing", host("missing.test", missing))
    delegate = {"matchers": [{"prefix": "/"}], "delegateAction": {"ref": {"name": "loop", "namespace": "gloo-system"}}}
    running.put("RouteTable", "loop", {"routes": [delegate]})
    running.put("VirtualService", "looping", host("loop.test", delegate))

    assert "nowhere" in running.wait_status("VirtualService", "missing", "Warning")["reason"]
    assert "cycle" in running.wait_status("VirtualService", "looping", "Rejected")["reason"]
    assert "cycle" in running.wait_status("RouteTable", "loop", "Rejected")["reason"]
    wait_until(lambda: served("missing.test")[0] == 503, "503 for the missing upstream", 10)
    assert served("good.test") == (200, "good")


def test_statuses_are_written_once_and_wake_nothing(daemon: tuple[Daemon, int]) -> None:
    """A status is in the object with its sub-status; after that neither the key nor the translation moves."""
    running, _ = daemon
    status = running.wait_status("VirtualService", "good", "Accepted")
    assert status["subresourceStatuses"] == {
        "*v1.Proxy.gateway-proxy_gloo-system": {"state": "Accepted", "reportedBy": "gloo"}
    }
    running.wait_status("Gateway", "gateway-proxy", "Accepted")
    time.sleep(0.5)

    index, translations = running.index("VirtualService", "good"), _translations(running)
    time.sleep(1.5)
    assert running.index("VirtualService", "good") == index
    assert _translations(running) == translations

    document = running.stored("VirtualService", "good")
    assert document is not None
    running.put("VirtualService", "good", document)
    time.sleep(1.0)
    assert _translations(running) == translations


def test_a_put_without_status_gets_it_again(daemon: tuple[Daemon, int]) -> None:
    """A user who writes from a stale copy erases the status; it is written again."""
    running, _ = daemon
    running.wait_status("VirtualService", "good", "Accepted")
    before = running.index("VirtualService", "good")
    running.put("VirtualService", "good", host("good.test", direct("good")))
    wait_until(lambda: running.status("VirtualService", "good") != {}, "the status again", 15)
    assert running.index("VirtualService", "good") >= before + 2
    assert running.status("VirtualService", "good")["state"] == "Accepted"


def test_the_last_object_of_a_kind_goes(daemon: tuple[Daemon, int], served: Callable[..., Any]) -> None:
    """Deleting the last upstream and the last route table takes them out of service."""
    running, _ = daemon
    running.put("Upstream", "only", {"static": {"hosts": [{"addr": "127.0.0.1", "port": 80}]}})
    wait_until(lambda: "only_gloo-system" in _clusters(running), "the cluster", 10)
    running.delete("Upstream", "only")
    wait_until(lambda: "only_gloo-system" not in _clusters(running), "the end of the cluster", 10)


def test_unsupported_fields_are_named(daemon: tuple[Daemon, int]) -> None:
    """A field that has no effect is a warning that names it, and the object is served."""
    running, _ = daemon
    route = {**direct("x"), "options": {"transformations": {"clearRouteCache": True}}}
    running.put("VirtualService", "partly", host("partly.test", route))
    status = running.wait_status("VirtualService", "partly", "Warning")
    assert "virtualHost.routes[0].options.transformations" in status["reason"]


def _is_reported(daemon: Daemon, name: str) -> bool:
    return daemon.problems_of(name) != []


def _translations(daemon: Daemon) -> float:
    for line in fetch(daemon.admin_port, "/metrics").text.splitlines():
        if line.startswith("gloo_nomad_translation_seconds_count"):
            return float(line.split()[-1])
    return 0.0


def _clusters(daemon: Daemon) -> str:
    return str(daemon.admin("/snapshots/xds?type=clusters"))
