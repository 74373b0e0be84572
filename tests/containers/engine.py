"""Podman with a storage of its own, and podman-compose on it."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloo_nomad.demo.processes import ServerError

_CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""
_SECONDS = 300.0


@dataclass(frozen=True)
class Podman:
    """One engine. Everything that it keeps is below *folder*."""

    folder: Path

    @property
    def program(self) -> Path:
        """A script that is podman with this engine's folders."""
        return self.folder / "podman"

    @property
    def environment(self) -> dict[str, str]:
        """What podman needs on a machine without systemd, an overlay file system or its cgroups."""
        known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        configuration = {"CONTAINERS_CONF": str(self.folder / "containers.conf"), "STORAGE_DRIVER": "vfs"}
        return {**known, **configuration, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self.folder / "tmp")}

    def run(self, *arguments: str, check: bool = True, seconds: float = _SECONDS, **more: Any) -> str:
        """One podman command; its standard output. Raises ``ServerError`` with what it printed."""
        return self._call([str(self.program), *arguments], check=check, seconds=seconds, **more)

    def compose(
        self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None, seconds: float = _SECONDS
    ) -> str:
        """One podman-compose command on the deployment of a folder."""
        command = [sys.executable, "-m", "podman_compose", "--podman-path", str(self.program)]
        files = ["--file", str(folder / "compose.yaml"), "--env-file", str(folder / ".env")]
        return self._call([*command, *files, *arguments], check=True, seconds=seconds, cwd=folder, env=env)

    def inspect(self, name: str) -> Mapping[str, Any]:
        """What podman knows of a container or an image."""
        found: list[Mapping[str, Any]] = json.loads(self.run("inspect", name))
        return found[0]

    def logs(self, name: str) -> str:
        """What a container printed, on both streams."""
        return self.run("logs", name, check=False, stderr=subprocess.STDOUT)

    def is_healthy(self, name: str) -> bool:
        """Runs a container's health check once: systemd does it elsewhere."""
        command = [str(self.program), "healthcheck", "run", name]
        return (
            subprocess.run(command, env=self.environment, capture_output=True, check=False, timeout=30).returncode == 0
        )

    def _call(
        self,
        command: list[str],
        *,
        check: bool,
        seconds: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stderr: int = subprocess.PIPE,
    ) -> str:
        environment = {**self.environment, **(env or {})}
        done = subprocess.run(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode:
            told = (done.stderr or b"").decode(errors="replace")[-3000:]
            raise ServerError(f"{' '.join(command[:6])} ...: exit code {done.returncode}: {told}")
        return done.stdout.decode(errors="replace")


def open_podman(folder: Path) -> Podman:
    """An engine without anything in it."""
    podman = Podman(folder)
    (folder / "tmp").mkdir(parents=True)
    (folder / "containers.conf").write_text(_CONFIGURATION)
    places = {"--root": "storage", "--runroot": "run", "--network-config-dir": "networks", "--tmpdir": "libpod"}
    options = " ".join(f"{option} {folder / place}" for option, place in places.items())
    podman.program.write_text(f'#!/bin/sh\nexec podman {options} "$@"\n')
    podman.program.chmod(podman.program.stat().st_mode | stat.S_IXUSR)
    return podman
