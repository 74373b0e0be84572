"""Routes that are never reached because of a route before them, and when that is said."""

import pytest

from tests.pipeline.gateway_world import GATEWAY, Outcome, service, table, translate

WARN = "gateway: {validation: {warnRouteShortCircuiting: true}}"
ANSWER = "directResponseAction: {status: 200}"


def run(*matchers: str, settings: str = WARN) -> Outcome:
    """A virtual service with a route for each matcher."""
    routes = "".join(f"\n- {{matchers: [{matcher}], {ANSWER}}}" for matcher in matchers)
    return translate({"Gateway": [GATEWAY], "VirtualService": [service(f"routes:{routes}")]}, settings)


HIDDEN = [
    ("the same matcher", "{prefix: /a, methods: [GET]}", "{prefix: /a, methods: [GET]}"),
    ("a shorter prefix", "{prefix: /a}", "{prefix: /a/b}"),
    ("a prefix of a path", "{prefix: /a}", "{exact: /a/b}"),
    ("everything before a regular expression", "{prefix: /}", "{regex: /a.*}"),
    ("a regular expression that matches the path", "{regex: '/[a-z]+'}", "{exact: /abc}"),
    ("a regular expression that matches all below a prefix", "{regex: '/a.*'}", "{prefix: /a/b}"),
    ("fewer headers", "{prefix: /a, headers: [{name: x}]}", "{prefix: /a, headers: [{name: y}, {name: x}]}"),
    ("fewer parameters", "{prefix: /a}", "{prefix: /a, queryParameters: [{name: q, value: '1'}]}"),
    ("more methods", "{prefix: /a, methods: [GET, PUT]}", "{prefix: /a, methods: [PUT]}"),
    ("a prefix without case", "{prefix: /A, caseSensitive: false}", "{exact: /a/b}"),
]


@pytest.mark.parametrize(("first", "second"), [case[1:] for case in HIDDEN], ids=[case[0] for case in HIDDEN])
def test_hidden_routes_are_warned_of(first: str, second: str) -> None:
    """A route is hidden by one before it that takes all of its requests; in the other order only equal ones are."""
    (said,) = run(first, second).said()

    assert said.startswith("warning VirtualService gloo-system.vs virtualHost.routes[1].matchers[0]: is never reached:")
    assert "route 0 with" in said
    assert len(run(second, first).said()) == (first == second)


REACHED = [
    ("another path", "{prefix: /a}", "{prefix: /b}"),
    ("another header", "{prefix: /a, headers: [{name: x}]}", "{prefix: /a/b}"),
    ("another value", "{prefix: /a, headers: [{name: x, value: '1'}]}", "{prefix: /a, headers: [{name: x}]}"),
    ("other methods", "{prefix: /a, methods: [GET]}", "{prefix: /a/b, methods: [GET, PUT]}"),
    ("any method", "{prefix: /a, methods: [GET]}", "{prefix: /a/b}"),
    ("an exact path", "{exact: /a}", "{prefix: /a}"),
    ("other case", "{prefix: /a}", "{prefix: /a/b, caseSensitive: false}"),
    ("a regular expression that takes only a part", "{regex: '/a/[a-z]*'}", "{prefix: /a/}"),
    ("a regular expression after a longer prefix", "{prefix: /a}", "{regex: '/a.*'}"),
    ("CONNECT requests", "{connectMatcher: {}}", "{prefix: /a}"),
]


@pytest.mark.parametrize(("first", "second"), [case[1:] for case in REACHED], ids=[case[0] for case in REACHED])
def test_reachable_routes_are_left_alone(first: str, second: str) -> None:
    """Nothing is said of a route that some request may reach."""
    assert run(first, second).said() == []


def test_nothing_is_said_unless_asked_for() -> None:
    """Without the setting routes may hide each other in silence."""
    assert run("{prefix: /}", "{prefix: /a}", settings="{}").said() == []


def test_a_hidden_route_of_a_route_table_is_said_to_it() -> None:
    """The route table that has the route is told, and the virtual service on top; both stay in service."""
    routes = f"routes:\n- {{matchers: [{{prefix: /a}}], {ANSWER}}}\n- {{matchers: [{{prefix: /}}], delegateAction: "
    outcome = translate(
        {
            "Gateway": [GATEWAY],
            "VirtualService": [service(routes + "{ref: {name: rt, namespace: gloo-system}}}")],
            "RouteTable": [table(f"routes: [{{name: r, matchers: [{{prefix: /a/b}}], {ANSWER}}}]")],
        },
        WARN,
    )

    below, top = outcome.said()
    assert below.startswith("warning RouteTable gloo-system.rt routes[0].matchers[0]: is never reached: route 0")
    assert top.startswith("warning VirtualService gloo-system.vs virtualHost.routes[1]: on sub route table")
    assert len(outcome.routes()) == 2
