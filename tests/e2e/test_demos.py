"""The demos as a newcomer runs them: real answers, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gloo_nomad.demo import seed
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until

CHECKOUT = Path(__file__).parent.parent.parent
Start = Callable[[str, str], subprocess.Popen[str]]


@pytest.fixture
def http_port(free_port: Callable[[], int]) -> int:
    """The port on which a demo shall answer."""
    return free_port()


@pytest.fixture
def start_demo(tmp_path: Path, http_port: int, free_port: Callable[[], int], envoy_binary: Path) -> Iterator[Start]:
    """Starts a demo by its module and running time; its temporary files are below the test's folder."""
    ports = {"HTTP_PORT": http_port, "HTTPS_PORT": free_port(), "ENVOY_ADMIN_PORT": free_port()}
    running: list[subprocess.Popen[str]] = []

    def start(module: str, seconds: str) -> subprocess.Popen[str]:
        env = {**os.environ, **{name: str(port) for name, port in ports.items()}}
        env |= {"DEMO_SECONDS": seconds, "TMPDIR": str(tmp_path), "ENVOY": str(envoy_binary)}
        line = [sys.executable, "-m", "gloo_nomad.demo", module]
        demo = subprocess.Popen(line, env=env, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(demo)
        return demo

    yield start
    for demo in running:
        demo.terminate()
        with demo:
            demo.wait(60)


def _processes_of(folder: Path) -> list[str]:
    """The command lines that name the folder of a demo."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.parametrize(
    "module",
    [
        pytest.param("folder", marks=[pytest.mark.envoy, pytest.mark.bao]),
        pytest.param("cluster", marks=[pytest.mark.envoy, pytest.mark.bao, pytest.mark.consul, pytest.mark.nomad]),
    ],
)
def test_a_demo_answers_and_cleans_up(start_demo: Start, module: str, tmp_path: Path) -> None:
    """A demo shows an answer over HTTP and one over HTTPS, ends in time, and leaves neither file nor process."""
    demo = start_demo(module, "1")

    shown, errors = demo.communicate(timeout=200)

    assert (demo.returncode, errors) == (0, "")
    assert len(re.findall(r'^  200 {"instance": "echo.*"path": "/hello"', shown, re.MULTILINE)) == 2
    assert "$ curl http://localhost:" in shown
    assert "$ curl --cacert " in shown
    assert _processes_of(tmp_path) == []
    assert [path for path in tmp_path.iterdir() if path.name.startswith("gloo-nomad-demo-")] == []


@pytest.mark.envoy
@pytest.mark.bao
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo(start_demo: Start, http_port: int, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end a running demo with code 0 and clean up."""
    demo = start_demo("folder", "0")
    wait_until(lambda: fetch(http_port, "/echo/hello").status == 200, "the first answer")

    demo.send_signal(number)
    demo.communicate(timeout=60)

    assert demo.returncode == 0
    assert _processes_of(tmp_path) == []


@pytest.mark.envoy
@pytest.mark.bao
def test_a_demo_whose_server_dies_ends(start_demo: Start, http_port: int, tmp_path: Path) -> None:
    """When Envoy dies, the demo says so with its log, ends with code 1 and cleans up."""
    demo = start_demo("folder", "0")
    wait_until(lambda: fetch(http_port, "/echo/hello").status == 200, "the first answer")

    for process in psutil.Process(demo.pid).children():
        if "envoy" in Path(process.exe()).name:
            process.kill()
    _, errors = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert errors.startswith("demo: envoy ended with code -9")
    assert _processes_of(tmp_path) == []


@pytest.mark.consul
def test_the_seed_is_applied(new_consul: Callable[..., ConsulAgent]) -> None:
    """``gloo-nomad apply consul-kv-seed/`` writes every object of the seed to its key."""
    consul = new_consul()
    line = [sys.executable, "-m", "gloo_nomad", "apply", "consul-kv-seed/"]
    subprocess.run(line, env={**os.environ, **consul.environment}, cwd=CHECKOUT, check=True, timeout=60)

    written = {example.key for example in seed.read_seed(CHECKOUT / "consul-kv-seed") if consul.get(example.key)}

    assert written == {example.key for example in seed.read_seed(CHECKOUT / "consul-kv-seed")}
