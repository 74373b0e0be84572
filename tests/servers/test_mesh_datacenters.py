"""A service in the mesh of another datacenter."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from tests.mesh_world import MeshWorld, to_mesh, to_upstream
from tests.site import Place, host

pytestmark = [pytest.mark.consul, pytest.mark.envoy]


def test_another_datacenter(
    new_consul: Callable[..., ConsulAgent],
    tmp_path: Path,
    free_port: Callable[[], int],
    run_envoy: Callable[..., Envoy],
    run_echo: Callable[..., int],
) -> None:
    """The certificate has to be that of the service there, which the same trust domain vouches for."""
    earth, mars = (new_consul(config={"datacenter": name, "primary_datacenter": "earth"}) for name in ("earth", "mars"))
    port = json.loads((tmp_path / "consul-1" / "consul.json").read_text())["ports"]["serf_wan"]
    earth.request("PUT", f"agent/join/127.0.0.1:{port}?wan=1")
    wait_until(lambda: fetch(mars.port, "/v1/agent/connect/ca/leaf/web").status == 200, "a leaf of mars", 60)
    world = MeshWorld(mars, tmp_path, run_echo)
    place = Place(tmp_path, earth, "gloo", free_port, run_envoy)
    try:
        world.serve("web")
        daemon = place.start(services=True)
        upstream = to_mesh("web")
        upstream["consul"]["dataCenters"] = ["mars"]
        daemon.put("Upstream", "web", upstream)
        daemon.put("VirtualService", "web", host("web", to_upstream("web")))
        site = place.open(daemon)
        site.wait_for("web", 200, "echo-web", 30)
        upstream["consul"]["dataCenters"] = ["earth"]
        daemon.put("Upstream", "web", upstream)
        site.wait_for("web", 503, "", 30)
    finally:
        place.stop()
        world.stop()
