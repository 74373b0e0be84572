"""Options that a route or virtual host takes from other objects, and who is told what is wrong with them."""

from typing import Any

import pytest

from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.reports import error
from tests.pipeline.gateway_world import say, service, table, to_document, with_gateway

TO = "routeAction: {single: {upstream: {name: u, namespace: gloo-system}}}"
REF = "delegateAction: {ref: {name: rt, namespace: gloo-system}}"


def below(parent: str, child: str, action: str = TO) -> dict[str, Any]:
    """The options of a delegated route, from the delegating one's and its own."""
    vs = service(f"routes:\n- matchers: [{{prefix: /a}}]\n  {REF}\n  options: {parent}")
    rt = table(f"routes:\n- matchers: [{{prefix: /a/1}}]\n  {action}\n  options: {child}")
    outcome = with_gateway(vs, RouteTable=rt)
    assert outcome.said() == []
    options: dict[str, Any] = outcome.routes()[0].get("options", {})
    return options


MERGES = [
    ("parent fills", "{timeout: 2s}", "{prefixRewrite: /x}", {"timeout": "2s", "prefixRewrite": "/x"}),
    ("child wins", "{timeout: 2s}", "{timeout: 3s}", {"timeout": "3s"}),
    ("zero is set", "{timeout: 2s}", "{timeout: 0s}", {"timeout": "0s"}),
    ("false is set", "{appendXForwardedHost: true}", "{appendXForwardedHost: false}", {"appendXForwardedHost": False}),
    ("an empty message is set", "{retries: {retryOn: 5xx}}", "{retries: {}}", {"retries": {}}),
    (
        "messages are not mixed",
        "{retries: {numRetries: 3}}",
        "{retries: {retryOn: 5xx}}",
        {"retries": {"retryOn": "5xx"}},
    ),
    ("a choice counts as one", "{hostRewrite: a.com}", "{autoHostRewrite: true}", {"autoHostRewrite": True}),
    ("a choice is inherited", "{hostRewrite: a.com}", "{}", {"hostRewrite": "a.com"}),
    ("an empty list is unset", "{upgrades: [{websocket: {}}]}", "{upgrades: []}", {"upgrades": [{"websocket": {}}]}),
    (
        "lists are not mixed",
        "{upgrades: [{websocket: {}}]}",
        "{upgrades: [{connect: {}}]}",
        {"upgrades": [{"connect": {}}]},
    ),
    (
        "an empty map is unset",
        "{envoyMetadata: {a: {b: c}}}",
        "{envoyMetadata: {}}",
        {"envoyMetadata": {"a": {"b": "c"}}},
    ),
    ("an empty parent gives presence", "{csrf: {}}", "{}", {"csrf": {}}),
]


@pytest.mark.parametrize(
    ("parent", "child", "expected"), [case[1:] for case in MERGES], ids=[case[0] for case in MERGES]
)
def test_parent_fills_what_the_child_lacks(parent: str, child: str, expected: dict[str, Any]) -> None:
    """Whole top-level options are inherited, and never mixed with the child's."""
    assert below(parent, child) == expected


REDIRECT = "redirectAction: {hostRedirect: b.com}"
DIRECT = "directResponseAction: {status: 200}"


@pytest.mark.parametrize("action", [REDIRECT, DIRECT])
def test_options_for_forwarding_are_not_inherited_by_answers(action: str) -> None:
    """A redirect or direct response below a route with a timeout is served without it, and is no error."""
    parent = (
        "{timeout: 2s, retries: {retryOn: 5xx}, prefixRewrite: /x, hostRewrite: h, cors: {allowOrigin: [a]}, "
        "ratelimit: {rateLimits: [{}], localRatelimit: {maxTokens: 1}}, ratelimitEarly: {rateLimits: [{}]}}"
    )
    assert below(parent, "{}", action) == {
        "cors": {"allowOrigin": ["a"]},
        "ratelimit": {"localRatelimit": {"maxTokens": 1}},
    }


def test_own_options_for_forwarding_stay_on_an_answer() -> None:
    """What a redirect says itself is left for its option to refuse."""
    assert below("{}", "{timeout: 2s}", REDIRECT) == {"timeout": "2s"}


def option(kind: str, name: str, options: str) -> str:
    """A RouteOption or VirtualHostOption."""
    return f"metadata: {{name: {name}, namespace: gloo-system}}\noptions: {options}"


REFS = (
    "optionsConfigRefs: {delegateOptions: [{name: one, namespace: gloo-system}, {name: two, namespace: gloo-system}]}"
)


def test_route_options_fill_in_order_and_before_the_parent() -> None:
    """Inline options win, then the first reference, then the second, then the delegating route."""
    vs = service(f"routes:\n- matchers: [{{prefix: /a}}]\n  {REF}\n  options: {{timeout: 9s, idleTimeout: 9s}}")
    rt = table(f"routes:\n- matchers: [{{prefix: /a/1}}]\n  {TO}\n  {REFS}\n  options: {{prefixRewrite: /own}}")
    outcome = with_gateway(
        vs,
        RouteTable=rt,
        RouteOption=[
            option("RouteOption", "one", "{prefixRewrite: /one, timeout: 1s}"),
            option("RouteOption", "two", "{timeout: 2s, retries: {retryOn: '5xx'}}"),
        ],
    )
    assert outcome.said() == []
    assert outcome.routes()[0]["options"] == {
        "prefixRewrite": "/own",
        "timeout": "1s",
        "retries": {"retryOn": "5xx"},
        "idleTimeout": "9s",
    }


def test_options_of_a_delegating_route_may_come_by_reference() -> None:
    """What a delegating route takes from a RouteOption goes down to its children."""
    vs = service(f"routes:\n- matchers: [{{prefix: /a}}]\n  {REF}\n  {REFS}")
    outcome = with_gateway(
        vs,
        RouteTable=table(f"routes: [{{matchers: [{{prefix: /a/1}}], {TO}}}]"),
        RouteOption=[option("RouteOption", "one", "{timeout: 1s}"), option("RouteOption", "two", "{}")],
    )
    assert outcome.said() == []
    assert outcome.routes()[0]["options"] == {"timeout": "1s"}


def test_missing_route_option_is_a_warning() -> None:
    """A reference to nothing leaves the route in service and says which one is missing."""
    outcome = with_gateway(service(f"routes:\n- {TO}\n  {REFS}"), RouteOption=option("", "two", "{timeout: 2s}"))
    assert outcome.routes()[0]["options"] == {"timeout": "2s"}
    assert outcome.said() == [
        (
            "warning VirtualService gloo-system.vs virtualHost.routes[0].optionsConfigRefs.delegateOptions[0]: "
            "RouteOption gloo-system.one missing; its options are left out until it exists"
        )
    ]


def test_virtual_host_options_fill_in_order() -> None:
    """Inline options of a virtual host win over its references, the first of them over the second."""
    outcome = with_gateway(
        service(f"options: {{retries: {{}}}}\n{REFS}"),
        VirtualHostOption=[option("", "two", "{retries: {retryOn: x}, includeRequestAttemptCount: true}")],
    )
    assert to_document(outcome.host().message.options) == {"retries": {}, "includeRequestAttemptCount": True}
    assert outcome.said() == [
        (
            "warning VirtualService gloo-system.vs virtualHost.optionsConfigRefs.delegateOptions[0]: "
            "VirtualHostOption gloo-system.one missing; its options are left out until it exists"
        )
    ]


def test_findings_go_to_the_object_that_wrote_the_option() -> None:
    """A wrong option is said to the object that has it, wherever it is inherited, and to the service on top."""
    vs = service(f"routes:\n- matchers: [{{prefix: /a}}]\n  {REF}\n  options: {{timeout: 9s}}\n- {TO}")
    rt = table(f"routes:\n- matchers: [{{prefix: /a/1}}]\n  {TO}\n  {REFS}\n  options: {{prefixRewrite: /own}}")
    outcome = with_gateway(
        vs,
        RouteTable=rt,
        RouteOption=[option("", "one", "{idleTimeout: 1s}"), option("", "two", "{upgrades: [{websocket: {}}]}")],
    )
    host = outcome.host()
    via = "error VirtualService gloo-system.vs virtualHost.routes[0]: on "
    assert [say(problem) for problem in host.report_route(0, error("options.timeout", "bad"))] == [
        "error VirtualService gloo-system.vs virtualHost.routes[0].options.timeout: bad"
    ]
    assert [say(problem) for problem in host.report_route(0, error("options.prefixRewrite", "bad"))] == [
        "error RouteTable gloo-system.rt routes[0].options.prefixRewrite: bad",
        via + "sub route table gloo-system.rt: routes[0].options.prefixRewrite: bad",
    ]
    assert [say(problem) for problem in host.report_route(0, error("options.upgrades[0]", "bad"))] == [
        "error RouteOption gloo-system.two options.upgrades[0]: bad",
        via + "RouteOption gloo-system.two: options.upgrades[0]: bad",
    ]
    assert next(say(problem) for problem in host.report_route(0, error("matchers[0].prefix", "bad"))) == (
        "error RouteTable gloo-system.rt routes[0].matchers[0].prefix: bad"
    )
    assert [say(problem) for problem in host.report_route(1, error("options.timeout", "bad"))] == [
        "error VirtualService gloo-system.vs virtualHost.routes[1].options.timeout: bad"
    ]


def test_findings_on_virtual_host_options_go_to_their_object() -> None:
    """An option that came from a VirtualHostOption is that object's mistake, and the service is told."""
    outcome = with_gateway(
        service(f"options: {{cors: {{}}}}\n{REFS}"),
        VirtualHostOption=[option("", "one", "{retries: {}}"), option("", "two", "{}")],
    )
    host = outcome.host()
    assert host.options == {"retries": (ObjectRef("VirtualHostOption", "gloo-system", "one"), "options")}
    assert [say(problem) for problem in host.report_host(error("options.retries.retryOn", "bad"))] == [
        "error VirtualHostOption gloo-system.one options.retries.retryOn: bad",
        (
            "error VirtualService gloo-system.vs virtualHost: on VirtualHostOption gloo-system.one: "
            "options.retries.retryOn: bad"
        ),
    ]
    assert [say(problem) for problem in host.report_host(error("options.cors", "bad"))] == [
        "error VirtualService gloo-system.vs virtualHost.options.cors: bad"
    ]
