"""Statuses in the reference's words and shapes: the contract's section 1.4."""

from typing import Any

import pytest

from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.statuses import (
    MAX_REASON_BYTES,
    MAX_SUBRESOURCES,
    Status,
    build_single_status,
    build_status,
    group_by_object,
    is_same,
    status_of,
)

REF = ObjectRef("VirtualService", "ns", "x")
PROXY = Ref("gloo-system", "gateway-proxy")


def error(message: str, path: str = "") -> Problem:
    """An error of the object."""
    return Problem(Severity.ERROR, REF, path, message)


def warning(message: str, path: str = "") -> Problem:
    """A warning of the object."""
    return Problem(Severity.WARNING, REF, path, message)


def test_accepted() -> None:
    """Nothing wrong has no reason."""
    assert build_status([]) == {"state": "Accepted", "reportedBy": "gloo"}


def test_one_error() -> None:
    """The text is that of Go's multierror, path included."""
    status = build_status([error("is wrong", "virtualHost.routes[0]")])

    assert status["state"] == "Rejected"
    assert status["reason"] == "1 error occurred:\n\t* virtualHost.routes[0]: is wrong\n\n"


def test_several_errors() -> None:
    """They are counted and listed; the same one twice counts once."""
    status = build_status([error("a"), error("b"), error("a")])

    assert status["reason"] == "2 errors occurred:\n\t* a\n\t* b\n\n"


def test_warnings_alone() -> None:
    """Warnings do not reject."""
    status = build_status([warning("w1"), warning("w2")])

    assert (status["state"], status["reason"]) == ("Warning", "warning: \n  w1\nw2")


def test_errors_and_warnings() -> None:
    """An error outweighs; the warnings stand behind the errors."""
    status = build_status([warning("w1"), error("e"), warning("w2")])

    assert status["state"] == "Rejected"
    assert status["reason"] == "1 error occurred:\n\t* e\n\nwarning: \n  w1\nw2"


def test_proxies_are_sub_statuses() -> None:
    """Each proxy once, as name and namespace, in order."""
    status = build_status([error("e")], [Ref("b", "p"), PROXY, Ref("b", "p")])

    assert status["subresourceStatuses"] == {
        "*v1.Proxy.p_b": {"state": "Rejected", "reportedBy": "gloo"},
        "*v1.Proxy.gateway-proxy_gloo-system": {"state": "Rejected", "reportedBy": "gloo"},
    }
    assert list(status["subresourceStatuses"]) == ["*v1.Proxy.p_b", "*v1.Proxy.gateway-proxy_gloo-system"]


def test_long_reasons_are_cut() -> None:
    """At 1,024 bytes, never inside a character; not at all where truncation is switched off."""
    problems = [error("é" * 2000)]
    cut = build_status(problems)["reason"]

    assert MAX_REASON_BYTES - 2 < len(cut.encode()) <= MAX_REASON_BYTES
    assert cut.endswith("é")
    assert len(build_status(problems, truncate=False)["reason"]) > 2000


def test_many_proxies_are_cut() -> None:
    """A hundred sub-statuses are kept."""
    proxies = [Ref("ns", f"p{number:03}") for number in range(150)]

    assert len(build_status([], proxies)["subresourceStatuses"]) == MAX_SUBRESOURCES
    assert len(build_status([], proxies, truncate=False)["subresourceStatuses"]) == 150


def test_the_old_style() -> None:
    """A RateLimitConfig has one status with another spelling, and a message instead of a reason."""
    assert build_single_status([]) == {"state": "ACCEPTED"}
    assert build_single_status([warning("w")]) == {"state": "ACCEPTED", "message": "w"}
    assert build_single_status([error("e"), warning("w")]) == {"state": "REJECTED", "message": "e; w"}
    assert len(build_single_status([error("e" * 5000)])["message"]) == MAX_REASON_BYTES
    assert len(build_single_status([error("e" * 5000)], truncate=False)["message"]) == 5000


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if kind.status.value == "namespacedStatuses"])
def test_the_style_is_the_kinds(kind: str) -> None:
    """Every other kind has states as the reference spells them."""
    assert status_of(ObjectRef(kind, "ns", "x"), [], [PROXY])["state"] == "Accepted"
    assert status_of(ObjectRef("RateLimitConfig", "ns", "x"), [], [PROXY]) == {"state": "ACCEPTED"}


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ({"state": 1, "reportedBy": "gloo"}, build_status([])),
        ({"state": "Accepted", "reported_by": "gloo"}, build_status([])),
        ({"state": "Accepted", "reportedBy": "gloo", "reason": "", "details": {}, "messages": []}, build_status([])),
        ({"state": "Accepted", "reportedBy": "gloo", "subresourceStatuses": None}, build_status([])),
        ({"state": 2, "reportedBy": "gloo", "reason": "1 error occurred:\n\t* e\n\n"}, build_status([error("e")])),
        (
            {
                "state": 1,
                "reportedBy": "gloo",
                "subresource_statuses": {
                    "*v1.Proxy.gateway-proxy_gloo-system": {"state": 1, "reportedBy": "gloo", "reason": ""}
                },
            },
            build_status([], [PROXY]),
        ),
        ({"state": "REJECTED", "message": "e"}, build_single_status([error("e")])),
    ],
)
def test_the_same_in_other_words(stored: Status, wanted: Status) -> None:
    """States by number, snake case and absent fields are no reason to write."""
    assert is_same(stored, wanted)


@pytest.mark.parametrize(
    "stored",
    [
        None,
        {},
        "Accepted",
        {"state": "Pending", "reportedBy": "gloo"},
        {"state": 9, "reportedBy": "gloo"},
        {"state": "Accepted", "reportedBy": "somebody"},
        {"state": "Accepted", "reportedBy": "gloo", "reason": "old"},
        {"state": "Accepted", "reportedBy": "gloo"},
        {"state": "Accepted", "reportedBy": "gloo", "subresourceStatuses": {"other": {"state": 1}}},
        {"state": True, "reportedBy": "gloo"},
        {"state": [1]},
        {"reason": {}},
        {"subresourceStatuses": {"x": 3}},
        {"subresourceStatuses": [1]},
        {"subresourceStatuses": {1: {}, "a": {}, None: {}}},
    ],
)
def test_what_differs(stored: Any) -> None:
    """Anything else is written over, and garbage where a status belongs is compared without an exception."""
    assert not is_same(stored, build_status([], [PROXY]))


def test_problems_by_object() -> None:
    """Each object has its own, in their order."""
    other = Problem(Severity.ERROR, ObjectRef("Gateway", "ns", "g"), "", "g")

    assert group_by_object([error("a"), other, warning("b")]) == {
        REF: [error("a"), warning("b")],
        other.ref: [other],
    }
