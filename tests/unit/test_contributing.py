"""The worked example of an option does what CONTRIBUTING says, when it is followed to the letter."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
GUIDE = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAME = "internal_redirects"
RECOMPUTE = f"""
from tests.golden.files import case_files
print(next(file.recompute() for file in case_files() if file.path.stem == "{NAME}"))
"""


def blocks(language: str) -> list[str]:
    """The blocks of the guide in a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the option in it."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("gloo_nomad", "tests"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    (code,), (cases,) = blocks("python"), blocks("yaml")
    (folder / "gloo_nomad" / "options" / f"{NAME}.py").write_text(code)
    (folder / "gloo_nomad" / "options" / f"{NAME}.yaml").write_text(cases)
    return folder


def run(copy: Path, *line: str) -> str:
    """What Python says in the copy; it has to succeed."""
    command = [sys.executable, *line]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_outcomes_are_those_of_the_guide(copy: Path) -> None:
    """What `make golden` adds to the cases is what the guide shows."""
    text = run(copy, "-c", RECOMPUTE)
    shown = [block for block in blocks("") if block.startswith("  ")]

    assert len(shown) == 2
    assert [block for block in shown if block not in text] == []


def test_example_is_printed_for_users(copy: Path) -> None:
    """The command line knows the option without any list being edited."""
    said = run(copy, "-m", "gloo_nomad", "options", NAME)

    assert "internalRedirects" in said
    assert "# too-many: Eleven redirects are refused." in said


def test_example_is_as_clean_as_all_code(copy: Path) -> None:
    """It passes the linter and the formatter."""
    file = f"gloo_nomad/options/{NAME}.py"
    ruff = str(Path(sys.executable).parent / "ruff")
    for line in (["check", file], ["format", "--check", file]):
        done = subprocess.run([ruff, *line], cwd=copy, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_commands_exist() -> None:
    """Every target of make that the guide names is one."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", GUIDE, re.MULTILINE))

    assert named
    assert named - targets == set()
