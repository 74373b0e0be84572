"""The page of traps names tests that exist, for every row."""

import ast
import re
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
PAGE = CHECKOUT / "docs" / "traps.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def names_in(path: str) -> frozenset[str]:
    """The tests of a file; none if there is no such file."""
    file = CHECKOUT / path
    tree = ast.parse(file.read_text() if file.exists() else "")
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_row_names_tests_that_exist() -> None:
    """A row without a test, and a test that is gone or was renamed, are found."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    without = [row for row in rows if not NAMED.search(row.split(" | ")[-1])]
    missing = [f"{path}::{name}" for row in rows for path, name in NAMED.findall(row) if name not in names_in(path)]

    assert len(rows) > 70
    assert without == []
    assert missing == []


def test_a_missing_test_would_be_found() -> None:
    """A file that does not exist has no tests, and this one has this test."""
    assert names_in("tests/unit/test_nowhere.py") == frozenset()
    assert "test_a_missing_test_would_be_found" in names_in("tests/unit/test_traps_page.py")
