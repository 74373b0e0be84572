"""The order of routes of several route tables."""

from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from gloo_nomad.api.gen import proxy_pb2
from gloo_nomad.gateway.ordering import sort_routes


def route(name: str, matchers: str) -> proxy_pb2.Route:
    """A route with these matchers."""
    return json_format.ParseDict({"name": name, "matchers": yaml.safe_load(matchers)}, proxy_pb2.Route())


ORDERS = [
    ("longer prefixes of the same path first", ["[{prefix: /}]", "[{prefix: /a}]", "[{prefix: /a/b}]"], [2, 1, 0]),
    ("the greater text, not the longer one", ["[{prefix: /aaaa}]", "[{prefix: /b}]"], [1, 0]),
    ("exact, regex, prefix", ["[{prefix: /z}]", "[{regex: /m}]", "[{exact: /a}]"], [2, 1, 0]),
    ("no path and connect first", ["[{exact: /a}]", "[{connectMatcher: {}}]", "[{headers: [{name: x}]}]"], [1, 2, 0]),
    (
        "more methods first",
        ["[{exact: /a}]", "[{prefix: /a, methods: [GET]}]", "[{prefix: /b, methods: [A, B]}]"],
        [2, 1, 0],
    ),
    ("the foremost matcher of each", ["[{prefix: /m}]", "[{prefix: /a}, {exact: /z}]"], [1, 0]),
    ("equal ones keep their order", ["[{prefix: /a}]", "[{prefix: /b}]", "[{prefix: /a}]"], [1, 0, 2]),
    ("headers do not count", ["[{prefix: /a}]", "[{prefix: /a, headers: [{name: x}]}]"], [0, 1]),
]


@pytest.mark.parametrize(("matchers", "order"), [case[1:] for case in ORDERS], ids=[case[0] for case in ORDERS])
def test_specific_routes_go_first(matchers: list[str], order: list[int]) -> None:
    """Number of methods, kind of path, then the path text in reverse."""
    routes = [route(str(index), text) for index, text in enumerate(matchers)]
    assert [int(found.name) for found in sort_routes(routes, lambda each: each.matchers)] == order


matcher = st.builds(
    lambda kind, path, methods: {kind: path, "methods": methods},
    st.sampled_from(["prefix", "exact", "regex"]),
    st.sampled_from(["/", "/a", "/a/b", "/b"]),
    st.lists(st.sampled_from(["GET", "PUT"]), max_size=2, unique=True),
)


@given(st.lists(st.lists(matcher, min_size=1, max_size=2), max_size=6))
def test_sorting_twice_changes_nothing(documents: list[list[dict[str, Any]]]) -> None:
    """The order is total up to equal routes: sorting what is sorted keeps it, and loses nothing."""
    routes = [json_format.ParseDict({"matchers": found}, proxy_pb2.Route()) for found in documents]
    once = sort_routes(routes, lambda each: each.matchers)
    assert sort_routes(once, lambda each: each.matchers) == once
    assert len(once) == len(routes)
