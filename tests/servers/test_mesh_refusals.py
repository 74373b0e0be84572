"""A Consul that gives no certificate: nothing is sent in plain text, and everybody is told what helps."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from tests.conftest import CHECKOUT
from tests.mesh_world import MeshWorld, to_mesh, to_upstream
from tests.site import Place, Site, host

pytestmark = [pytest.mark.consul, pytest.mark.envoy]
POLICY = (CHECKOUT / "jobs" / "gloo-consul-policy.hcl").read_text()
GATEWAY_RULE = 'service "gateway-proxy"'
DENYING = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": "root"}}


@pytest.fixture
def open_place(tmp_path: Path, free_port: Callable[[], int], run_envoy: Callable[..., Envoy]) -> Iterator[Any]:
    """Daemons on an agent of the test's own."""
    opened: list[Place] = []

    def start(agent: ConsulAgent) -> Place:
        opened.append(Place(tmp_path, agent, "gloo", free_port, run_envoy))
        return opened[-1]

    yield start
    for place in opened:
        place.stop()


def open_site(place: Place, token: str = "") -> Site:
    """An Envoy whose domain ``web`` leads into the mesh."""
    consul = {"httpAddress": place.consul.address, "serviceDiscovery": {}, **({"token": token} if token else {})}
    daemon = place.start(settings={"consul": consul})
    daemon.put("Upstream", "web", to_mesh("web"))
    daemon.put("VirtualService", "web", host("web", to_upstream("web")))
    return place.open(daemon)


def wait_told(site: Site, remedy: str) -> None:
    """Waits until the page of health says it, and the Upstream has an error."""
    wait_until(lambda: remedy in fetch(site.daemon.admin_port, "/healthz").text, f"/healthz with {remedy}", 30)
    wait_until(lambda: "connect.enabled" in json.dumps(site.daemon.problems_of("web")), "a problem", 30)


def test_no_mesh(new_consul: Callable[..., ConsulAgent], open_place: Any, run_echo: Callable[..., int]) -> None:
    """Where Consul's mesh is off, the service is not asked in plain text though it is there; a plain one still is."""
    agent = new_consul(config={"connect": {"enabled": False}})
    agent.register("web", run_echo("echo-web"))
    site = open_site(open_place(agent))
    site.wait_for("web", 503)
    wait_told(site, "is connect.enabled on Consul's servers")
    site.daemon.put("Upstream", "web", {"consul": {"serviceName": "web"}})
    site.wait_for("web", 200)


def test_a_token_without_the_right(
    new_consul: Callable[..., ConsulAgent], open_place: Any, tmp_path: Path, run_echo: Callable[..., int]
) -> None:
    """A token that may not have the certificate is told which right it lacks; once it has it, all works by itself."""
    agent = replace(new_consul(config={"acl": DENYING}), token="root")
    mesh = MeshWorld(agent, tmp_path, run_echo)
    rules = {"Name": "gloo", "Rules": POLICY.partition(GATEWAY_RULE)[0]}
    policy = agent.request("PUT", "acl/policy", json.dumps(rules).encode())
    token = agent.request("PUT", "acl/token", json.dumps({"Policies": [{"Name": "gloo"}]}).encode())["SecretID"]
    try:
        mesh.serve("web")
        mesh.intend("web", "allow")
        site = open_site(open_place(agent), token)
        site.wait_for("web", 503)
        wait_told(site, "the token needs service:write on gateway-proxy")

        agent.request("PUT", f"acl/policy/{policy['ID']}", json.dumps({**rules, "Rules": POLICY}).encode())
        site.wait_for("web", 200, "echo-web", 60)
        wait_until(lambda: site.daemon.problems_of("web") == [], "no problem any more", 30)
    finally:
        mesh.stop()
