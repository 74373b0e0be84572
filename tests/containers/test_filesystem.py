"""``deploy/compose/filesystem``: a mounted folder of YAML, edited live."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gloo_nomad.demo.fetch import fetch
from tests.containers.deployment import Deployment, deployed, leftovers
from tests.containers.engine import Engine
from tests.containers.images import DEPLOYMENTS, read_env
from tests.containers.tls import fetch_insecurely

HTTP, HTTPS, ADMIN = 8080, 8443, 19000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the deployment that a test may edit."""
    copy = tmp_path_factory.mktemp("filesystem") / "compose"
    shutil.copytree(DEPLOYMENTS, copy)
    copy.parent.chmod(0o755)
    return copy / "filesystem"


@pytest.fixture(scope="module")
def running(engine: Engine, folder: Path) -> Iterator[Deployment]:
    """The deployment, with Envoy answering."""
    with deployed(engine, folder, "files", read_env("filesystem")) as deployment:
        deployment.wait_for_answer(HTTP, "/", "Hello from gloo-nomad")
        yield deployment


def test_http_and_https(running: Deployment) -> None:
    """Both ports answer; the service is found by its container's name; Envoy's admin interface is there."""
    running.wait_for_answer(HTTP, "/echo/hello", '"path": "/hello"')
    running.wait_for(lambda: fetch_insecurely(HTTPS, "/echo/hello")[0] == 200, "HTTPS")

    assert '"path": "/hello"' in fetch_insecurely(HTTPS, "/echo/hello")[1]
    assert fetch(ADMIN, "/ready").text == "LIVE\n"


@pytest.mark.parametrize("service", ["gloo", "gateway-proxy", "echo"])
def test_health_checks(running: Deployment, service: str) -> None:
    """The containers' own health checks pass."""
    name = running.container(service)
    running.wait_for(lambda: running.engine.is_healthy(name), f"health of {service}", 30)


def test_an_edit_is_live_within_a_second(running: Deployment, folder: Path) -> None:
    """A saved file is what Envoy answers with, in the best of three tries within a second."""
    file = folder / "objects/virtualservices/gloo-system/default.yaml"
    original = file.read_text()
    took = []
    for word in ("Good morning", "Good evening", "Good night"):
        file.write_text(original.replace("Hello", word))
        took.append(running.wait_for_answer(HTTP, "/", f"{word} from gloo-nomad", 30))
        time.sleep(0.3)
    file.write_text(original)
    running.wait_for_answer(HTTP, "/", "Hello from gloo-nomad", 30)

    assert min(took) < 1, took


def test_a_broken_file_spoils_only_itself(running: Deployment, folder: Path) -> None:
    """`gloo-nomad check` in the container tells what is wrong; everything else goes on."""
    broken = folder / "objects/virtualservices/gloo-system/broken.yaml"
    broken.write_text("metadata: {name: broken, namespace: gloo-system}\nvirtualHost: {domain: [a.example.com]}\n")
    try:
        check = ("exec", running.container("gloo"), "gloo-nomad", "check", "--config-dir", "/objects")
        running.wait_for(lambda: "virtualHost.domain" in running.engine.run(*check, check=False), "the problem", 30)

        assert fetch(HTTP, "/").status == 200
    finally:
        broken.unlink()


def test_nothing_is_left_behind(engine: Engine, folder: Path) -> None:
    """After ``down --volumes`` there is no container, network or volume of the deployment; a second start works."""
    with deployed(
        engine,
        folder,
        "again",
        {**read_env("filesystem"), "HTTP_PORT": "18080", "HTTPS_PORT": "18443"}
        | {
            "ENVOY_ADMIN_PORT": "19001",
            "XDS_PORT": "19977",
        },
    ) as second:
        second.wait_for_answer(18080, "/", "Hello from gloo-nomad")

    assert not [name for name in leftovers(engine) if "again" in name]
