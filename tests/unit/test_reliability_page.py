"""The fault matrix has a row for every fault, and each row names tests that exist."""

import re

from tests.named_tests import CHECKOUT, NAMED, missing_in

PAGE = CHECKOUT / "docs" / "reliability.md"
FAULTS = {
    "Consul": (
        "down,slow,connection reset,leader lost,429,500,garbage,truncated,index backwards,restored snapshot,"
        "ACL token revoked,last object,prefix neighbour"
    ),
    "Vault": "down,sealed,403,token expired,slow",
    "Nomad": "down,ACL token revoked",
    "gloo": "`kill -9`,SIGTERM,disk full,clock jump,out of file descriptors",
    "Envoy": "restarted,many reconnecting at once,never reading,sending garbage",
}


def rows_of(system: str) -> dict[str, str]:
    """What a table of the matrix says, by fault."""
    sections = re.split(r"^###? ", PAGE.read_text(), flags=re.MULTILINE)
    (section,) = [text for text in sections if text.startswith(f"{system}\n")]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {row[0]: row[-1] for row in rows[1:]}


def test_every_fault_has_a_row() -> None:
    """All that may break, by system."""
    for system, faults in FAULTS.items():
        rows = rows_of(system)
        without = [fault for fault in faults.split(",") if not any(row.startswith(fault) for row in rows)]
        assert without == [], system


def test_every_row_names_tests_that_exist() -> None:
    """A row without a test, and a test that is gone or was renamed, are found."""
    rows = {f"{system}: {fault}": tests for system in FAULTS for fault, tests in rows_of(system).items()}
    assert [row for row, tests in rows.items() if not NAMED.search(tests)] == []
    assert missing_in("\n".join(rows.values())) == []
