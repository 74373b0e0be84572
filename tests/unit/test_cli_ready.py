"""``gloo-nomad ready`` runs every few seconds in every container, and so must cost little."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.main import get_command

from gloo_nomad.cli.main import build_app

RUN_AND_TELL = """
import sys
from gloo_nomad.cli.main import main
try:
    main()
finally:
    print(*sys.modules)
"""


def run_ready(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own; at the end it prints which modules it has loaded."""
    command = [sys.executable, "-c", RUN_AND_TELL, "ready", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_nobody_answers(free_port: Callable[[], int]) -> None:
    """Exit code 1 and one line; nothing of the daemon's own is imported for it."""
    port = free_port()
    done = run_ready("--admin-address", f"127.0.0.1:{port}")

    assert done.returncode == 1
    assert done.stderr == f"gloo-nomad: no answer from 127.0.0.1:{port}: Connection refused\n"
    assert not {"google.protobuf", "grpc", "gloo_nomad.api", "gloo_nomad.settings"} & set(done.stdout.split())


@pytest.mark.parametrize("address", ["", "a b", "http://[", "unix:///run/socket"])
def test_no_address(address: str) -> None:
    """What is no address is said to be none."""
    done = run_ready("--admin-address", address)

    assert done.returncode == 1
    assert f'--admin-address: "{address}" is not host:port' in done.stderr


def test_one_module_or_all() -> None:
    """A verb whose module is named like it comes alone; any other word brings all of them."""
    every = get_command(build_app()).list_commands(None)  # type: ignore[attr-defined]

    assert get_command(build_app("ready")).list_commands(None) == ["ready"]  # type: ignore[attr-defined]
    assert get_command(build_app("get")).list_commands(None) == every  # type: ignore[attr-defined]
    assert {"run", "ready", "get", "validate"} <= set(every)
