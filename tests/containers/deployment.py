"""A Compose deployment as users start it, and what it answers."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gloo_nomad.demo.fetch import Answer, fetch
from tests.containers.engine import Engine, checked

START_SECONDS = 120.0


@dataclass(frozen=True)
class Deployment:
    """A deployment that is up."""

    engine: Engine
    folder: Path
    project: str

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return self.engine.container(self.project, service)

    def logs(self) -> str:
        """What all containers printed last."""
        names = self.engine.run("ps", "--all", "--format", "{{.Names}}").split()
        return "\n".join(f"--- {name}\n{self.engine.logs(name)[-1500:]}" for name in names)

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> float:
        """Waits until something holds; the seconds that it took."""
        began = time.monotonic()
        while True:
            try:
                if condition():
                    return time.monotonic() - began
            except OSError:
                pass
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.logs()}")
            time.sleep(0.02)

    def wait_for_answer(self, port: int, path: str, expected: str, seconds: float = START_SECONDS) -> float:
        """Waits until a request to Envoy is answered with 200 and this text in the body."""
        return self.wait_for(lambda: expected in _body(fetch(port, path)), f"{expected!r} at {port}{path}", seconds)


def _body(answer: Answer) -> str:
    return answer.text if answer.status == 200 else ""


@contextmanager
def deployed(engine: Engine, folder: Path, project: str, env: Mapping[str, str]) -> Iterator[Deployment]:
    """``compose up``, and at the end ``compose down`` with everything that belongs to it."""
    deployment = Deployment(engine, folder, project)
    compose = partial(engine.compose, folder, "--project-name", project, env=env)
    try:
        checked(compose("up", "--detach", "--no-build"))
        yield deployment
    finally:
        checked(compose("down", "--volumes", "--timeout", "20"))


def leftovers(engine: Engine) -> list[str]:
    """Containers, volumes and networks that are there, apart from the engine's own networks."""
    listings = (
        engine.run("ps", "--all", "--format", "{{.Names}}"),
        engine.run("volume", "ls", "--format", "{{.Name}}"),
        engine.run("network", "ls", "--format", "{{.Name}}"),
    )
    return [name for listing in listings for name in listing.split() if name not in engine.own_networks]
