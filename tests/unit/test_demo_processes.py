"""Child processes: started, waited for, stopped with all they started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.families import is_running
from gloo_nomad.demo.ports import is_free, require_free
from gloo_nomad.demo.processes import ServerError, start_process, wait_ready, wait_until

_PARENT = """
import pathlib, signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""


@pytest.mark.parametrize("manner", ["polite", "deaf"])
def test_stop_leaves_no_child(tmp_path: Path, manner: str) -> None:
    """A stopped server's child is gone too, in a session of its own or not, and SIGKILL follows an ignored SIGTERM."""
    written = tmp_path / "pid"
    server = start_process("parent", [sys.executable, "-c", _PARENT, str(written), manner], tmp_path / "log")
    wait_ready(server, lambda: written.exists() and written.read_text() != "")
    child = int(written.read_text())
    assert is_running(child)

    began = time.monotonic()
    server.stop(grace=0.5)

    assert not server.running
    wait_until(lambda: not is_running(child), "the end of the child", 5.0)
    assert time.monotonic() - began < 5


def test_a_server_that_ends_is_reported_with_its_log(tmp_path: Path) -> None:
    """A server that ends before it is ready raises an error with its code and its last lines."""
    script = "print('no such configuration'); raise SystemExit(3)"
    server = start_process("brief", [sys.executable, "-c", script], tmp_path / "log")

    with pytest.raises(ServerError) as caught:
        wait_ready(server, lambda: False)

    assert str(caught.value) == "brief ended with code 3:\nno such configuration"


def test_a_server_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    """A server that does not become ready in time is stopped and named."""
    server = start_process("slow", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log")

    with pytest.raises(ServerError) as caught:
        wait_ready(server, lambda: False, seconds=0.2)

    assert str(caught.value).startswith("slow was not ready after 0.2 s")
    assert not server.running


def test_a_missing_program_has_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is nowhere is an error that says what to run."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(ServerError) as caught:
        find_binary("nomad", [])

    assert "nomad is not on this machine: run `make servers`" in str(caught.value)


def test_a_program_named_by_the_environment_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that names no program is an error that names the variable."""
    monkeypatch.setenv("CONSUL", str(tmp_path / "gone"))

    with pytest.raises(ServerError) as caught:
        find_binary("consul")

    assert f"CONSUL says {tmp_path / 'gone'}, which is not a program" in str(caught.value)


def test_a_program_cannot_be_started(tmp_path: Path) -> None:
    """A program that is none is an error, not a traceback."""
    with pytest.raises(ServerError) as caught:
        start_process("nothing", [tmp_path / "nothing"], tmp_path / "log")

    assert str(caught.value).startswith("nothing cannot be started: ")


def test_free_ports_differ_and_are_free(free_port: Callable[[], int]) -> None:
    """No port is given out twice, and each could be listened on."""
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == 50
    assert all(is_free(port) for port in ports)


def test_a_port_in_use_is_one_clear_line(run_echo: Callable[..., int]) -> None:
    """A port that somebody listens on is an error that names the port, its purpose and the remedy."""
    port = run_echo()

    with pytest.raises(ServerError) as caught:
        require_free(port, "HTTP", "set HTTP_PORT")

    assert str(caught.value) == f"port {port} (HTTP) is in use: set HTTP_PORT"


def test_the_environment_is_replaced(tmp_path: Path) -> None:
    """A given environment is the whole environment of the server."""
    os.environ["GLOO_NOMAD_LEAK"] = "yes"
    script = "import os, sys; print(sorted(os.environ)); sys.stdout.flush()"
    server = start_process("env", [sys.executable, "-c", script], tmp_path / "log", env={"ONLY": "1"})
    server.process.wait(20)
    del os.environ["GLOO_NOMAD_LEAK"]

    assert "'ONLY'" in server.log_tail()
    assert "GLOO_NOMAD_LEAK" not in server.log_tail()


_KILLED = """
import os, pathlib, signal, sys
from gloo_nomad.demo.processes import start_process, wait_ready
folder = pathlib.Path(sys.argv[1])
servers = [start_process(name, [sys.executable, "-c", sys.argv[2], folder / name], folder / "log") for name in "ab"]
for server in servers:
    wait_ready(server, lambda: (folder / server.name).exists() and (folder / server.name).read_text() != "")
servers[0].stop()
(folder / "pid").write_text(str(servers[1].pid))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_parent_leaves_no_server(tmp_path: Path) -> None:
    """The servers of a process that was killed, and what they started, end soon after it."""
    done = subprocess.run([sys.executable, "-c", _KILLED, tmp_path, _PARENT], check=False, timeout=60)

    assert done.returncode == -signal.SIGKILL
    assert not is_running(int((tmp_path / "a").read_text()))
    for file in ("pid", "b"):
        pid = int((tmp_path / file).read_text())
        wait_until(lambda pid=pid: not is_running(pid), f"the end of {file}", 10.0)  # type: ignore[misc]
