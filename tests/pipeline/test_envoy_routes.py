"""Routes: matchers, answers of Envoy's own, names, and what becomes of invalid ones."""

import json

import pytest

from tests.pipeline.envoy_world import GATEWAY, TO_UP, make_world, upstream, virtual_service

POLICY = {
    "gloo": {
        "invalidConfigPolicy": {
            "replaceInvalidRoutes": True,
            "invalidRouteResponseCode": 503,
            "invalidRouteResponseBody": "come back later",
        }
    }
}


def one_match(matcher: str) -> object:
    """The Envoy match of a route with this matcher."""
    route = f"{{matchers: [{matcher}], directResponseAction: {{status: 200}}}}"
    world = make_world(GATEWAY, virtual_service(route))
    assert world.said("VirtualService", "vs") == []
    return world.routes()[0].match


@pytest.mark.parametrize(
    ("written", "field", "value"),
    [("prefix: /a", "prefix", "/a"), ("exact: /a", "path", "/a"), ("prefix: ''", "prefix", "")],
)
def test_paths(written: str, field: str, value: str) -> None:
    """Prefix and exact are taken over as they are."""
    match = one_match(f"{{{written}}}")

    assert getattr(match, field) == value


def test_regex_and_connect() -> None:
    """A regex must match the whole path; connectMatcher is Envoy's."""
    assert one_match("{regex: '/a/[0-9]+'}").safe_regex.regex == "/a/[0-9]+"  # type: ignore[attr-defined]
    assert one_match("{connectMatcher: {}}").HasField("connect_matcher")  # type: ignore[attr-defined]


def test_large_regex_says_that_it_is_large() -> None:
    """Envoy refuses expressions of more than 100 steps unless they say so."""
    match = one_match("{regex: '/%s'}" % ("a" * 300))

    assert match.safe_regex.google_re2.max_program_size.value > 300  # type: ignore[attr-defined]


def test_case_sensitivity_only_if_written() -> None:
    """caseSensitive: false is not the same as leaving it out."""
    assert not one_match("{prefix: /a}").HasField("case_sensitive")  # type: ignore[attr-defined]
    assert one_match("{prefix: /a, caseSensitive: false}").case_sensitive.value is False  # type: ignore[attr-defined]


def test_headers() -> None:
    """Without a value presence counts, with one equality or a regex; each may be inverted."""
    headers = one_match(
        "{prefix: /, headers: [{name: a}, {name: b, value: x}, {name: c, value: 'x+', regex: true, invertMatch: true}]}"
    ).headers  # type: ignore[attr-defined]

    assert [header.name for header in headers] == ["a", "b", "c"]
    assert headers[0].present_match is True
    assert headers[1].string_match.exact == "x"
    assert headers[2].string_match.safe_regex.regex == "x+"
    assert [header.invert_match for header in headers] == [False, False, True]


def test_query_parameters() -> None:
    """The same for query parameters."""
    parameters = one_match(
        "{prefix: /, queryParameters: [{name: a}, {name: b, value: x}, {name: c, value: 'x+', regex: true}]}"
    ).query_parameters  # type: ignore[attr-defined]

    assert parameters[0].present_match is True
    assert parameters[1].string_match.exact == "x"
    assert parameters[2].string_match.safe_regex.regex == "x+"


def test_one_method_is_no_regular_expression() -> None:
    """Envoy compiles those anew for every change of its table."""
    (header,) = one_match("{prefix: /, methods: [GET]}").headers  # type: ignore[attr-defined]
    assert (header.name, header.string_match.exact) == (":method", "GET")


def test_methods_are_one_header_matcher() -> None:
    """Any of the methods will do."""
    (header,) = one_match("{prefix: /, methods: [GET, POST]}").headers  # type: ignore[attr-defined]

    assert header.name == ":method"
    assert header.string_match.safe_regex.regex == "GET|POST"


@pytest.mark.parametrize(
    ("matcher", "path"),
    [
        ("{prefix: /a//b}", "matchers[0].prefix"),
        ("{prefix: '/a b'}", "matchers[0].prefix"),
        ("{exact: /a/../b}", "matchers[0].exact"),
        ("{exact: '/a#b'}", "matchers[0].exact"),
        ("{exact: /a%2Fb}", "matchers[0].exact"),
        ("{regex: '/a(?=b)'}", "matchers[0].regex"),
        ("{regex: ''}", "matchers[0].regex"),
        ("{headers: [{name: a}]}", "matchers[0]"),
        ("{prefix: /, headers: [{name: 'a b'}]}", "matchers[0].headers[0].name"),
        ("{prefix: /, headers: [{name: a, value: '(', regex: true}]}", "matchers[0].headers[0].value"),
        ('{prefix: /, headers: [{name: a, value: "x\\ny"}]}', "matchers[0].headers[0].value"),
        ("{prefix: /, queryParameters: [{value: x}]}", "matchers[0].queryParameters[0].name"),
        (
            "{prefix: /, queryParameters: [{name: a, value: '\\1', regex: true}]}",
            "matchers[0].queryParameters[0].value",
        ),
        ("{prefix: /, methods: ['GET|POST']}", "matchers[0].methods[0]"),
    ],
)
def test_invalid_matcher_is_left_out_alone(matcher: str, path: str) -> None:
    """A matcher that Envoy or common sense refuses costs its own route and nothing else."""
    route = f"{{matchers: [{matcher}, {{prefix: /ok}}], directResponseAction: {{status: 200}}}}"
    world = make_world(GATEWAY, virtual_service(route, TO_UP), upstream())

    said = world.said("VirtualService", "vs")
    assert len(said) == 1
    assert said[0].startswith(f"error virtualHost.routes[0].{path}: ")
    assert [route.match.prefix for route in world.routes()] == ["/ok", "/"]


def test_one_route_for_each_matcher() -> None:
    """Envoy's routes are named after virtual host, route and matcher."""
    route = "{matchers: [{prefix: /a}, {prefix: /b}], directResponseAction: {status: 200}}"
    world = make_world(GATEWAY, virtual_service(route, route))

    assert [found.name for found in world.routes()] == [
        "gloo-system_vs-route-0-matcher-0",
        "gloo-system_vs-route-0-matcher-1",
        "gloo-system_vs-route-1-matcher-0",
        "gloo-system_vs-route-1-matcher-1",
    ]


def test_route_without_matcher_takes_everything() -> None:
    """No matcher means every path."""
    world = make_world(GATEWAY, virtual_service("{directResponseAction: {status: 200}}"))

    assert world.routes()[0].match.prefix == "/"


def test_redirect() -> None:
    """All fields of a redirect."""
    world = make_world(
        GATEWAY,
        virtual_service(
            "{redirectAction: {hostRedirect: b.com, pathRedirect: /x, responseCode: FOUND, httpsRedirect: true,"
            " stripQuery: true, portRedirect: 8443}}",
            "{redirectAction: {prefixRewrite: /y, responseCode: PERMANENT_REDIRECT}}",
            "{redirectAction: {regexRewrite: {pattern: {regex: '/(.*)'}, substitution: '/z/\\1'}}}",
        ),
    )
    first, second, third = (route.redirect for route in world.routes())

    assert world.said("VirtualService", "vs") == []
    assert (first.host_redirect, first.path_redirect, first.response_code) == ("b.com", "/x", first.FOUND)
    assert (first.https_redirect, first.strip_query, first.port_redirect) == (True, True, 8443)
    assert (second.prefix_rewrite, second.response_code) == ("/y", second.PERMANENT_REDIRECT)
    assert (third.regex_rewrite.pattern.regex, third.regex_rewrite.substitution) == ("/(.*)", "/z/\\1")


@pytest.mark.parametrize(
    ("action", "path"),
    [
        ("redirectAction: {hostRedirect: 'a b'}", "redirectAction.hostRedirect"),
        ("redirectAction: {pathRedirect: '//x'}", "redirectAction.pathRedirect"),
        ("redirectAction: {prefixRewrite: '/x y'}", "redirectAction.prefixRewrite"),
        ("redirectAction: {portRedirect: 70000}", "redirectAction.portRedirect"),
        ("redirectAction: {regexRewrite: {pattern: {regex: '('}}}", "redirectAction.regexRewrite.pattern.regex"),
        (
            "redirectAction: {regexRewrite: {pattern: {regex: 'a'}, substitution: '\\2'}}",
            "redirectAction.regexRewrite.substitution",
        ),
        ("directResponseAction: {status: 99}", "directResponseAction.status"),
        ("directResponseAction: {status: 600}", "directResponseAction.status"),
        ("directResponseAction: {status: 200, body: '%s'}" % ("x" * 4097), "directResponseAction.body"),
    ],
)
def test_invalid_action_is_answered_instead(action: str, path: str) -> None:
    """A route whose action is invalid answers 404 where it matches; the object is told which field."""
    world = make_world(GATEWAY, virtual_service(f"{{matchers: [{{prefix: /a}}], {action}}}"))
    (route,) = world.routes()

    assert [text.split(": ")[0] for text in world.said("VirtualService", "vs")] == [
        f"error virtualHost.routes[0].{path}"
    ]
    assert (route.match.prefix, route.direct_response.status) == ("/a", 404)


def test_body_may_be_as_large_as_the_gateway_allows() -> None:
    """MaxDirectResponseBodySizeBytes of the Gateway's routeOptions is Envoy's bound and ours."""
    body = "x" * 5000
    roomy = GATEWAY + "routeOptions: {maxDirectResponseBodySizeBytes: 5000}\n"
    world = make_world(roomy, virtual_service(f"{{directResponseAction: {{status: 200, body: {body}}}}}"))

    assert world.said("VirtualService", "vs") == []
    assert world.route_config().max_direct_response_body_size_bytes.value == 5000
    assert world.routes()[0].direct_response.body.inline_string == body


def test_invalid_config_policy_says_what_is_answered() -> None:
    """Status and body of invalid routes come from the settings."""
    world = make_world(GATEWAY, virtual_service("{directResponseAction: {status: 1}}"), settings=POLICY)

    answer = world.routes()[0].direct_response
    assert (answer.status, answer.body.inline_string) == (503, "come back later")


def test_missing_upstream_is_a_warning() -> None:
    """The route is served and leads to a cluster that does not exist."""
    world = make_world(GATEWAY, virtual_service(TO_UP))

    (said,) = world.said("VirtualService", "vs")
    assert said == (
        "warning virtualHost.routes[0].routeAction.single.upstream: upstream gloo-system.up does not exist;"
        " requests are answered with 503"
    )
    assert world.routes()[0].route.cluster == "up_gloo-system"


def test_a_route_with_a_wrong_option_is_replaced_alone() -> None:
    """An error in an option is answered as the settings say, where the route matches; its neighbour is served."""
    wrong = "{matchers: [{prefix: /wrong}], options: {faults: {abort: {percentage: 1, httpStatus: 20}}}, "
    wrong += "directResponseAction: {status: 200}}"
    world = make_world(GATEWAY, upstream(), virtual_service(wrong, TO_UP), settings=POLICY)
    replaced, beside = world.routes()

    assert [text.split(": ")[0] for text in world.said("VirtualService", "vs")] == [
        "error virtualHost.routes[0].options.faults.abort.httpStatus"
    ]
    assert (replaced.match.prefix, replaced.direct_response.status) == ("/wrong", 503)
    assert replaced.direct_response.body.inline_string == "come back later"
    assert beside.route.cluster == "up_gloo-system"


def test_replace_invalid_routes_answers_for_missing_upstream() -> None:
    """With replaceInvalidRoutes the configured answer comes from Envoy itself, as soon as the upstream is missing."""
    world = make_world(GATEWAY, virtual_service(TO_UP), settings=POLICY)
    assert world.routes()[0].direct_response.status == 503

    world.put(upstream())

    assert world.routes()[0].route.cluster == "up_gloo-system"
    assert world.said("VirtualService", "vs") == []


def test_replace_invalid_routes_answers_for_rejected_upstream() -> None:
    """A cluster that is left out because of an error is missing too."""
    broken = upstream(spec="static: {hosts: [{addr: 127.0.0.1, port: 0}]}")
    world = make_world(GATEWAY, virtual_service(TO_UP), broken, settings=POLICY)

    assert world.routes()[0].direct_response.status == 503
    assert world.said("VirtualService", "vs")[0].startswith("warning ")


def test_route_without_action_is_an_error() -> None:
    """A route has to say what it does."""
    world = make_world(GATEWAY, virtual_service("{matchers: [{prefix: /a}]}"))

    assert any("must specify an action" in text for text in world.said("VirtualService", "vs"))


def test_error_in_route_table_is_said_to_the_route_table() -> None:
    """The object at fault is told, and the virtual service on top that it concerns it."""
    table = """
kind: RouteTable
metadata: {name: rt, namespace: gloo-system}
routes:
  - {matchers: [{prefix: /a}], directResponseAction: {status: 200}}
  - {matchers: [{prefix: /a/b}], directResponseAction: {status: 1}}
"""
    delegate = "{matchers: [{prefix: /a}], delegateAction: {ref: {name: rt, namespace: gloo-system}}}"
    world = make_world(GATEWAY, table, virtual_service(delegate))

    said = world.said("RouteTable", "rt")
    assert len(said) == 1
    assert said[0].startswith("error routes[1].directResponseAction.status: ")
    assert all("on sub route table" in text for text in world.said("VirtualService", "vs"))
    assert [route.direct_response.status for route in world.routes()] == [200, 404]


def test_hostile_text_never_raises() -> None:
    """Very long and strange values are refused or served, quickly."""
    strange = ["/" + "a" * 100_000, "/%", "/\x7f", "/é", "/" + "(" * 5000]
    quoted = [json.dumps(text) for text in strange]
    routes = [
        f"{{matchers: [{{regex: {text}}}, {{prefix: {text}}}], directResponseAction: {{status: 200}}}}"
        for text in quoted
    ]
    world = make_world(GATEWAY, virtual_service(*routes))

    assert len(world.said("VirtualService", "vs")) >= len(strange)
