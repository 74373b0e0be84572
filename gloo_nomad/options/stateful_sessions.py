"""Keeps a client at the host that answered it first, by a cookie or a header that names the host.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/stateful_session_filter. The host's address
is in the cookie or header, encoded and not encrypted.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2 as envoy_session_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2
from envoy.extensions.http.stateful_session.header.v3 import header_pb2

from gloo_nomad.acceptance.headers import name_fault, value_fault
from gloo_nomad.api.gen import stateful_session_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import refuse_durations
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, error, is_rejected

FILTER: Final = "envoy.filters.http.stateful_session"
COOKIE: Final = "envoy.http.stateful_session.cookie"
HEADER: Final = "envoy.http.stateful_session.header"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("stateful_session",),
    "stateful_session.options.gloo.solo.io.StatefulSession": EVERY,
    "stateful_session.options.gloo.solo.io.CookieBasedSessionState": EVERY,
    "stateful_session.options.gloo.solo.io.CookieBasedSessionState.Cookie": EVERY,
    "stateful_session.options.gloo.solo.io.HeaderBasedSessionState": EVERY,
}
_PATH: Final = "statefulSession"


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if not context.options.HasField("stateful_session"):
        return
    session = context.options.stateful_session
    findings = [*_check(session)]
    yield from findings
    if not is_rejected(findings):
        config = typed_config(_build_session(session))
        built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config)
        yield StagedFilter(Stage.ROUTE, built, Position.AFTER)


def _check(session: stateful_session_pb2.StatefulSession) -> Iterator[Finding]:
    match session.WhichOneof("SessionState"):
        case "cookie_based":
            yield from _check_cookie(session.cookie_based.cookie, f"{_PATH}.cookieBased.cookie")
        case "header_based":
            if fault := name_fault(session.header_based.header_name):
                yield error(f"{_PATH}.headerBased.headerName", fault)
        case _:
            yield error(_PATH, "needs cookieBased or headerBased")


def _check_cookie(cookie: stateful_session_pb2.CookieBasedSessionState.Cookie, path: str) -> Iterator[Finding]:
    if fault := name_fault(cookie.name):
        yield error(f"{path}.name", fault.replace("header", "cookie"))
    if fault := value_fault(cookie.path):
        yield error(f"{path}.path", fault)
    elif ";" in cookie.path:
        yield error(f"{path}.path", "must not have a semicolon")
    yield from refuse_durations(cookie, ("ttl",), path)


def _build_session(session: stateful_session_pb2.StatefulSession) -> Any:
    built = envoy_session_pb2.StatefulSession(strict=session.strict)
    if session.WhichOneof("SessionState") == "header_based":
        by_header = header_pb2.HeaderBasedSessionState(name=session.header_based.header_name)
        built.session_state.name = HEADER
        built.session_state.typed_config.CopyFrom(typed_config(by_header))
        return built
    cookie = session.cookie_based.cookie
    by_cookie = cookie_pb2.CookieBasedSessionState()
    by_cookie.cookie.name, by_cookie.cookie.path = cookie.name, cookie.path
    if cookie.HasField("ttl"):
        by_cookie.cookie.ttl.CopyFrom(cookie.ttl)
    built.session_state.name = COOKIE
    built.session_state.typed_config.CopyFrom(typed_config(by_cookie))
    return built
