"""The daemon as a process: it starts, tells what it does, and ends as it should."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from gloo_nomad.demo.consul import ConsulAgent

SEED = Path(__file__).parents[2] / "consul-kv-seed"
Start = Callable[..., "subprocess.Popen[str]"]


def page(port: int, path: str) -> tuple[int, Any]:
    """A page of the admin address: status and body; (0, None) if nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:  # loopback
            return answer.status, json.loads(answer.read())
    except HTTPError as failure:
        return failure.code, json.loads(failure.read())
    except URLError:
        return 0, None


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Waits until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts ``gloo-nomad ARGUMENTS``; what still runs after the test is ended."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **environ: str) -> "subprocess.Popen[str]":
        known = {name: value for name, value in os.environ.items() if name != "POD_NAMESPACE"}
        process = subprocess.Popen(
            [sys.executable, "-m", "gloo_nomad", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**known, **environ},
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        if not process.stderr or not process.stderr.closed:
            print(process.communicate()[1])


def test_a_folder(start: Start, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """A folder is served: ready, its objects and Envoy's resources on the pages, edits live, and a clean end."""
    shutil.copytree(SEED, tmp_path / "objects")
    admin, xds = free_port(), free_port()
    process = start(
        "run",
        "--config-dir",
        str(tmp_path / "objects"),
        "--xds-bind",
        f"127.0.0.1:{xds}",
        "--admin-bind",
        f"127.0.0.1:{admin}",
    )
    until(lambda: page(admin, "/readyz")[0] == 200)
    role = page(admin, "/snapshots/xds")[1]["gloo-system~gateway-proxy"]
    assert role["clusters"]
    assert page(admin, "/healthz")[1]["status"] == "ok"
    asked = start("ready", "--admin-address", f"127.0.0.1:{admin}")
    asked.communicate(timeout=20)
    assert asked.returncode == 0
    with socket.create_connection(("127.0.0.1", xds), timeout=5):
        pass
    added = tmp_path / "objects/gloo/gloo.solo.io/v1/Upstream/gloo-system/new.yaml"
    added.write_text("metadata: {namespace: gloo-system, name: new}\nstatic: {hosts: [{addr: 127.0.0.1, port: 80}]}\n")

    def served() -> bool:
        return "new_gloo-system" in page(admin, "/snapshots/xds")[1]["gloo-system~gateway-proxy"]["clusters"]

    until(served)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert all(json.loads(line)["level"] in {"info", "warning"} for line in errors.splitlines())


def test_interrupted(start: Start, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Ctrl-C ends the daemon without a traceback."""
    admin = free_port()
    binds = ("--xds-bind", f"127.0.0.1:{free_port()}", "--admin-bind", f"127.0.0.1:{admin}")
    process = start("run", "--config-dir", str(tmp_path), *binds)
    until(lambda: page(admin, "/healthz")[0] == 200)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode in {0, 130}
    assert "Traceback" not in errors


def test_no_such_folder(start: Start, tmp_path: Path) -> None:
    """A folder that does not exist is a mistake on the command line: one line, and the end."""
    missing = tmp_path / "missing"
    process = start("run", "--config-dir", str(missing))
    _, errors = process.communicate(timeout=30)
    assert errors == f"gloo-nomad: --config-dir: there is no folder {missing}; create it, or correct the path\n"
    assert process.returncode == 1


@pytest.mark.parametrize(("option", "purpose"), [("--admin-bind", "the admin server"), ("--xds-bind", "xDS")])
def test_taken_port(start: Start, tmp_path: Path, free_port: Callable[[], int], option: str, purpose: str) -> None:
    """A port in use ends the daemon with one clear line."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        binds = {"--xds-bind": free_port(), "--admin-bind": free_port(), option: port}
        arguments = [part for name, value in binds.items() for part in (name, f"127.0.0.1:{value}")]
        _, errors = start("run", "--config-dir", str(tmp_path), *arguments).communicate(timeout=30)
    assert errors == (
        f"gloo-nomad: {purpose} cannot listen on 127.0.0.1:{port}: the port is taken by another process; "
        f"stop that one, or choose another port ({option})\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nowhere to read objects from: give --dir"),
        (("--dir", "/nonexistent"), "cannot read the Settings file /nonexistent/gloo-system/default.yaml"),
        (("--role", "glue"), 'there is no role "glue"; known are gloo, gateway, discovery'),
        (("--config-dir", "/tmp", "--xds-bind", "9977"), '"9977" is not host:port'),
        (("--log-level", "loud", "--config-dir", "/tmp"), '"loud" is no level; known are debug'),
        (("--consul-address", "ftp://x"), "expected host:port"),
        (("--config-dir", "/tmp"), "xDS would be plain text on 0.0.0.0:9977"),
        (("--config-dir", "/tmp", "--xds-bind", "[::]:9977"), "--xds-bind 127.0.0.1:9977"),
        (("--config-dir", "/tmp", "--xds-tls", "dev"), "xdsTlsFolder: is missing; xdsTls: dev needs its path"),
        (("--config-dir", "/tmp", "--xds-tls", "dev", "--xds-tls-folder", "/dev/null"), "cannot be kept in /dev/null"),
        (("--config-dir", "/tmp", "--xds-tls", "files"), "xdsClientRoles: is missing; write which identity"),
        (
            ("--consul-address", "127.0.0.1:9", "--role", "gateway", "--front-door-bind", "0.0.0.0:9095"),
            "the front door on 0.0.0.0:9095 would let everybody write: set GLOO_NOMAD_API_TOKENS",
        ),
        (("--config-dir", "/tmp", "--xds-tls", "none"), "xdsTls: is to be one of files, vault, dev, plaintext"),
    ],
)
def test_bad_start(start: Start, arguments: tuple[str, ...], message: str) -> None:
    """What cannot be started is one line and exit code 1."""
    process = start("run", *arguments)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.startswith("gloo-nomad: ")
    assert message in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.consul
def test_consul(start: Start, consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """All roles on Consul: default Gateways are made, statuses written, the REST API and ``check`` work."""
    (tmp_path / "gloo-system").mkdir()
    settings = {
        "metadata": {"namespace": "gloo-system", "name": "default"},
        "consulKvSource": {"rootKey": root_key},
        "consul": {"httpAddress": consul.address},
    }
    (tmp_path / "gloo-system/default.yaml").write_text(json.dumps(settings))
    admin, door = free_port(), free_port()
    binds = (
        "--xds-bind",
        f"127.0.0.1:{free_port()}",
        "--admin-bind",
        f"127.0.0.1:{admin}",
        "--front-door-bind",
        f"127.0.0.1:{door}",
    )
    process = start("run", "--dir", str(tmp_path), *binds)
    until(lambda: page(admin, "/readyz")[0] == 200)
    gateways = f"{root_key}/gateway.solo.io/v1/Gateway/gloo-system"
    until(lambda: b"Accepted" in (consul.get(f"{gateways}/gateway-proxy") or b""))
    assert page(door, "/v1/objects/gw")[1]["items"][0]["metadata"]["name"] == "gateway-proxy"
    common = ("--consul-root-key", root_key, "--consul-address", consul.address)
    checked = start("check", "--admin-address", f"127.0.0.1:{admin}", "-o", "json", *common)
    findings = json.loads(checked.communicate(timeout=30)[0])["findings"]
    assert checked.returncode == 0
    assert {finding["level"] for finding in findings} <= {"ok", "warning"}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
