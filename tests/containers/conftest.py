"""One engine with all images, for all tests of this folder."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gloo_nomad.demo.binaries import find_binary
from tests.conftest import CHECKOUT
from tests.containers.engine import Podman, open_podman
from tests.containers.images import build_images, openbao_program


def _prepared(variable: str) -> Path:
    place = os.environ.get(variable, "")
    if not place:
        pytest.fail(f"{variable} is not set: run these tests by `make test-containers`", pytrace=False)
    return Path(place)


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """The engine; its storage, several GiB, is removed at the end."""
    folder = tmp_path_factory.mktemp("podman")
    engine = open_podman(folder)
    servers = {"consul": find_binary("consul", [CHECKOUT / ".servers"]), "bao": openbao_program()}
    try:
        build_images(engine, _prepared("GLOO_NOMAD_TEST_BASE"), _prepared("GLOO_NOMAD_TEST_WHEELS"), servers)
        yield engine
    finally:
        engine.run("rm", "--all", "--force", "--time", "0", check=False)
        engine.run("network", "prune", "--force", check=False)
        shutil.rmtree(folder, ignore_errors=True)
