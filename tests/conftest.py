"""Real servers for all tests: each is started when the first test asks for it, once per run (per worker with -n)."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.consul import ConsulAgent, start_consul
from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, start_envoy
from gloo_nomad.demo.nomad import NomadAgent, start_nomad
from gloo_nomad.demo.openbao import OpenBao, start_openbao
from gloo_nomad.demo.ports import free_port as find_free_port
from gloo_nomad.demo.ports import keep_to_part
from gloo_nomad.demo.processes import ServerError, ServerProcess
from tests.site import Place

CHECKOUT = Path(__file__).parent.parent
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
_numbers = itertools.count(1)
keep_to_part(
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)


def _require(name: str) -> Path:
    """The program, or a failed test whose one line says what to install: a missing server never skips a test."""
    try:
        return find_binary(name, [CHECKOUT / ".servers"])
    except ServerError as failure:
        missing = str(failure)
    return pytest.fail(missing, pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> None:
    """Takes away what leads clients to other servers, and the width that xdist gives to its workers."""
    for name in list(os.environ):
        if name.startswith(("CONSUL_", "VAULT_", "NOMAD_", "BAO_")) or name == "COLUMNS":
            del os.environ[name]


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a port that nobody listens on, another one at each call."""
    return find_free_port


@pytest.fixture(scope="session")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulAgent]:
    """A Consul agent for all tests; a test keeps to its ``root_key`` and to service names of its own."""
    agent = start_consul(tmp_path_factory.mktemp("consul"), binary=_require("consul"))
    yield agent
    agent.stop()


@pytest.fixture
def new_consul(tmp_path: Path) -> Iterator[Callable[..., ConsulAgent]]:
    """Starts Consul agents of the test's own, which it may stop and start again; takes what ``start_consul`` takes."""
    agents: list[ConsulAgent] = []
    binary = _require("consul")

    def start(**options: Any) -> ConsulAgent:
        agents.append(start_consul(tmp_path / f"consul-{len(agents)}", binary=binary, **options))
        return agents[-1]

    yield start
    for agent in agents:
        agent.stop()


@pytest.fixture
def root_key(consul: ConsulAgent) -> Iterator[str]:
    """A root of the KV tree that no other test has; emptied afterwards."""
    root = f"gloo-{os.getpid()}-{next(_numbers)}"
    yield root
    consul.delete(f"{root}/", recurse=True)


@pytest.fixture(scope="session")
def nomad(tmp_path_factory: pytest.TempPathFactory, consul: ConsulAgent) -> Iterator[NomadAgent]:
    """A Nomad agent for all tests, with its services in ``consul``; a test stops the jobs it starts."""
    agent = start_nomad(tmp_path_factory.mktemp("nomad"), binary=_require("nomad"), consul=consul)
    yield agent
    agent.stop()


@pytest.fixture
def new_nomad(tmp_path: Path) -> Iterator[Callable[..., NomadAgent]]:
    """Starts Nomad agents of the test's own; takes what ``start_nomad`` takes."""
    agents: list[NomadAgent] = []
    binary = _require("nomad")

    def start(**options: Any) -> NomadAgent:
        agents.append(start_nomad(tmp_path / f"nomad-{len(agents)}", binary=binary, **options))
        return agents[-1]

    yield start
    for agent in agents:
        agent.stop()


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """An OpenBao server for all tests; a test keeps to names or a root key of its own."""
    server = start_openbao(tmp_path_factory.mktemp("openbao"), binary=_require("bao"))
    yield server
    server.stop()


@pytest.fixture
def new_openbao(tmp_path: Path) -> Iterator[Callable[..., OpenBao]]:
    """Starts OpenBao servers of the test's own; takes what ``start_openbao`` takes."""
    servers: list[OpenBao] = []
    binary = _require("bao")

    def start(**options: Any) -> OpenBao:
        servers.append(start_openbao(tmp_path / f"openbao-{len(servers)}", binary=binary, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def envoy_binary() -> Path:
    """The Envoy that the tests run."""
    return _require("envoy")


@pytest.fixture
def run_envoy(tmp_path: Path, envoy_binary: Path) -> Iterator[Callable[..., Envoy]]:
    """Starts an Envoy with a bootstrap, and stops it after the test; takes what ``start_envoy`` takes."""
    running: list[Envoy] = []

    def start(bootstrap: Mapping[str, Any], **options: Any) -> Envoy:
        running.append(start_envoy(tmp_path / "envoy", bootstrap, binary=envoy_binary, **options))
        return running[-1]

    yield start
    for envoy in running:
        envoy.stop()


@pytest.fixture
def run_echo(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts an echo service under a name and returns its port; it is stopped after the test."""
    running: list[ServerProcess] = []

    def start(name: str = "echo", port: int | None = None) -> int:
        server, listening = start_echo(tmp_path / "echo", name=name, port=port)
        running.append(server)
        return listening

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def place(
    consul: ConsulAgent,
    root_key: str,
    tmp_path: Path,
    free_port: Callable[[], int],
    run_envoy: Callable[..., Envoy],
) -> Iterator[Place]:
    """Daemons on the common Consul, below a root of the test's own, each with an Envoy if the test wants one."""
    found = Place(tmp_path, consul, root_key, free_port, run_envoy)
    yield found
    found.stop()
