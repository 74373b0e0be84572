"""One engine with all images, for all tests of this folder: podman, or Docker with ``CONTAINER_ENGINE=docker``."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gloo_nomad.demo.binaries import find_binary
from tests.conftest import CHECKOUT
from tests.containers.docker import open_docker
from tests.containers.engine import Engine
from tests.containers.images import build_images, openbao_program
from tests.containers.podman import open_podman

ENGINES = {"podman": open_podman, "docker": open_docker}
ENGINE = os.environ.get("CONTAINER_ENGINE", "podman")

collect_ignore_glob = [] if ENGINE == "docker" else ["test_docker_*.py"]
"""What podman-compose does not do: it starts everything at once, whatever ``depends_on`` says."""


def _prepared(variable: str) -> Path:
    place = os.environ.get(variable, "")
    if not place:
        pytest.fail(f"{variable} is not set: run these tests by `make test-containers`", pytrace=False)
    return Path(place)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine, with all images in it."""
    servers = {"consul": find_binary("consul", [CHECKOUT / ".servers"]), "bao": openbao_program()}
    with ENGINES[ENGINE](tmp_path_factory.mktemp(ENGINE)) as opened:
        build_images(opened, _prepared("GLOO_NOMAD_TEST_BASE"), _prepared("GLOO_NOMAD_TEST_WHEELS"), servers)
        yield opened
