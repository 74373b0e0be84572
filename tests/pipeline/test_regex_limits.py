"""``gloo.regexMaxProgramSize``: Envoy is told the limit, and what is above it is refused on its object."""

from typing import Any

import pytest
from envoy.extensions.filters.http.cors.v3 import cors_pb2

from tests.pipeline.envoy_world import GATEWAY, TO_UP, World, make_world, upstream, virtual_service

LONG = "/[a-z]{150}"
ANSWER = "directResponseAction: {status: 200}"
FORWARD = "routeAction: {single: {upstream: {name: up, namespace: gloo-system}}}"
CORS = "options: {cors: {allowOriginRegex: ['https://.*']}}"


def limited(limit: int | None, *routes: str) -> World:
    """Routes under a limit."""
    settings: dict[str, Any] = {"gloo": {"regexMaxProgramSize": limit}} if limit is not None else {}
    return make_world(GATEWAY, virtual_service(*routes), upstream(), settings=settings)


def test_envoy_is_told_the_limit() -> None:
    """Each expression says it, in matchers, in options and in the configurations of filters."""
    redirect = "redirectAction: {regexRewrite: {pattern: {regex: '/b.*'}, substitution: /c}}"
    world = limited(200, f"{{matchers: [{{regex: '/a.*'}}], {FORWARD}, {CORS}}}", f"{{matchers: [], {redirect}}}")
    first, second = world.routes()
    cors = cors_pb2.CorsPolicy()
    assert first.typed_per_filter_config["envoy.filters.http.cors"].Unpack(cors)

    assert first.match.safe_regex.google_re2.max_program_size.value == 200
    assert cors.allow_origin_string_match[0].safe_regex.google_re2.max_program_size.value == 200
    assert second.redirect.regex_rewrite.pattern.google_re2.max_program_size.value == 200
    assert world.problems() == []


def test_an_expression_above_the_limit_is_refused() -> None:
    """A route with a matcher above the limit is left out, one with such an option is answered in its place."""
    option = f"options: {{regexRewrite: {{pattern: {{regex: '{LONG}'}}, substitution: /}}}}"
    rewrite = f"{{matchers: [{{prefix: /b}}], {FORWARD}, {option}}}"
    world = limited(50, f"{{matchers: [{{regex: '{LONG}'}}], {ANSWER}}}", rewrite, TO_UP)
    said = world.said("VirtualService", "vs")

    assert [route.name for route in world.routes()] == [
        "gloo-system_vs-route-1-matcher-0",
        "gloo-system_vs-route-2-matcher-0",
    ]
    assert world.routes()[0].direct_response.status == 404
    assert [text.split(": ")[0] for text in said] == [
        "error virtualHost.routes[0].matchers[0]",
        "error virtualHost.routes[1]",
    ]
    assert all("are allowed by gloo.regexMaxProgramSize of the Settings" in text for text in said)


@pytest.mark.parametrize(("pattern", "size"), [("/a.*", 0), (LONG, 20_000)])
def test_without_a_limit_only_large_expressions_say_one(pattern: str, size: int) -> None:
    """Envoy's own limit is 100 steps; what is larger is allowed as far as it does no harm."""
    world = limited(None, f"{{matchers: [{{regex: '{pattern}'}}], {ANSWER}}}")

    assert world.routes()[0].match.safe_regex.google_re2.max_program_size.value == size
