"""Delegation to route tables, from objects as users write them to the routes of a virtual host."""

from typing import Any

import pytest

from gloo_nomad.gateway.delegation import MAX_DEPTH, MAX_ROUTES
from gloo_nomad.reports import Severity
from tests.pipeline.gateway_world import GATEWAY, Outcome, service, table, translate, with_gateway

REF = "delegateAction: {ref: {name: rt, namespace: gloo-system}}"
TO = "routeAction: {single: {upstream: {name: u, namespace: gloo-system}}}"


def delegate(matchers: str = "[{prefix: /a}]", action: str = REF, more: str = "") -> str:
    """A virtual service with one delegating route."""
    return service(f"domains: [a.com]\nroutes:\n- matchers: {matchers}\n  {action}\n{more}")


def routes_of(*routes: str) -> str:
    """The routes of a table or virtual host."""
    return "routes:\n" + "\n".join(f"- {route}" for route in routes)


def paths(outcome: Outcome) -> list[str]:
    """The paths of the routes of the virtual host, in order."""
    found = []
    for route in outcome.host().message.routes:
        for matcher in route.matchers:
            kind = matcher.WhichOneof("path_specifier")
            found.append(getattr(matcher, kind) if kind else "")
    return found


def leaf(matcher: str) -> str:
    """A route of flow style with this matcher."""
    return f"{{matchers: [{matcher}], {TO}}}"


def test_route_of_a_table_takes_the_place_of_the_delegating_one() -> None:
    """Routes of the table stand where the delegating route stood, with their sources named from the top down."""
    vs = service(
        f"domains: [a.com]\nroutes:\n- {leaf('{prefix: /first}')}\n- matchers: [{{prefix: /a}}]\n  {REF}\n"
        f"- {leaf('{prefix: /last}')}"
    )
    outcome = with_gateway(vs, RouteTable=table(routes_of(leaf("{prefix: /a/1}"), leaf("{prefix: /a/2}"))))
    assert outcome.said() == []
    assert paths(outcome) == ["/first", "/a/1", "/a/2", "/last"]
    sources = [
        [(source.resource_kind, source.resource_ref.name) for source in route.metadata_static.sources]
        for route in outcome.host().message.routes
    ]
    top, rt = ("*v1.VirtualService", "vs"), ("*v1.RouteTable", "rt")
    assert sources == [[top], [top, rt], [top, rt], [top]]
    assert outcome.host().paths == ("virtualHost.routes[0]", "routes[0]", "routes[1]", "virtualHost.routes[2]")
    assert [origin.via for origin in outcome.host().origins] == ["", *["virtualHost.routes[1]"] * 2, ""]


def test_deprecated_name_wins_over_ref() -> None:
    """delegateAction.name and namespace go before a ref beside them."""
    action = "delegateAction: {name: rt, namespace: gloo-system, ref: {name: nobody, namespace: gloo-system}}"
    outcome = with_gateway(delegate(action=action), RouteTable=table(routes_of(leaf("{prefix: /a/1}"))))
    assert outcome.said() == []
    assert paths(outcome) == ["/a/1"]


@pytest.mark.parametrize(
    ("action", "path", "text"),
    [
        (REF, "delegateAction.ref", "route table gloo-system.rt missing"),
        ("delegateAction: {name: rt, namespace: other}", "delegateAction", "route table other.rt missing"),
        ("delegateAction: {ref: {name: rt}}", "delegateAction.ref", "route table .rt missing; set the namespace"),
        ("delegateAction: {}", "delegateAction", "names no route table"),
        ("delegateAction: {selector: {}}", "delegateAction.selector", "no route table matches the given selector"),
        (
            "delegateAction: {selector: {labels: {a: b}, expressions: [{key: a, operator: Exists}]}}",
            "delegateAction.selector",
            "labels and expressions exclude each other",
        ),
        (
            "delegateAction: {selector: {expressions: [{key: a, operator: In}]}}",
            "delegateAction.selector.expressions[0]",
            "In takes at least one value",
        ),
    ],
)
def test_route_that_names_no_table_contributes_nothing(action: str, path: str, text: str) -> None:
    """A missing table is a warning on the owner, and the rest of the virtual host is served."""
    outcome = with_gateway(delegate(action=action, more=f"- {leaf('{prefix: /kept}')}"))
    assert paths(outcome) == ["/kept"]
    (said,) = outcome.said()
    assert said.startswith(f"warning VirtualService gloo-system.vs virtualHost.routes[0].{path}: {text}")


@pytest.mark.parametrize(
    ("matchers", "text", "kept"),
    [
        ("[{prefix: /a}, {prefix: /b}]", "must omit or specify a single matcher", ["/a", "/b"]),
        ("[{exact: /a}]", "must use a prefix matcher", ["/a"]),
        ("[{regex: /a.*}]", "must use a prefix matcher", ["/a.*"]),
    ],
)
def test_route_that_cannot_delegate_is_answered_with_404(matchers: str, text: str, kept: list[str]) -> None:
    """A delegating route with the wrong matchers is an error of its owner, and 404 is answered in its place."""
    outcome = with_gateway(delegate(matchers), RouteTable=table(routes_of(leaf("{prefix: /a/1}"))))
    assert paths(outcome) == kept
    assert outcome.routes()[0]["directResponseAction"] == {"status": 404}
    (said,) = outcome.said()
    assert said.startswith("error VirtualService gloo-system.vs virtualHost.routes[0].matchers")
    assert text in said


def test_answer_in_place_of_a_wrong_route_follows_the_settings() -> None:
    """gloo.invalidConfigPolicy gives the status and body of the answer."""
    outcome = translate(
        {"Gateway": [GATEWAY], "VirtualService": [service("routes: [{matchers: [{prefix: /a}]}]")]},
        "gloo: {invalidConfigPolicy: {invalidRouteResponseCode: 503, invalidRouteResponseBody: broken}}",
    )
    assert outcome.routes()[0]["directResponseAction"] == {"status": 503, "body": "broken"}
    (said,) = outcome.said()
    assert said.startswith("error VirtualService gloo-system.vs virtualHost.routes[0]: invalid route: route must")


def test_child_that_does_not_fit_is_left_out_and_told_twice() -> None:
    """A misfit drops one route with a warning on the table, and on the virtual service with the table named."""
    outcome = with_gateway(
        delegate(), RouteTable=table(routes_of(leaf("{prefix: /a/1}"), leaf("{prefix: /b}"), leaf("{prefix: /a/2}")))
    )
    assert paths(outcome) == ["/a/1", "/a/2"]
    below, top = outcome.said()
    assert below.startswith("warning RouteTable gloo-system.rt routes[1].matchers[0]: required prefix: /a, prefix: /b:")
    assert top.startswith(
        "warning VirtualService gloo-system.vs virtualHost.routes[0]: on sub route table gloo-system.rt: "
        "routes[1].matchers[0]: required prefix: /a, prefix: /b: invalid route: "
    )


def test_child_without_matchers_fits_only_below_the_root() -> None:
    """An empty child matcher stands for /, which does not begin with /a; below / it does."""
    child = table(routes_of(f"{{{TO}}}"))
    assert paths(with_gateway(delegate(), RouteTable=child)) == []
    assert paths(with_gateway(delegate("[{prefix: /}]"), RouteTable=child)) == ["/"]
    assert paths(with_gateway(delegate("[]"), RouteTable=child)) == ["/"]
    inherits = table(routes_of(f"{{inheritablePathMatchers: true, {TO}}}"))
    assert paths(with_gateway(delegate(), RouteTable=inherits)) == ["/a"]


def test_pathless_delegating_matcher_keeps_its_constraints() -> None:
    """A delegating matcher with headers only guards everything below it, over several tables."""
    middle = table(routes_of("{matchers: [{prefix: /a}], delegateAction: {ref: {name: low, namespace: gloo-system}}}"))
    low = table(routes_of(leaf("{prefix: /a/1}"), leaf("{prefix: /a/2, headers: [{name: z}]}")), "low")
    outcome = with_gateway(delegate("[{headers: [{name: x, value: y}], methods: [GET]}]"), RouteTable=[middle, low])
    assert outcome.said() == []
    header = {"name": "x", "value": "y"}
    assert [route["matchers"] for route in outcome.routes()] == [
        [{"prefix": "/a/1", "headers": [header], "methods": ["GET"]}],
        [{"prefix": "/a/2", "headers": [header, {"name": "z"}], "methods": ["GET"]}],
    ]


FLAGS: list[tuple[str, str, str, list[Any]]] = [
    ("unset inherits nothing", "", "", ["required headers"]),
    ("the parent's flag", "inheritableMatchers: true", "", [["p"]]),
    ("the child's flag", "", "inheritableMatchers: true, ", [["p"]]),
    ("the child says no", "inheritableMatchers: true", "inheritableMatchers: false, ", ["required headers"]),
]


@pytest.mark.parametrize(("parent", "child", "expected"), [case[1:] for case in FLAGS], ids=[case[0] for case in FLAGS])
def test_child_flag_goes_before_the_inherited_one(parent: str, child: str, expected: list[Any]) -> None:
    """InheritableMatchers of the child counts, else that of the route above."""
    vs = delegate("[{prefix: /a, headers: [{name: p}]}]", f"{REF}\n  {parent}" if parent else REF)
    outcome = with_gateway(vs, RouteTable=table(routes_of(f"{{{child}matchers: [{{prefix: /a/1}}], {TO}}}")))
    names = [[header["name"] for header in route["matchers"][0]["headers"]] for route in outcome.routes()]
    assert names == [found for found in expected if isinstance(found, list)]
    assert [text for text in expected if isinstance(text, str)] == [
        problem.message.split(":")[0] for problem in outcome.problems if problem.ref.kind == "RouteTable"
    ]


def test_flags_are_inherited_through_tables() -> None:
    """A flag that is set on the virtual service holds two tables below, with all constraints in order."""
    vs = delegate(
        "[{prefix: /a, headers: [{name: one}]}]", f"{REF}\n  inheritableMatchers: true\n  inheritablePathMatchers: true"
    )
    middle = table(
        routes_of("{matchers: [{headers: [{name: two}]}], delegateAction: {ref: {name: low, namespace: gloo-system}}}")
    )
    low = table(routes_of(f"{{matchers: [{{headers: [{{name: three}}]}}], {TO}}}"), "low")
    outcome = with_gateway(vs, RouteTable=[middle, low])
    assert outcome.said() == []
    (matcher,) = outcome.routes()[0]["matchers"]
    assert matcher == {"prefix": "/a", "headers": [{"name": "one"}, {"name": "two"}, {"name": "three"}]}


SELECTORS = [
    ("labels", "{labels: {team: x}}", ["/a/x1", "/a/x2"]),
    ("two labels", "{labels: {team: x, tier: one}}", ["/a/x1"]),
    ("other namespace", "{namespaces: [other]}", ["/a/o"]),
    ("every namespace", "{namespaces: ['*'], labels: {team: x}}", ["/a/x2", "/a/x1", "/a/o"]),
    ("two namespaces", "{namespaces: [other, gloo-system], labels: {team: x}}", ["/a/x2", "/a/x1", "/a/o"]),
    ("expression", "{expressions: [{key: team, operator: In, values: [y, z]}]}", ["/a/y"]),
    ("absent key", "{expressions: [{key: tier, operator: DoesNotExist}]}", ["/a/y", "/a/x2"]),
]


@pytest.mark.parametrize(
    ("selector", "expected"), [case[1:] for case in SELECTORS], ids=[case[0] for case in SELECTORS]
)
def test_selector_picks_tables(selector: str, expected: list[str]) -> None:
    """Labels or expressions within namespaces, of which the owner's is the default."""
    tables = [
        table(routes_of(leaf("{prefix: /a/x1}")), "x1", "labels: {team: x, tier: one}"),
        table(routes_of(leaf("{prefix: /a/x2}")), "x2", "labels: {team: x}"),
        table(routes_of(leaf("{prefix: /a/y}")), "y", "labels: {team: y}"),
        "metadata: {name: o, namespace: other, labels: {team: x, tier: o}}\n" + routes_of(leaf("{prefix: /a/o}")),
    ]
    outcome = with_gateway(delegate(action=f"delegateAction: {{selector: {selector}}}"), RouteTable=tables)
    assert outcome.said() == []
    assert sorted(paths(outcome)) == sorted(expected)


def weighted(name: str, weight: str, *found: str) -> str:
    """A table of a weight with these paths."""
    return table(f"{weight}\n" + routes_of(*(leaf(path) for path in found)), name, "labels: {team: x}")


def test_weights_go_before_sorting() -> None:
    """Lighter tables come first, unset counts as 0; routes are sorted only among tables of equal weight."""
    outcome = with_gateway(
        delegate(action="delegateAction: {selector: {labels: {team: x}}}"),
        RouteTable=[
            weighted("alone", "weight: -1", "{prefix: /a}", "{prefix: /a/b}"),
            weighted("one", "", "{prefix: /a/m}", "{exact: /a/z}"),
            weighted("two", "weight: 0", "{prefix: /a/m/long}", "{regex: /a/r}"),
            weighted("late", "weight: 7", "{prefix: /a/zzz}"),
        ],
    )
    assert outcome.said() == []
    assert paths(outcome) == ["/a", "/a/b", "/a/z", "/a/r", "/a/m/long", "/a/m", "/a/zzz"]


def test_cycle_is_an_error_on_the_table_that_would_be_visited_again() -> None:
    """A cycle rejects the table, tells the virtual service, is answered in its place, and leaves the rest alone."""
    first = table(
        routes_of(
            leaf("{prefix: /a/1}"),
            "{matchers: [{prefix: /a}], delegateAction: {ref: {name: two, namespace: gloo-system}}}",
        )
    )
    second = table(routes_of(leaf("{prefix: /a/2}"), f"{{matchers: [{{prefix: /a}}], {REF}}}"), "two")
    outcome = with_gateway(delegate(more=f"- {leaf('{prefix: /last}')}"), RouteTable=[first, second])
    assert paths(outcome) == ["/a/1", "/a/2", "/a", "/last"]
    assert outcome.routes()[2]["directResponseAction"] == {"status": 404}
    below, top = outcome.said()
    text = "invalid route: delegation cycle detected: [gloo-system.rt] -> [gloo-system.two] -> [gloo-system.rt]"
    assert below.startswith(f"error RouteTable gloo-system.rt : {text}")
    assert top.startswith(
        f"error VirtualService gloo-system.vs virtualHost.routes[0]: on sub route table gloo-system.rt: {text}"
    )


def test_table_that_selects_itself_does_not_hide_the_others() -> None:
    """Of tables picked by a selector, the one that is on the way already is left out, the others are served."""
    picks = "{matchers: [{prefix: /a}], delegateAction: {selector: {labels: {team: x}}}}"
    tables = [
        table(routes_of(picks), "rt", "labels: {team: x}"),
        table(routes_of(leaf("{prefix: /a/1}")), "other", "labels: {team: x}"),
    ]
    outcome = with_gateway(delegate(), RouteTable=tables)
    assert paths(outcome) == ["/a/1", "/a"]
    assert [problem.severity for problem in outcome.problems] == [Severity.ERROR] * 2
    assert "[gloo-system.rt] -> [gloo-system.rt]" in outcome.problems[0].message


def test_one_table_on_two_ways_is_no_cycle() -> None:
    """The same table may be delegated to twice."""
    vs = service(f"routes:\n- {{matchers: [{{prefix: /a}}], {REF}}}\n- {{matchers: [{{prefix: /a/b}}], {REF}}}")
    outcome = with_gateway(vs, RouteTable=table(routes_of(leaf("{prefix: /a/b/c}"))))
    assert outcome.said() == []
    assert paths(outcome) == ["/a/b/c", "/a/b/c"]


def test_long_chain_of_tables_ends_with_an_error() -> None:
    """Thousands of tables one below the other neither crash nor run away."""
    tables = [
        table(
            routes_of(
                f"{{matchers: [{{prefix: /a}}], delegateAction: {{ref: {{name: t{n + 1}, namespace: gloo-system}}}}}}"
            ),
            f"t{n}" if n else "rt",
        )
        for n in range(3000)
    ]
    outcome = with_gateway(delegate(), RouteTable=tables)
    assert outcome.routes()[0]["directResponseAction"] == {"status": 404}
    assert outcome.problems[0].ref.name == f"t{MAX_DEPTH - 1}"
    assert f"deeper than {MAX_DEPTH} route tables" in outcome.problems[0].message


def test_tables_that_multiply_leave_out_their_virtual_host_only() -> None:
    """Tables that delegate twice to the next would make 2^40 routes; that virtual service is an error, others work."""
    tables = []
    for n in range(40):
        down = f"{{matchers: [{{prefix: /a}}], delegateAction: {{ref: {{name: t{n + 1}, namespace: gloo-system}}}}}}"
        tables.append(table(routes_of(down, down), f"t{n}" if n else "rt"))
    outcome = with_gateway(delegate(), service("domains: [b.com]", "other"), RouteTable=tables)
    assert outcome.hosts() == {"gloo-system.other": ["b.com"]}
    (said,) = [text for text in outcome.said() if text.startswith("error")]
    assert said.startswith(
        f"error VirtualService gloo-system.vs virtualHost.routes: leads to more than {MAX_ROUTES} routes"
    )


def test_upstream_without_a_namespace_is_in_that_of_its_table() -> None:
    """Single and multi destinations default to the namespace of the object that names them; groups do not."""
    bare = "{upstream: {name: u}}"
    rt = (
        "metadata: {name: rt, namespace: other}\nroutes:\n"
        f"- {{matchers: [{{prefix: /a/1}}], routeAction: {{single: {bare}}}}}\n"
        f"- {{matchers: [{{prefix: /a/2}}], routeAction: {{multi: {{destinations: [{{destination: {bare}}}]}}}}}}\n"
        "- {matchers: [{prefix: /a/3}], routeAction: {upstreamGroup: {name: g}}}\n"
    )
    outcome = with_gateway(delegate(action="delegateAction: {ref: {name: rt, namespace: other}}"), RouteTable=rt)
    single, multi, group = (route["routeAction"] for route in outcome.routes())
    assert single == {"single": {"upstream": {"name": "u", "namespace": "other"}}}
    assert multi["multi"]["destinations"][0]["destination"]["upstream"]["namespace"] == "other"
    assert group == {"upstreamGroup": {"name": "g"}}
    own = with_gateway(service(f"routes: [{{routeAction: {{single: {bare}}}}}]"))
    assert own.routes()[0]["routeAction"]["single"]["upstream"]["namespace"] == "gloo-system"


NAMES = [
    ("no name at all", "", "", ""),
    (
        "the top one has a name",
        "name: first, ",
        "",
        "vs:gateway-proxy_gateway-proxy_gloo-system_vs_route:first_rt:gloo-system_rt_route:<unnamed-0>",
    ),
    (
        "the lower one has a name",
        "",
        "name: second, ",
        "vs:gateway-proxy_gateway-proxy_gloo-system_vs_route:<unnamed-0>_rt:gloo-system_rt_route:second",
    ),
]


@pytest.mark.parametrize(("top", "below", "expected"), [case[1:] for case in NAMES], ids=[case[0] for case in NAMES])
def test_routes_are_named_if_one_on_the_way_is(top: str, below: str, expected: str) -> None:
    """A route has a name as soon as a route on its way has one, made of all of them."""
    vs = service(f"routes:\n- {{{top}matchers: [{{prefix: /a}}], {REF}}}")
    outcome = with_gateway(vs, RouteTable=table(routes_of(f"{{{below}matchers: [{{prefix: /a/1}}], {TO}}}")))
    assert outcome.routes()[0].get("name", "") == expected


def test_named_route_carries_each_gateway_and_proxy() -> None:
    """The same virtual service behind two gateways in two proxies has its routes named after each."""
    second = GATEWAY.replace("name: gateway-proxy", "name: second") + "proxyNames: [inside, outside]\n"
    outcome = translate({"Gateway": [GATEWAY, second], "VirtualService": [service(f"routes: [{{name: n, {TO}}}]")]})
    names = {
        proxy.ref.name: proxy.listeners[0].http[0].virtual_hosts[0].message.routes[0].name for proxy in outcome.proxies
    }
    assert names == {
        "gateway-proxy": "vs:gateway-proxy_gateway-proxy_gloo-system_vs_route:n",
        "inside": "vs:second_inside_gloo-system_vs_route:n",
        "outside": "vs:second_outside_gloo-system_vs_route:n",
    }
