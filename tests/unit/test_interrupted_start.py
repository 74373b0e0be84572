"""Ctrl-C in the first moment, while modules are loaded, shows no traceback."""

import subprocess
import sys

import pytest

SCRIPT = """
import runpy, sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == sys.argv[-1]:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
sys.argv[1:] = sys.argv[2:]
runpy.run_module({module!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "argument", "loaded", "code"),
    [
        ("gloo_nomad", "validate", "gloo_nomad.cli.main", 130),
        ("gloo_nomad", "validate", "gloo_nomad.cli.commands.offline", 130),
        ("gloo_nomad.demo", "folder", "gloo_nomad.demo.openbao", 0),
        ("gloo_nomad.demo", "cluster", "gloo_nomad.demo.nomad", 0),
    ],
)
def test_interrupted_while_loading(module: str, argument: str, loaded: str, code: int) -> None:
    """The exit code says what happened, and nothing is printed."""
    script = SCRIPT.format(module=module).replace("sys.argv[-1]", repr(loaded))
    line = [sys.executable, "-c", script, "", argument]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
