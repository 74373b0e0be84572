"""What is polled: endpoints by REST, and the pages of ``devMode``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import build_bootstrap
from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.processes import wait_until
from tests.daemon import start_daemon
from tests.site import Place, host, to_service
from tests.xds_client import ROLE

SECONDS = 30.0


def _discover(port: int, kind: str = "endpoints", body: bytes | None = None, **request: Any) -> Answer:
    document = {"node": {"id": "n", "metadata": {"role": ROLE}}, **request}
    content = json.dumps(document).encode() if body is None else body
    return fetch(port, f"/v3/discovery:{kind}", method="POST", body=content)


@pytest.mark.envoy
def test_envoy_polls_endpoints(place: Place, run_echo: Callable[..., int]) -> None:
    """An instance that comes is asked within the time of two polls; nothing of it comes over the stream."""
    consul, service, port, rest = place.consul, f"polled-{place.root}", place.free_port(), place.free_port()
    gloo = {"enableRestEds": True, "restXdsBindAddr": f"127.0.0.1:{rest}"}
    daemon = place.start(services=True, settings={"gloo": gloo})
    with daemon.server:
        daemon.put("Gateway", "gateway-proxy", {"bindAddress": "127.0.0.1", "bindPort": port, "httpGateway": {}})
        daemon.put("VirtualService", "vs", host("*", to_service(service)))
        daemon.wait_status("VirtualService", "vs", "Accepted")
        bootstrap = build_bootstrap(
            xds_port=daemon.xds_port, admin_port=place.free_port(), rest_xds=("127.0.0.1", rest), role=ROLE
        )
        envoy = place.run_envoy(bootstrap, ready=True)
        assert fetch(port, "/").status == 503

        consul.register(service, run_echo("one"))
        wait_until(lambda: fetch(port, "/").status == 200, "the answer of the instance", SECONDS)
        assert envoy.stat("cluster.rest_xds_cluster.upstream_rq_200") >= 1
        (client,) = daemon.admin("/clients")
        assert "endpoints" not in client["types"]

        name = f"consul-svc:{service}_gloo-system"
        answer = _discover(rest, resource_names=[name])
        assert answer.json()["resources"][0]["cluster_name"] == name
        again = _discover(rest, resource_names=[name], version_info=answer.json()["version_info"])
        assert again.status == 304


def test_what_is_no_request_is_refused(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Other kinds, unknown roles, broken and endless bodies; the other kinds of resources are there as well."""
    rest = free_port()
    settings = {"gloo": {"enableRestEds": True, "restXdsBindAddr": f"127.0.0.1:{rest}"}}
    daemon = start_daemon(tmp_path, consul, root_key, free_port, settings=settings)
    with daemon.server:
        daemon.put("Gateway", "gateway-proxy", {"bindAddress": "::", "bindPort": 8080, "httpGateway": {}})
        daemon.put("VirtualService", "vs", host("*", to_service("x")))
        daemon.wait_status("VirtualService", "vs", "Accepted")
        names = {
            kind: [resource["name"] for resource in _discover(rest, kind).json()["resources"]]
            for kind in ("clusters", "listeners", "routes")
        }
        assert names == {
            "clusters": ["consul-svc:x_gloo-system"],
            "listeners": ["listener-::-8080"],
            "routes": ["listener-::-8080-routes"],
        }
        assert _discover(rest, "secrets").status == 404
        assert _discover(rest, node={"metadata": {"role": "nobody"}}).status == 404
        assert _discover(rest, node={}).status == 404
        for body in (b"", b"[1]", b"3", b"[" * 100_000, b'{"node": 3}'):
            assert _discover(rest, body=body).status == 400
        assert _discover(rest, body=b"x" * (1024 * 1024 + 1)).status == 413


def test_pages_for_developers(consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """They appear when ``devMode`` is switched on."""
    port = free_port()
    settings = {"extensions": {"configs": {"gloo-nomad": {"devBindAddr": f"127.0.0.1:{port}"}}}}
    daemon = start_daemon(tmp_path, consul, root_key, free_port, settings=settings)
    with daemon.server:
        daemon.put("Gateway", "gateway-proxy", {"bindAddress": "::", "bindPort": 8080, "httpGateway": {}})
        daemon.put("VirtualService", "vs", host("*", to_service("x")))
        daemon.wait_status("VirtualService", "vs", "Accepted")
        with pytest.raises(OSError, match="refused"):
            fetch(port, "/xds")

        daemon.put("Settings", "default", {"devMode": True})
        wait_until(lambda: fetch(port, "/").status == 200, "the pages", SECONDS)
        assert fetch(port, "/xds").json() == [ROLE]
        assert "listener-::-8080" in fetch(port, f"/xds/{ROLE}").json()["listeners"]
        assert fetch(port, "/xds/nobody").status == 404
        assert "VirtualService" in fetch(port, "/api").json()


def test_not_in_plain_text_for_everybody(place: Place) -> None:
    """On another address than loopback it is not served unless plain text is permitted, and that is told."""
    rest = place.free_port()
    gloo = {"gloo": {"enableRestEds": True, "restXdsBindAddr": f"0.0.0.0:{rest}"}}
    daemon = place.start(settings=gloo)
    wait_until(lambda: "xDS by REST: it is plain text" in daemon.server.log.read_text(), "the warning", SECONDS)
    with pytest.raises(OSError, match="refused"):
        _discover(rest)
    daemon.terminate()

    permitted = {"extensions": {"configs": {"gloo-nomad": {"xdsTls": "plaintext"}}}}
    place.start(settings={**gloo, **permitted})
    wait_until(lambda: _discover(rest).status in {200, 404}, "an answer", SECONDS)
