"""What a route matches: a Matcher of the contract onto Envoy's RouteMatch.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-routematch
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.headers import name_fault
from gloo_nomad.acceptance.paths import path_fault
from gloo_nomad.acceptance.regexes import regex_fault
from gloo_nomad.api.gen import matchers_pb2
from gloo_nomad.messages import regex_matcher
from gloo_nomad.options.hooks import Claims
from gloo_nomad.reports import Finding, error

READS: Claims = {
    "matchers.core.gloo.solo.io.Matcher": (
        "prefix",
        "exact",
        "regex",
        "connect_matcher",
        "case_sensitive",
        "headers",
        "query_parameters",
        "methods",
    ),
    "matchers.core.gloo.solo.io.HeaderMatcher": ("name", "value", "regex", "invert_match"),
    "matchers.core.gloo.solo.io.QueryParameterMatcher": ("name", "value", "regex"),
}

MAX_QUERY_NAME_BYTES: Final = 1024
"""Envoy's bound for the name of a query parameter."""

_METHOD: Final = re.compile(r"[0-9A-Za-z_-]+\Z")
_CONTROL: Final = re.compile(r"[\x00\r\n]")


def apply_matcher(matcher: matchers_pb2.Matcher, out: Any) -> Iterator[Finding]:
    """All of the matcher onto a RouteMatch; any finding means that it must not be served."""
    yield from _apply_path(matcher, out)
    if matcher.HasField("case_sensitive"):
        out.case_sensitive.value = matcher.case_sensitive.value
    for index, header in enumerate(matcher.headers):
        yield from _apply_header(header, out.headers.add(), f"headers[{index}]")
    for index, parameter in enumerate(matcher.query_parameters):
        yield from _apply_query_parameter(parameter, out.query_parameters.add(), f"queryParameters[{index}]")
    if matcher.methods:
        yield from _apply_methods(matcher.methods, out)


def _apply_path(matcher: matchers_pb2.Matcher, out: Any) -> Iterator[Finding]:
    match matcher.WhichOneof("path_specifier"):
        case "prefix":
            out.prefix = matcher.prefix
            yield from _faults("prefix", path_fault(matcher.prefix))
        case "exact":
            out.path = matcher.exact
            yield from _faults("exact", path_fault(matcher.exact))
        case "regex":
            out.safe_regex.CopyFrom(regex_matcher(matcher.regex))
            yield from _faults("regex", regex_fault(matcher.regex))
        case "connect_matcher":
            out.connect_matcher.SetInParent()
        case _:
            yield error("", "no path specifier provided: give the matcher a prefix, exact, regex or connectMatcher")


def _apply_header(header: matchers_pb2.HeaderMatcher, out: Any, path: str) -> Iterator[Finding]:
    out.name = header.name
    yield from _faults(f"{path}.name", name_fault(header.name, pseudo=True))
    yield from _apply_value(header, out, path)
    out.invert_match = header.invert_match


def _apply_query_parameter(parameter: matchers_pb2.QueryParameterMatcher, out: Any, path: str) -> Iterator[Finding]:
    out.name = parameter.name
    if not parameter.name or len(parameter.name.encode()) > MAX_QUERY_NAME_BYTES:
        yield error(f"{path}.name", f"must have 1 to {MAX_QUERY_NAME_BYTES} bytes")
    yield from _apply_value(parameter, out, path)


def _apply_value(wanted: Any, out: Any, path: str) -> Iterator[Finding]:
    """The value of a header or query parameter; without one it only has to be there."""
    if not wanted.value:
        out.present_match = True
    elif wanted.regex:
        out.string_match.safe_regex.CopyFrom(regex_matcher(wanted.value))
        yield from _faults(f"{path}.value", regex_fault(wanted.value))
    else:
        out.string_match.exact = wanted.value
        yield from _faults(f"{path}.value", _text_fault(wanted.value))


def _apply_methods(methods: Any, out: Any) -> Iterator[Finding]:
    """One of several is a regular expression, which Envoy compiles anew for every change of its table."""
    for index, method in enumerate(methods):
        if not _METHOD.match(method):
            yield error(f"methods[{index}]", f"{method[:80]!r} is no HTTP method")
    header = out.headers.add(name=":method")
    if len(methods) == 1:
        header.string_match.exact = methods[0]
        return
    expression = "|".join(methods)
    header.string_match.safe_regex.CopyFrom(regex_matcher(expression))
    yield from _faults("methods", regex_fault(expression))


def _text_fault(text: str) -> str:
    return "must not have a line break or NUL" if _CONTROL.search(text) else ""


def _faults(path: str, fault: str) -> Iterator[Finding]:
    if fault:
        yield error(path, fault)
