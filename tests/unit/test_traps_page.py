"""The page of traps names tests that exist, for every row."""

from tests.named_tests import CHECKOUT, NAMED, missing_in, names_in

PAGE = CHECKOUT / "docs" / "traps.md"


def test_every_row_names_tests_that_exist() -> None:
    """A row without a test, and a test that is gone or was renamed, are found."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    without = [row for row in rows if not NAMED.search(row.split(" | ")[-1])]

    assert len(rows) > 70
    assert without == []
    assert missing_in("\n".join(rows)) == []


def test_a_missing_test_would_be_found() -> None:
    """A file that does not exist has no tests, and this one has this test."""
    assert names_in("tests/unit/test_nowhere.py") == frozenset()
    assert "test_a_missing_test_would_be_found" in names_in("tests/unit/test_traps_page.py")
