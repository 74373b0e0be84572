"""What a delegated route takes over from the route above it, and when it does not fit."""

from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from gloo_nomad.api.gen import matchers_pb2
from gloo_nomad.gateway.matchers import (
    ROOT,
    Inheritance,
    apply_parent,
    apply_root,
    check_child,
    constraints,
    copies,
    refuse_delegating,
)


def read(text: str) -> matchers_pb2.Matcher:
    """A matcher as a user writes it."""
    return json_format.ParseDict(yaml.safe_load(text), matchers_pb2.Matcher())


def show(matcher: matchers_pb2.Matcher) -> dict[str, Any]:
    """A matcher as a document."""
    shown: dict[str, Any] = json_format.MessageToDict(matcher)
    return shown


FITTING = [
    ("{prefix: /}", "{prefix: /a}"),
    ("{prefix: /a}", "{prefix: /a}"),
    ("{prefix: /a}", "{prefix: /ab}"),
    ("{prefix: /a}", "{exact: /a/b}"),
    ("{prefix: /a}", "{regex: '/a/.*'}"),
    ("{prefix: /a, caseSensitive: false}", "{prefix: /a/b, caseSensitive: false}"),
    ("{prefix: /a, headers: [{name: x, value: y}]}", "{prefix: /a, headers: [{name: q}, {name: x, value: y}]}"),
    ("{prefix: /a, queryParameters: [{name: x}]}", "{prefix: /a, queryParameters: [{name: x}]}"),
    ("{prefix: /a, methods: [GET]}", "{prefix: /a, methods: [POST, GET]}"),
]


@pytest.mark.parametrize(("parent", "child"), FITTING)
def test_child_that_says_all_of_its_parent_fits(parent: str, child: str) -> None:
    """A child that begins with the parent's path and has its constraints is served."""
    assert list(check_child(read(parent), [read(child)])) == []


MISFITS = [
    ("{prefix: /a}", "{prefix: /b}", "required prefix: /a, prefix: /b: invalid route: "),
    ("{prefix: /a}", "{prefix: /}", "required prefix: /a, prefix: /: invalid route: "),
    ("{prefix: /a}", "{exact: /A}", "required prefix: /a, prefix: /A: "),
    ("{prefix: /a}", "{regex: '.*'}", "required prefix: /a, prefix: .*: "),
    ("{prefix: /a}", "{connectMatcher: {}}", "required prefix: /a, prefix: : "),
    ("{prefix: /a}", "{headers: [{name: x}]}", "required prefix: /a, prefix: : "),
    ("{prefix: /a, caseSensitive: false}", "{prefix: /a}", "required caseSensitive: false, caseSensitive: unset: "),
    ("{prefix: /a}", "{prefix: /a, caseSensitive: true}", "required caseSensitive: unset, caseSensitive: true: "),
    ("{prefix: /a, headers: [{name: x, value: y}]}", "{prefix: /a}", "required headers: x, headers: none: "),
    (
        "{prefix: /a, headers: [{name: x, value: y}]}",
        "{prefix: /a, headers: [{name: x, value: z}]}",
        "required headers: x, headers: x: ",
    ),
    (
        "{prefix: /a, queryParameters: [{name: p}]}",
        "{prefix: /a, queryParameters: [{name: q}]}",
        "required queryParameters: p, queryParameters: q: ",
    ),
    ("{prefix: /a, methods: [GET, PUT]}", "{prefix: /a, methods: [GET]}", "required methods: PUT, methods: GET: "),
]


@pytest.mark.parametrize(("parent", "child", "text"), MISFITS)
def test_child_that_differs_from_its_parent_is_left_out(parent: str, child: str, text: str) -> None:
    """A child that does not fit is named with what was required and what was found."""
    (finding,) = check_child(read(parent), [read(child)])
    assert finding.path == "matchers[0]"
    assert finding.message.startswith(text)
    assert finding.severity.name == "WARNING"


INHERITED = [
    ("nothing without flags", False, False, "{prefix: /b}", {"prefix": "/b"}),
    (
        "the path and its case",
        False,
        True,
        "{exact: /b, caseSensitive: true, headers: [{name: q}]}",
        {"prefix": "/a", "caseSensitive": False, "headers": [{"name": "q"}]},
    ),
    (
        "constraints, in front",
        True,
        False,
        "{prefix: /b, headers: [{name: q}], queryParameters: [{name: r}], methods: [PUT]}",
        {
            "prefix": "/b",
            "headers": [{"name": "x", "value": "y"}, {"name": "q"}],
            "queryParameters": [{"name": "p"}, {"name": "r"}],
            "methods": ["GET", "PUT"],
        },
    ),
    (
        "each constraint once",
        True,
        False,
        "{prefix: /b, headers: [{name: x, value: y}], methods: [GET]}",
        {
            "prefix": "/b",
            "headers": [{"name": "x", "value": "y"}],
            "queryParameters": [{"name": "p"}],
            "methods": ["GET"],
        },
    ),
    (
        "all",
        True,
        True,
        "{}",
        {
            "prefix": "/a",
            "caseSensitive": False,
            "headers": [{"name": "x", "value": "y"}],
            "queryParameters": [{"name": "p"}],
            "methods": ["GET"],
        },
    ),
]


@pytest.mark.parametrize(("matchers", "path", "child", "expected"), [case[1:] for case in INHERITED], ids=str)
def test_flags_say_what_a_child_inherits(matchers: bool, path: bool, child: str, expected: dict[str, Any]) -> None:
    """InheritableMatchers puts the parent's constraints in front, inheritablePathMatchers replaces the path."""
    parent = read(
        "{prefix: /a, caseSensitive: false, headers: [{name: x, value: y}], queryParameters: [{name: p}], "
        "methods: [GET]}"
    )
    out = [read(child)]
    apply_parent(Inheritance(parent), out, matchers=matchers, path=path)
    assert show(out[0]) == expected


HELD = [
    ("headers", "{headers: [{name: x, value: y}]}", "{prefix: /b}", "{prefix: /b, headers: [{name: x, value: y}]}"),
    ("queries", "{queryParameters: [{name: x}]}", "{prefix: /b}", "{prefix: /b, queryParameters: [{name: x}]}"),
    ("methods", "{methods: [GET]}", "{prefix: /b}", "{prefix: /b, methods: [GET]}"),
    ("methods are narrowed", "{methods: [GET]}", "{prefix: /b, methods: [PUT, GET]}", "{prefix: /b, methods: [GET]}"),
]


@pytest.mark.parametrize(("parent", "child", "expected"), [case[1:] for case in HELD], ids=[case[0] for case in HELD])
def test_constraints_of_a_parent_without_a_path_hold(parent: str, child: str, expected: str) -> None:
    """Headers, query parameters and methods of a pathless delegating matcher reach every child, flags or not."""
    above = copies([read(parent)])
    apply_root(above)
    assert above[0].prefix == "/"
    out = [read(child)]
    apply_parent(Inheritance(above[0], held=constraints(above[0])), out, matchers=False, path=False)
    assert out[0] == read(expected)
    assert list(check_child(above[0], out)) == []


def test_method_outside_of_the_held_ones_does_not_fit() -> None:
    """A child for POST below a pathless GET is left out instead of widening what the parent lets through."""
    above = read("{prefix: /, methods: [GET]}")
    out = [read("{prefix: /b, methods: [POST]}")]
    apply_parent(Inheritance(above, held=constraints(above)), out, matchers=True, path=False)
    assert [finding.message.split(":")[0] for finding in check_child(above, out)] == ["required methods"]


def test_a_route_without_matchers_matches_everything() -> None:
    """No matcher at all means the prefix /, and a matcher that is given is copied."""
    assert copies([]) == [ROOT]
    given = read("{prefix: /a}")
    (copy,) = copies([given])
    assert copy == given
    assert copy is not given


@pytest.mark.parametrize(
    ("matchers", "text"),
    [
        (["{prefix: /a}", "{prefix: /b}"], "must omit or specify a single matcher"),
        (["{exact: /a}"], "must use a prefix matcher"),
        (["{regex: '/a'}"], "must use a prefix matcher"),
        (["{connectMatcher: {}}"], "must use a prefix matcher"),
        (["{prefix: ''}"], "must use a prefix matcher"),
    ],
)
def test_delegating_needs_one_prefix(matchers: list[str], text: str) -> None:
    """A route with several matchers, or another kind of path, cannot delegate."""
    refused = refuse_delegating([read(matcher) for matcher in matchers])
    assert refused is not None
    assert text in refused.message


def test_one_prefix_may_delegate() -> None:
    """A single prefix is what delegation wants."""
    assert refuse_delegating([read("{prefix: /a}")]) is None
