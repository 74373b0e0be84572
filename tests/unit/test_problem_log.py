"""What is wrong with objects of a folder stands in the log: when it appears, and when it is gone."""

from structlog.testing import capture_logs

from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.app.problem_log import MOST, tell_difference
from gloo_nomad.reports import Problem, Severity


def problem(name: str, severity: Severity = Severity.ERROR) -> Problem:
    """A problem of a VirtualService."""
    return Problem(severity, ObjectRef("VirtualService", "gloo-system", name), "virtualHost", "is wrong")


def test_each_problem_is_told_once() -> None:
    """The line has everything that helps to find the object."""
    with capture_logs() as logs:
        tell_difference(frozenset(), frozenset({problem("a")}))
        tell_difference(frozenset({problem("a")}), frozenset({problem("a")}))
        tell_difference(frozenset({problem("a")}), frozenset())

    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("object_problem", "warning"),
        ("object_problem_gone", "info"),
    ]
    assert logs[0]["name"] == "a"
    assert logs[0]["path"] == "virtualHost"


def test_errors_come_first_and_there_is_an_end() -> None:
    """Thousands of problems are some lines and a count; warnings do not push errors out."""
    many = frozenset(problem(f"w{number}", Severity.WARNING) for number in range(MOST + 10))
    with capture_logs() as logs:
        tell_difference(frozenset(), many | {problem("z")})

    assert logs[0]["name"] == "z"
    assert len(logs) == MOST + 1
    assert logs[-1]["count"] == 11
