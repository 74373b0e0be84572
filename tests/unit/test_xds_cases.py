"""docs/xds.md lists the protocol cases that there are, and there are enough of them."""

from tests.xds_cases import ENVOY, GRPC, PAGE, RAW, collect_cases, with_table


def test_the_page_lists_them() -> None:
    """``make docs`` writes the table."""
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page) == page


def test_there_are_enough() -> None:
    """At least a hundred with names of their own, some of them by each client, and each says what it means."""
    cases = collect_cases()
    assert len({(case.name, case.client) for case in cases}) >= 100
    assert {case.client for case in cases} == {RAW, GRPC, ENVOY}
    assert all(case.meaning for case in cases)
