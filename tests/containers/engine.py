"""A container engine with a storage of its own: what the tests ask of podman and of Docker alike."""

import json
import os
import stat
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from gloo_nomad.demo.processes import ServerError

SECONDS: Final = 300.0
"""How long one command may take."""


@dataclass(frozen=True)
class Engine(ABC):
    """One engine. Everything that it keeps is below *folder*."""

    folder: Path
    build_command: ClassVar[Sequence[str]]
    """What builds an image, with the options that this engine needs."""
    own_networks: ClassVar[frozenset[str]]
    """Networks that are there without anybody's making them."""

    @property
    def program(self) -> Path:
        """A script that is the engine's command with this engine's folders."""
        return self.folder / "engine"

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""

    @abstractmethod
    def compose_command(self) -> Sequence[str]:
        """Compose on this engine."""

    @abstractmethod
    def container(self, project: str, service: str) -> str:
        """What Compose calls the container of a service."""

    @abstractmethod
    def is_healthy(self, name: str) -> bool:
        """Whether a container's health check passes."""

    @abstractmethod
    def health_check(self, image: str) -> Sequence[str]:
        """The health check that an image has."""

    @abstractmethod
    @contextmanager
    def listening(self) -> Iterator[Path]:
        """The socket on which it serves Docker's API."""

    def write_program(self, text: str) -> None:
        """Makes ``program``."""
        self.program.write_text(f"#!/bin/sh\n{text}\n")
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def run(self, *arguments: str, check: bool = True, seconds: float = SECONDS) -> str:
        """One command of the engine; its standard output. Raises ``ServerError`` with what it printed."""
        done = self.call([str(self.program), *arguments], seconds=seconds)
        return checked(done) if check else done.stdout

    def build(self, context: Path, image: str, *options: str) -> None:
        """Makes an image of a folder with a ``Dockerfile``."""
        self.run(*self.build_command, "--quiet", *options, "--tag", image, str(context), seconds=900)

    def compose(
        self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None, seconds: float = SECONDS
    ) -> "subprocess.CompletedProcess[str]":
        """One command of Compose on the deployment of a folder."""
        files = ["--file", str(folder / "compose.yaml"), "--env-file", str(folder / ".env")]
        return self.call([*self.compose_command(), *files, *arguments], seconds=seconds, cwd=folder, env=env)

    def inspect(self, name: str) -> Mapping[str, Any]:
        """What the engine knows of a container or an image."""
        found: list[Mapping[str, Any]] = json.loads(self.run("inspect", name))
        return found[0]

    def logs(self, name: str) -> str:
        """What a container printed, on both streams."""
        done = self.call([str(self.program), "logs", name])
        return done.stdout + done.stderr

    def call(
        self,
        command: Sequence[str],
        *,
        seconds: float = SECONDS,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Any command in the engine's environment; it may fail."""
        return subprocess.run(
            command,
            env={**self.environment, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )


def checked(done: "subprocess.CompletedProcess[str]") -> str:
    """The standard output of a command that worked. Raises ``ServerError`` for one that did not."""
    if done.returncode:
        told = done.stderr[-3000:]
        raise ServerError(f"{' '.join(done.args[:6])} ...: exit code {done.returncode}: {told}")
    return done.stdout


def known_environment() -> dict[str, str]:
    """What every engine may know of the caller's environment."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
