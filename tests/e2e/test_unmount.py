"""What Nomad leaves mounted is unmounted, so that nothing is left behind."""

import os
import subprocess
from pathlib import Path

import pytest

from gloo_nomad.demo.nomad import unmount_below


@pytest.mark.nomad
def test_mounts_below_a_folder_are_unmounted(tmp_path: Path) -> None:
    """Nested mounts go, also with a blank in their name; one beside the folder stays."""
    below, beside = tmp_path / "data", tmp_path / "data-2"
    inner = below / "a b" / "secrets"
    for place in (below / "a b", inner, beside):
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)

    unmount_below(below)

    assert not os.path.ismount(below / "a b")
    assert not inner.exists()
    assert os.path.ismount(beside)
    unmount_below(tmp_path)
    assert not os.path.ismount(beside)
