"""Podman with a storage of its own, and podman-compose on it."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from gloo_nomad.demo.processes import start_process, wait_ready
from tests.containers.engine import Engine, known_environment

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


class Podman(Engine):
    """Podman. It has no daemon, so nobody but the caller runs health checks where systemd does not."""

    build_command = ("build", "--format", "docker", "--layers=false")
    own_networks = frozenset({"podman"})

    @property
    def environment(self) -> dict[str, str]:
        """What podman needs on a machine without systemd, an overlay file system or its cgroups."""
        configuration = {"CONTAINERS_CONF": str(self.folder / "containers.conf"), "STORAGE_DRIVER": "vfs"}
        builds = {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self.folder / "tmp")}
        return {**known_environment(), **configuration, **builds}

    def compose_command(self) -> Sequence[str]:
        """podman-compose, on this podman."""
        return [sys.executable, "-m", "podman_compose", "--podman-path", str(self.program)]

    def container(self, project: str, service: str) -> str:
        """podman-compose joins by underscores."""
        return f"{project}_{service}_1"

    def is_healthy(self, name: str) -> bool:
        """Runs a container's health check once: systemd does it elsewhere."""
        return self.call([str(self.program), "healthcheck", "run", name], seconds=30).returncode == 0

    def health_check(self, image: str) -> Sequence[str]:
        """Stands beside the image's configuration."""
        return cast("list[str]", self.inspect(image)["Healthcheck"]["Test"])

    @contextmanager
    def listening(self) -> Iterator[Path]:
        """Its service for Docker's clients, as long as it is used."""
        socket = self.folder / "podman.sock"
        line: list[Any] = [self.program, "system", "service", "--time=0", f"unix://{socket}"]
        with start_process("podman", line, self.folder / "service.log", env=self.environment) as service:
            wait_ready(service, socket.exists)
            yield socket


@contextmanager
def open_podman(folder: Path) -> Iterator[Podman]:
    """An engine without anything in it; at the end all its containers are gone, and its storage of several GiB."""
    podman = Podman(folder)
    (folder / "tmp").mkdir(parents=True)
    (folder / "containers.conf").write_text(_CONFIGURATION)
    places = {"--root": "storage", "--runroot": "run", "--network-config-dir": "networks", "--tmpdir": "libpod"}
    options = " ".join(f"{option} {folder / place}" for option, place in places.items())
    podman.write_program(f'exec podman {options} "$@"')
    try:
        yield podman
    finally:
        podman.run("rm", "--all", "--force", "--time", "0", check=False)
        podman.run("network", "prune", "--force", check=False)
        shutil.rmtree(folder, ignore_errors=True)
