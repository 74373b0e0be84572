"""A running ``gloo-nomad run`` on the tests' Consul, with an Envoy behind it if a test wants one."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import ServerProcess, start_process, wait_ready, wait_until

NAMESPACE = "gloo-system"
PROGRAM = Path(sys.executable).parent / "gloo-nomad"


@dataclass(frozen=True)
class Daemon:
    """One process, its root in Consul KV and its ports."""

    server: ServerProcess
    consul: ConsulAgent
    root: str
    xds_port: int
    admin_port: int
    front_door_port: int

    def put(self, kind: str, name: str, document: dict[str, Any] | str | bytes) -> None:
        """Writes an object as ``consul kv put`` would; a document gets its metadata."""
        if isinstance(document, dict):
            named = {"metadata": {"name": name, "namespace": NAMESPACE}, **document}
            document = yaml.safe_dump(named, sort_keys=False)
        self.consul.put(self.key(kind, name), document)

    def delete(self, kind: str, name: str) -> None:
        """Deletes an object."""
        self.consul.delete(self.key(kind, name))

    def key(self, kind: str, name: str) -> str:
        """Where an object is."""
        return KINDS[kind].key(self.root, Ref(NAMESPACE, name))

    def stored(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object as it is stored."""
        value = self.consul.get(self.key(kind, name))
        found = yaml.safe_load(value) if value else None
        return found if isinstance(found, dict) else None

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """The status that is stored in an object; empty if there is none."""
        document = self.stored(kind, name) or {}
        statuses = document.get("namespacedStatuses", {}).get("statuses", {})
        found: dict[str, Any] = statuses.get(NAMESPACE, {})
        return found

    def wait_status(self, kind: str, name: str, state: str) -> dict[str, Any]:
        """The status once its state is that."""
        wait_until(
            lambda: self.status(kind, name).get("state") == state,
            f"{kind} {name} being {state} (it is {self.status(kind, name)})",
            15.0,
        )
        return self.status(kind, name)

    def index(self, kind: str, name: str) -> int:
        """The ModifyIndex of an object's key."""
        answer = self.consul.request("GET", f"kv/{self.key(kind, name)}")
        return int(answer[0]["ModifyIndex"])

    def admin(self, page: str) -> Any:
        """An admin page, decoded."""
        return fetch(self.admin_port, page).json()

    def waiting_for(self) -> list[str]:
        """What it waits for before it is ready; empty once it is."""
        found: list[str] = self.admin("/readyz")["waitingFor"]
        return found

    def terminate(self, within: float = 10.0) -> float:
        """Ends it as Nomad does, and checks that it ends well: code 0, no traceback; the seconds that it took."""
        began = time.monotonic()
        self.server.process.terminate()
        code = self.server.process.wait(within)
        took = time.monotonic() - began
        log = self.server.log.read_text()
        assert code == 0, log[-3000:]
        assert "Traceback" not in log, log[-3000:]
        return took

    def problems_of(self, name: str) -> list[dict[str, Any]]:
        """What the admin page says of an object."""
        return [problem for problem in self.admin("/problems") if name in json.dumps(problem)]


def start_daemon(
    folder: Path,
    consul: ConsulAgent,
    root: str,
    ports: Callable[[], int],
    *,
    roles: tuple[str, ...] = ("gloo",),
    settings: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    xds_port: int = 0,
    ready: bool = True,
    program: Path = PROGRAM,
) -> Daemon:
    """Starts the daemon with a Settings file and waits until it is ready, or with *ready* false until it answers.

    *program* may be one that becomes the daemon.
    """
    xds, admin, front_door = xds_port or ports(), ports(), ports()
    document = {
        "metadata": {"name": "default", "namespace": NAMESPACE},
        "consulKvSource": {"rootKey": root},
        "consul": {"httpAddress": consul.address},
        **(settings or {}),
    }
    home = folder / NAMESPACE
    home.mkdir(parents=True, exist_ok=True)
    (home / "default.yaml").write_text(yaml.safe_dump(document))
    command: list[str | Path] = [program, "run", "--dir", folder, "--xds-bind", f"127.0.0.1:{xds}"]
    command += ["--admin-bind", f"127.0.0.1:{admin}", "--front-door-bind", f"127.0.0.1:{front_door}"]
    for role in roles:
        command += ["--role", role]
    server = start_process("gloo-nomad", command, folder / "gloo.log", env={**os.environ, **(environ or {})})
    wait_ready(server, lambda: fetch(admin, "/readyz").status == 200 or not ready)
    return Daemon(server, consul, root, xds, admin, front_door)
