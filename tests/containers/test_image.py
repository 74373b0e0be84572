"""The image of the daemon: small rights, no tools to build with, and a good process number 1."""

import time

from tests.containers.engine import Engine
from tests.containers.images import DEPLOYMENTS, OURS

FOLDER = DEPLOYMENTS / "filesystem"
MEBIBYTE = 1024 * 1024


def test_who_runs_in_it(engine: Engine) -> None:
    """Neither root nor with a compiler, pip or what it was built from; labels and a health check are there."""
    config = engine.inspect(OURS)["Config"]
    tools = "for tool in gcc cc make pip pip3; do command -v $tool; done; ls -d /source /wheels 2>/dev/null; id -u"

    assert engine.run("run", "--rm", "--entrypoint", "sh", OURS, "-c", tools).split() == ["10001"]
    assert config["User"] == "10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "gloo-nomad"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert engine.health_check(OURS) == ["CMD", "gloo-nomad", "ready"]


def test_what_it_says(engine: Engine) -> None:
    """The entry point is the command, with the version of the label."""
    label = engine.inspect(OURS)["Config"]["Labels"]["org.opencontainers.image.version"]

    assert f"gloo-nomad {label}" in engine.run("run", "--rm", OURS, "version")


def test_sigterm_as_process_one(engine: Engine) -> None:
    """It is ready, stops on SIGTERM at once, and its exit code is 0."""
    mounts = [f"--volume={FOLDER / name}:/{name}:ro" for name in ("settings", "objects")]
    engine.run("run", "--detach", "--name", "first", *mounts, OURS, "run", "--role", "gloo", "--dir", "/settings")
    began = time.monotonic()
    while not engine.is_healthy("first"):
        assert time.monotonic() - began < 60, engine.logs("first")
        time.sleep(0.05)
    print(f"ready {time.monotonic() - began:.1f} s after the container's start")
    began = time.monotonic()
    engine.run("stop", "--time", "30", "first")

    assert time.monotonic() - began < 20
    assert engine.inspect("first")["State"]["ExitCode"] == 0
    assert "stopped" in engine.logs("first")
    engine.run("rm", "first")
