"""The scripts behind the make targets: what they do with what a machine has, and the one line when it has not."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
_TOOLS = (
    "bash",
    "awk",
    "cp",
    "cut",
    "dirname",
    "grep",
    "head",
    "ln",
    "mkdir",
    "mv",
    "readlink",
    "sha256sum",
    "sleep",
    "sort",
    "tail",
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout of the scripts, with a folder ``bin`` that holds the plain tools and nothing else."""
    shutil.copytree(CHECKOUT / ".ci", tmp_path / "checkout/.ci")
    shutil.copytree(CHECKOUT / "tests/servers/go", tmp_path / "checkout/tests/servers/go")
    (tmp_path / "bin").mkdir()
    for tool in _TOOLS:
        path = shutil.which(tool)
        assert path is not None
        (tmp_path / "bin" / tool).symlink_to(path)
    return tmp_path


def _install(machine: Path, name: str, script: str) -> Path:
    program = machine / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def _run(machine: Path, script: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    path = ":".join(map(str, (*folders, machine / "bin")))
    env = {"PATH": path, "HOME": str(machine), "XDG_CACHE_HOME": str(machine / "cache")}
    line = ["bash", str(machine / "checkout/.ci" / script)]
    return subprocess.run(line, env=env, capture_output=True, check=False, timeout=60, text=True)


def test_installed_servers_are_linked(machine: Path) -> None:
    """A consul and a nomad that are new enough are used as they are."""
    consul = _install(machine, "consul", "echo Consul v1.22.0")
    nomad = _install(machine, "nomad", "echo Nomad v1.11.1")

    done = _run(machine, "servers")

    assert (done.returncode, done.stderr) == (0, "")
    assert (machine / "checkout/.servers/consul").readlink() == consul
    assert (machine / "checkout/.servers/nomad").readlink() == nomad


def test_servers_on_the_path_are_not_linked_to_themselves(machine: Path) -> None:
    """With ``.servers`` on PATH, as the line of ``make demo-nomad`` puts it there, a second run leaves it as it is."""
    consul = _install(machine, "consul", "echo Consul v1.22.0")
    nomad = _install(machine, "nomad", "echo Nomad v1.11.1")
    servers = machine / "checkout/.servers"
    _run(machine, "servers")

    done = _run(machine, "servers", servers)

    assert (done.returncode, done.stderr) == (0, "")
    assert ((servers / "consul").readlink(), (servers / "nomad").readlink()) == (consul, nomad)


def test_old_servers_without_go_are_one_clear_line(machine: Path) -> None:
    """A consul that is too old and no Go: the line says which versions to install."""
    _install(machine, "consul", "echo Consul v1.9.3")

    done = _run(machine, "servers")

    assert done.returncode == 1
    assert done.stderr == "servers: consul 1.18.0 or newer is not installed: install it, or Go 1.26.8 to build it\n"


def test_servers_are_built_once_outside_the_checkout(machine: Path) -> None:
    """Go builds a server into the cache, with a line about the progress; a second run builds nothing."""
    _install(machine, "nomad", "echo Nomad v1.11.1")
    _install(machine, "go", 'echo built >>"$HOME/builds"; echo "#!/bin/sh" >"$3"; chmod +x "$3"')
    for tool in ("chmod", "cat"):
        (machine / "bin" / tool).symlink_to(str(shutil.which(tool)))

    first = _run(machine, "servers")
    second = _run(machine, "servers")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "servers: building consul with Go" in first.stdout
    assert second.stdout == ""
    assert (machine / "builds").read_text() == "built\n"
    target = (machine / "checkout/.servers/consul").readlink()
    assert target.is_relative_to(machine / "cache/gloo-nomad/servers")
    assert os.access(target, os.X_OK)


def test_a_failed_build_is_one_clear_line(machine: Path) -> None:
    """A build that fails names the server, Go's last line and the log."""
    _install(machine, "go", "echo no such module >&2; exit 1")

    done = _run(machine, "servers")

    assert done.returncode == 1
    assert done.stderr.startswith("servers: consul cannot be built: no such module (log: ")
    assert done.stderr.count("\n") == 1


def test_no_python_is_one_clear_line(machine: Path) -> None:
    """Without Python the line says which one to install."""
    done = _run(machine, "setup")

    assert (done.returncode, done.stderr) == (
        1,
        "setup: python3 is not on this machine: install Python 3.11 or newer\n",
    )


def test_an_old_python_is_one_clear_line(machine: Path) -> None:
    """A Python before 3.11 is refused by its version."""
    _install(machine, "python3", 'test "$1" = --version && echo Python 3.9.2 || exit 1')

    done = _run(machine, "setup")

    assert done.returncode == 1
    assert done.stderr == (
        "setup: Python 3.9.2 is too old: install Python 3.11 or newer, or say PYTHON=/path/to/python3.11\n"
    )


def test_no_venv_module_is_one_clear_line(machine: Path) -> None:
    """A Python without the module venv is told how to get it."""
    _install(machine, "python3", 'case "$2" in *venv*) exit 1;; esac; exit 0')

    done = _run(machine, "setup")

    assert done.returncode == 1
    assert done.stderr == (
        "setup: python3 cannot make virtual environments: install its venv module (Debian: apt install python3-venv)\n"
    )


def test_no_network_is_one_clear_line(machine: Path) -> None:
    """When pip cannot reach its index, the line says so and where the details are."""
    python = machine / "checkout/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ntest "$1" = -c && exit 0\necho "Failed to establish a new connection"; exit 1\n')
    python.chmod(0o755)
    _install(machine, "python3", "exit 0")

    done = _run(machine, "setup")

    assert done.returncode == 1
    assert done.stderr == (
        "setup: packages cannot be downloaded; is there a network, a proxy to set? (details: .venv/setup.log)\n"
    )


def test_make_lists_its_targets() -> None:
    """``make`` alone explains every target."""
    done = subprocess.run(["make", "-C", str(CHECKOUT)], capture_output=True, check=True, text=True, timeout=20)

    for target in ("setup", "servers", "check", "test", "golden", "bench", "demo", "demo-nomad", "seed", "clean"):
        assert f"make {target} " in done.stdout
