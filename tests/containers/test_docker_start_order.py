"""What Docker Compose makes of ``depends_on``: everything starts in its turn, and what waits for a failure never does.

Only with Docker: podman-compose starts everything at once.
"""

import json
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gloo_nomad.demo.processes import start_process, wait_until
from tests.containers.deployment import Deployment, deployed, leftovers
from tests.containers.engine import Engine
from tests.containers.images import DEPLOYMENTS, OURS, read_env

CONDITIONS = {"service_healthy": "health_status: healthy", "service_completed_successfully": "die"}
"""Which event of the daemon makes a condition of Compose true; for the second one with the exit code 0."""


@dataclass(frozen=True)
class Happenings:
    """What the daemon told of its containers since the test began."""

    log: Path

    def of(self, container: str, action: str, **attributes: str) -> list[float]:
        """When something happened to a container, in seconds."""
        events = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [
            event["timeNano"] / 1e9
            for event in events
            if event["Action"] == action
            and {"name": container, **attributes}.items() <= event["Actor"]["Attributes"].items()
        ]


@pytest.fixture
def happenings(engine: Engine, tmp_path: Path) -> Iterator[Happenings]:
    """The daemon's events; they are recorded before the test begins."""
    log = tmp_path / "events"
    command = [str(engine.program), "events", "--filter", "type=container", "--format", "{{json .}}"]
    with start_process("events", command, log, env=engine.environment):
        told = Happenings(log)

        def recorded() -> bool:
            engine.run("run", "--rm", "--name", "first-event", "--entrypoint", "true", OURS)
            return bool(told.of("first-event", "start"))

        wait_until(recorded, "a first event", 60)
        yield told


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a copy of a deployment that a test may spoil."""

    def copy(name: str) -> Path:
        shutil.copytree(DEPLOYMENTS, tmp_path / "compose")
        for place in (tmp_path, tmp_path.parent):
            place.chmod(0o755)
        return tmp_path / "compose" / name

    return copy


def read_services(folder: Path) -> Mapping[str, Any]:
    """The services of a deployment."""
    found: Mapping[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    return found


def up(engine: Engine, folder: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and output of ``docker compose up --detach``."""
    done = engine.compose(folder, "--project-name", "failing", "up", "--detach", "--no-build", env=env)
    return done.returncode, done.stdout + done.stderr


def down(engine: Engine, folder: Path) -> None:
    """Everything of the deployment goes, however far it came."""
    engine.compose(folder, "--project-name", "failing", "down", "--volumes", "--timeout", "20")
    assert not [name for name in leftovers(engine) if "failing" in name]


@pytest.mark.parametrize(("name", "conditions"), [("filesystem", 2), ("consul-vault", 11)])
def test_everything_waits_for_what_it_depends_on(
    engine: Engine, happenings: Happenings, name: str, conditions: int
) -> None:
    """By the daemon's clock, no container starts before its dependencies are healthy, or have ended with 0."""
    folder = DEPLOYMENTS / name
    checked = 0
    with deployed(engine, folder, "order", read_env(name)) as deployment:
        for service, described in read_services(folder).items():
            for dependency, wanted in described.get("depends_on", {}).items():
                wait_for_order(deployment, happenings, service, dependency, wanted["condition"])
                checked += 1

    assert checked == conditions


def wait_for_order(
    deployment: Deployment, happenings: Happenings, service: str, dependency: str, condition: str
) -> None:
    """One service starts after its dependency; ``compose up`` may have ended before the event is written down."""
    code = {"exitCode": "0"} if condition == "service_completed_successfully" else {}
    started = deployment.container(service)
    needed = deployment.container(dependency)
    deployment.wait_for(lambda: bool(happenings.of(started, "start")), f"a start of {service}")
    held = happenings.of(needed, CONDITIONS[condition], **code)

    assert held, (service, dependency, condition)
    assert held[0] <= happenings.of(started, "start")[0], (service, dependency, condition)


def test_settings_that_may_not_be_read(engine: Engine, happenings: Happenings, copied: Callable[[str], Path]) -> None:
    """The daemon says why it ends, is started again five times with pauses, and no more; Envoy is not started."""
    folder = copied("filesystem")
    (folder / "settings/gloo-system/default.yaml").chmod(0o600)
    try:
        code, told = up(engine, folder, read_env("filesystem"))
        gloo = engine.container("failing", "gloo")
        wait_until(lambda: len(happenings.of(gloo, "die")) == 6, "the sixth end", 60)
        ends, starts = happenings.of(gloo, "die"), happenings.of(gloo, "start")
        pauses = [start - end for end, start in zip(ends, starts[1:], strict=False)]

        assert code == 1
        assert f"dependency failed to start: container {gloo}" in told
        assert "cannot read the Settings file /settings/gloo-system/default.yaml: Permission denied" in engine.logs(
            gloo
        )
        assert engine.inspect(gloo)["State"]["ExitCode"] == 1
        assert engine.inspect(gloo)["RestartCount"] == len(pauses) == 5
        assert min(pauses) > 0.1, pauses
        assert not happenings.of(engine.container("failing", "gateway-proxy"), "start")
    finally:
        down(engine, folder)


def test_a_port_that_is_taken(engine: Engine, copied: Callable[[str], Path]) -> None:
    """Compose names container and port, and its exit code is 1."""
    folder = copied("filesystem")
    try:
        with socket.create_server(("0.0.0.0", 8080)):
            code, told = up(engine, folder, read_env("filesystem"))

        assert code == 1
        assert engine.container("failing", "gateway-proxy") in told
        assert "0.0.0.0:8080: bind: address already in use" in told
    finally:
        down(engine, folder)


def test_vault_without_a_token(engine: Engine, happenings: Happenings) -> None:
    """Nothing can be seeded: the seed says so at once and ends with 1, and nothing that needs it is started."""
    folder = DEPLOYMENTS / "consul-vault"
    try:
        code, told = up(engine, folder, {**read_env("consul-vault"), "VAULT_TOKEN": ""})
        seed = engine.container("failing", "seed")

        assert code == 1
        assert 'service "seed" didn\'t complete successfully: exit 1' in told
        assert "the first objects cannot be written: permission denied" in engine.logs(seed)
        assert engine.inspect(seed)["RestartCount"] == 0
        for service in ("gloo", "gateway", "discovery", "gateway-proxy"):
            assert not happenings.of(engine.container("failing", service), "start")
    finally:
        down(engine, folder)
