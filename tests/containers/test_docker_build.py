"""``docker compose up`` where there is no image yet: Compose builds it. Only with Docker."""

import os
from pathlib import Path

import yaml

from tests.containers.deployment import Deployment
from tests.containers.engine import Engine, checked
from tests.containers.images import BASE, DEPLOYMENTS, OURS, read_env

FOLDER = DEPLOYMENTS / "filesystem"


def write_offline_build(file: Path) -> None:
    """What the build of every service needs where no package server is reached."""
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    build = {"args": {"BASE": BASE}, "additional_contexts": {"wheels": os.environ["GLOO_NOMAD_TEST_WHEELS"]}}
    built = {name: {"build": build} for name, described in services.items() if "build" in described}
    file.write_text(yaml.safe_dump({"services": built}))


def test_compose_builds_the_image(engine: Engine, tmp_path: Path) -> None:
    """One command on a clean machine: the image is made from the ``Dockerfile``, and Envoy answers."""
    file = tmp_path / "offline.yaml"
    write_offline_build(file)
    options = ("--file", str(file), "--project-name", "built")
    env = read_env("filesystem")
    engine.run("tag", OURS, "kept:1")
    engine.run("rmi", OURS)
    try:
        checked(engine.compose(FOLDER, *options, "up", "--detach", env=env))

        Deployment(engine, FOLDER, "built").wait_for_answer(8080, "/", "Hello from gloo-nomad")
        assert engine.health_check(OURS) == ["CMD", "gloo-nomad", "ready"]
    finally:
        engine.compose(FOLDER, *options, "down", "--volumes", "--timeout", "20", env=env)
        engine.run("tag", "kept:1", OURS)
