"""The Nomad job with its default driver, docker: on Docker, or on podman's socket for Docker's clients."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.cluster import Cluster, put_seed
from gloo_nomad.demo.consul import start_consul
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.nomad import start_nomad
from gloo_nomad.demo.openbao import start_openbao
from gloo_nomad.demo.processes import ServerError, wait_until
from tests.conftest import CHECKOUT
from tests.containers.engine import Engine
from tests.containers.images import OURS, read_env

SERVERS = [CHECKOUT / ".servers"]
PORTS = {"http_port": "18080", "https_port": "18443", "envoy_admin_port": "19100", "metrics_port": "18081"}


@pytest.fixture
def cluster(engine: Engine, tmp_path: Path) -> Iterator[Cluster]:
    """Agents of Consul, OpenBao and Nomad, whose containers are the engine's."""
    with ExitStack() as stack:
        socket = stack.enter_context(engine.listening())
        consul = start_consul(tmp_path / "consul", binary=find_binary("consul", SERVERS))
        stack.callback(consul.stop)
        bao = start_openbao(tmp_path / "openbao")
        stack.callback(bao.stop)
        config = f'plugin "docker" {{\n  config {{\n    endpoint = "unix://{socket}"\n  }}\n}}\n'
        nomad = start_nomad(tmp_path / "nomad", binary=find_binary("nomad", SERVERS), consul=consul, config=config)
        stack.callback(nomad.stop)
        yield Cluster(consul, nomad, bao)


def test_the_job_runs(cluster: Cluster) -> None:
    """Nomad starts the four groups as containers of our image and of Envoy's, and Envoy answers."""
    wait_until(lambda: has_docker(cluster), "a healthy driver docker", 60)
    put_seed(cluster.consul, http=18080, https=18443)
    values = {
        "consul_address": cluster.consul.address,
        "vault_address": cluster.openbao.address,
        "vault_token": cluster.openbao.token,
        "gloo_image": OURS,
        "envoy_image": read_env("consul-vault")["ENVOY_IMAGE"],
        "drain_seconds": "1",
        "xds_port": "0",
        **PORTS,
    }
    options = [f"-var={name}={value}" for name, value in values.items()]
    cluster.nomad.command("job", "run", "-detach", *options, str(CHECKOUT / "jobs" / "gloo.nomad.hcl"))
    try:
        wait_until(lambda: fetch(18080, "/").status == 200, "an answer through the Envoy of a container", 120)
    except ServerError as failure:
        raise AssertionError(f"{failure}\n{cluster.nomad.task_logs('gloo')}\n{events(cluster)}") from failure

    assert "Hello from gloo-nomad" in fetch(18080, "/").text
    drivers = {
        task["Driver"] for group in cluster.nomad.request("GET", "job/gloo")["TaskGroups"] for task in group["Tasks"]
    }
    assert drivers == {"docker"}
    cluster.nomad.command("job", "stop", "-purge", "gloo")


def has_docker(cluster: Cluster) -> bool:
    """Whether Nomad's node has the driver."""
    node = cluster.nomad.request("GET", "nodes")[0]["ID"]
    return bool(cluster.nomad.request("GET", f"node/{node}")["Drivers"]["docker"]["Healthy"])


def events(cluster: Cluster) -> str:
    """What Nomad says of each task."""
    lines: list[str] = []
    for allocation in cluster.nomad.request("GET", "job/gloo/allocations"):
        for task, state in (allocation["TaskStates"] or {}).items():
            lines.extend(f"{task}: {event['DisplayMessage']}" for event in state["Events"])
    return "\n".join(lines)
