"""Label requirements as Kubernetes defines them."""

from typing import Any

import pytest

from gloo_nomad.api.gen import gateway_pb2, selectors_pb2
from gloo_nomad.gateway.labels import Requirement, admits, parse_expressions
from gloo_nomad.reports import Finding

LABELS = {"team": "x", "size": "7", "word": "seven"}

ADMITTED = [
    ("Equals", "team", ["x"], True),
    ("Equals", "team", ["y"], False),
    ("Equals", "none", ["x"], False),
    ("DoubleEquals", "team", ["x"], True),
    ("NotEquals", "team", ["x"], False),
    ("NotEquals", "none", ["x"], True),
    ("In", "team", ["y", "x"], True),
    ("In", "none", ["x"], False),
    ("NotIn", "team", ["y", "x"], False),
    ("NotIn", "team", ["y"], True),
    ("NotIn", "none", ["y"], True),
    ("Exists", "team", [], True),
    ("Exists", "none", [], False),
    ("DoesNotExist", "team", [], False),
    ("DoesNotExist", "none", [], True),
    ("GreaterThan", "size", ["6"], True),
    ("GreaterThan", "size", ["7"], False),
    ("GreaterThan", "word", ["1"], False),
    ("GreaterThan", "none", ["1"], False),
    ("LessThan", "size", ["8"], True),
    ("LessThan", "size", ["-8"], False),
]

EXPRESSION_TYPES = [
    gateway_pb2.RouteTableSelector.Expression,
    gateway_pb2.VirtualServiceSelectorExpressions.Expression,
    selectors_pb2.Selector.Expression,
]


@pytest.mark.parametrize("expression", EXPRESSION_TYPES)
@pytest.mark.parametrize(("operator", "key", "values", "expected"), ADMITTED)
def test_operator(operator: Any, key: str, values: list[str], expected: bool, expression: Any) -> None:
    """Each operator means what it means in Kubernetes, whichever selector it is written in."""
    parsed = parse_expressions([expression(key=key, operator=operator, values=values)], "expressions")
    assert isinstance(parsed, tuple)
    assert admits(parsed, LABELS) is expected


@pytest.mark.parametrize(
    ("operator", "key", "values", "text"),
    [
        ("Equals", "team", [], "Equals takes exactly one value, found 0"),
        ("Equals", "team", ["x", "y"], "Equals takes exactly one value, found 2"),
        ("In", "team", [], "In takes at least one value"),
        ("NotIn", "team", [], "NotIn takes at least one value"),
        ("Exists", "team", ["x"], "Exists takes no values, found 1"),
        ("GreaterThan", "team", ["x"], "GreaterThan takes an integer, found 'x'"),
        ("LessThan", "team", ["1.5"], "LessThan takes an integer, found '1.5'"),
        ("Exists", "", [], "key is required"),
        (77, "team", [], "unknown operator 77"),
    ],
)
def test_requirement_that_nothing_is_measured_by(operator: Any, key: str, values: list[str], text: str) -> None:
    """A wrong number or kind of values is said with the place of the expression."""
    expression: Any = selectors_pb2.Selector.Expression
    good = expression(key="a", operator="Exists")
    bad = expression(key=key, operator=operator, values=values)
    found = parse_expressions([good, bad], "selector.expressions")
    assert isinstance(found, Finding)
    assert found.path == "selector.expressions[1]"
    assert found.message.startswith(text)


def test_all_requirements_must_hold() -> None:
    """Requirements are joined by and."""
    both = (Requirement("team", "Exists", frozenset()), Requirement("size", "Equals", frozenset({"8"})))
    assert not admits(both, LABELS)
    assert admits((), {})
