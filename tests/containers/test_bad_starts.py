"""Starts that cannot work: one clear line, an exit code, and no container that restarts for ever."""

import socket
from pathlib import Path

from gloo_nomad.demo.processes import wait_until
from tests.containers.engine import Engine
from tests.containers.images import DEPLOYMENTS, OURS

OBJECTS = DEPLOYMENTS / "filesystem" / "objects"


def run_to_its_end(engine: Engine, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a container that ends by itself."""
    name = "ending"
    try:
        engine.run("run", "--name", name, *arguments, check=False, seconds=60)
        return engine.inspect(name)["State"]["ExitCode"], engine.logs(name)
    finally:
        engine.run("rm", "--force", name)


def test_a_port_that_is_taken(engine: Engine) -> None:
    """Names the address, and what to do."""
    with socket.create_server(("127.0.0.1", 9977)):
        flags = ["run", "--role", "gloo", "--config-dir", "/objects", "--xds-bind", "127.0.0.1:9977"]
        code, told = run_to_its_end(engine, "--network", "host", f"--volume={OBJECTS}:/objects:ro", OURS, *flags)

    assert code == 1
    assert "xDS cannot listen on 127.0.0.1:9977: the port is taken by another process" in told


def test_a_folder_that_is_missing(engine: Engine) -> None:
    """Names the folder, and what to do."""
    code, told = run_to_its_end(engine, OURS, "run", "--role", "gloo", "--config-dir", "/objects")

    assert code == 1
    assert "there is no folder /objects; create it, or correct the path" in told


def test_a_settings_file_that_may_not_be_read(engine: Engine, tmp_path: Path) -> None:
    """Names the file and the reason: the container's user is not root."""
    file = tmp_path / "gloo-system" / "default.yaml"
    file.parent.mkdir()
    file.write_text("metadata: {name: default, namespace: gloo-system}\n")
    file.chmod(0o600)
    for folder in (tmp_path, file.parent):
        folder.chmod(0o755)
    code, told = run_to_its_end(engine, f"--volume={tmp_path}:/settings:ro", OURS, "run", "--dir", "/settings")

    assert code == 1
    assert "cannot read the Settings file /settings/gloo-system/default.yaml: Permission denied" in told


def test_an_object_that_may_not_be_read(engine: Engine, tmp_path: Path) -> None:
    """One file without the right to read it is a problem of that file; the daemon runs."""
    folder = tmp_path / "virtualservices" / "gloo-system"
    folder.mkdir(parents=True)
    (folder / "secret.yaml").write_text("metadata: {name: secret, namespace: gloo-system}\n")
    (folder / "secret.yaml").chmod(0)
    for place in (tmp_path, folder.parent, folder):
        place.chmod(0o755)
    volume = f"--volume={tmp_path}:/objects:ro"
    command = ["run", "--role", "gloo", "--config-dir", "/objects", "--xds-bind", "127.0.0.1:9977"]
    engine.run("run", "--detach", "--name", "reads", volume, OURS, *command)
    try:
        wait_until(lambda: "object_problem" in engine.logs("reads"), "the problem in the log", 60)
        told = engine.logs("reads")

        assert "secret.yaml" in told
        assert "Permission denied" in told
        assert engine.inspect("reads")["State"]["Running"]
    finally:
        engine.run("rm", "--force", "reads")
