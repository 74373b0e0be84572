"""Docker's engine with a storage of its own, and Docker Compose on it.

The programs are those of the folder ``GLOO_NOMAD_TEST_DOCKER``, which has Debian's packages unpacked in it
(``.ci/containers``). ``GLOO_NOMAD_TEST_COMPOSE`` may name another file as Compose's plug-in.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, cast

from gloo_nomad.demo.processes import ServerProcess, start_process, wait_ready
from tests.containers.engine import Engine, known_environment

_CGROUPS: Final = Path("/sys/fs/cgroup")


class Docker(Engine):
    """Docker. Its daemon runs health checks, and Compose waits for them."""

    build_command = ("buildx", "build")
    own_networks = frozenset({"bridge", "host", "none"})

    @property
    def socket(self) -> Path:
        """Where the daemon listens."""
        return self.folder / "docker.sock"

    @property
    def environment(self) -> dict[str, str]:
        """The engine's programs before the machine's, and a configuration with the plug-ins in it."""
        known = known_environment()
        root = Path(os.environ["GLOO_NOMAD_TEST_DOCKER"])
        path = [str(root / "usr/bin"), str(root / "usr/sbin"), known.get("PATH", "")]
        here = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.folder / "config")}
        return {**known, **here, "PATH": ":".join(path)}

    def compose_command(self) -> Sequence[str]:
        """A plug-in of the command ``docker``."""
        return [str(self.program), "compose"]

    def container(self, project: str, service: str) -> str:
        """Docker Compose joins by hyphens."""
        return f"{project}-{service}-1"

    def is_healthy(self, name: str) -> bool:
        """What the daemon's last check said."""
        return bool(self.inspect(name)["State"].get("Health", {}).get("Status") == "healthy")

    def health_check(self, image: str) -> Sequence[str]:
        """Part of the image's configuration."""
        return cast("list[str]", self.inspect(image)["Config"]["Healthcheck"]["Test"])

    @contextmanager
    def listening(self) -> Iterator[Path]:
        """The daemon's own socket."""
        yield self.socket


@contextmanager
def open_docker(folder: Path) -> Iterator[Docker]:
    """A daemon without anything in it; at the end it is stopped, and its containers, storage and cgroups are gone."""
    docker = Docker(folder)
    root = Path(os.environ["GLOO_NOMAD_TEST_DOCKER"])
    plugins = folder / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    for plugin in (root / "usr/libexec/docker/cli-plugins").iterdir():
        (plugins / plugin.name).symlink_to(plugin)
    if given := os.environ.get("GLOO_NOMAD_TEST_COMPOSE"):
        (plugins / "docker-compose").unlink(missing_ok=True)
        (plugins / "docker-compose").symlink_to(given)
    docker.write_program('exec docker "$@"')
    cgroup = f"gloo-nomad-tests-{os.getpid()}"
    daemon = _start(docker, cgroup)
    try:
        yield docker
    finally:
        names = docker.run("ps", "--all", "--quiet", check=False).split()
        docker.run("rm", "--force", *names, check=False)
        daemon.stop(30)
        for parent in _CGROUPS.glob(f"*/{cgroup}"):
            _remove_cgroup(parent)
        shutil.rmtree(folder, ignore_errors=True)


def _start(docker: Docker, cgroup: str) -> ServerProcess:
    places = {"--data-root": "data", "--exec-root": "run", "--pidfile": "pid"}
    options = [part for option, place in places.items() for part in (option, str(docker.folder / place))]
    cgroups = ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{cgroup}"]
    line = ["dockerd", "--config-file", os.devnull, "--host", f"unix://{docker.socket}", *options, *cgroups]
    daemon = start_process("dockerd", ["env", *line], docker.folder / "dockerd.log", env=docker.environment)
    wait_ready(daemon, lambda: docker.call([str(docker.program), "version"]).returncode == 0)
    return daemon


def _remove_cgroup(folder: Path) -> None:
    for child in (*folder.glob("*/"), folder):
        with suppress(OSError):
            child.rmdir() if child == folder else _remove_cgroup(child)
