"""Which requests an access log is about.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/accesslog/v3/accesslog.proto: the contract's filters are
Envoy's, down to the numbers of their fields.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.route.v3 import route_components_pb2

from gloo_nomad.acceptance.headers import name_fault
from gloo_nomad.acceptance.regexes import regex_fault
from gloo_nomad.acceptance.rules import broken_rules
from gloo_nomad.api.gen import als_pb2, envoy_route_pb2
from gloo_nomad.messages import regex_matcher, to_bytes
from gloo_nomad.options.hooks import EVERY, Claims
from gloo_nomad.reports import Finding, error

_MESSAGES: Final = (
    *("AccessLogFilter", "StatusCodeFilter", "DurationFilter", "ComparisonFilter", "RuntimeFilter", "AndFilter"),
    *("OrFilter", "HeaderFilter", "ResponseFlagFilter", "GrpcStatusFilter"),
)
FILTER_READS: Claims = {
    **{f"als.options.gloo.solo.io.{name}": EVERY for name in _MESSAGES},
    "solo.io.envoy.config.core.v3.RuntimeUInt32": EVERY,
    "solo.io.envoy.config.route.v3.HeaderMatcher": EVERY,
    "solo.io.envoy.type.v3.FractionalPercent": EVERY,
    "solo.io.envoy.type.v3.Int64Range": EVERY,
}
"""What is read of filters, for the claims of the option."""

MAX_DEPTH: Final = 10
"""How deep ``andFilter`` and ``orFilter`` may be nested; a message that is too deep cannot be read by Envoy at all."""
_TEXTS: Final = ("exact_match", "prefix_match", "suffix_match")


def check_filter(source: als_pb2.AccessLogFilter, path: str) -> Iterator[Finding]:
    """What is wrong with a filter; *path* is where it stands."""
    if _depth(source) > MAX_DEPTH:
        yield error(path, f"andFilter and orFilter are nested more than {MAX_DEPTH} deep")
        return
    for breach in broken_rules(_copy(source)):
        if ".header." not in f".{breach.path}.":
            yield error(_join(path, breach.path), _reason(breach.reason))
    for inner, matcher in _matchers(source, path):
        yield from _check_matcher(matcher, inner)


def build_filter(source: als_pb2.AccessLogFilter) -> Any:
    """The filter as Envoy's."""
    built = _copy(source)
    _apply_matchers(source, built)
    return built


def _copy(source: als_pb2.AccessLogFilter) -> Any:
    return accesslog_pb2.AccessLogFilter.FromString(to_bytes(source))


def _join(path: str, inner: str) -> str:
    camel = re.sub("_([a-z])", lambda found: found[1].upper(), inner)
    return f"{path}.{camel}" if camel else path


def _reason(reason: str) -> str:
    if "filter_specifier" in reason:
        return "has no filter; set one of statusCodeFilter, durationFilter, headerFilter and their like"
    return reason


def _inner(source: als_pb2.AccessLogFilter) -> Iterator[tuple[str, als_pb2.AccessLogFilter]]:
    kind = source.WhichOneof("filter_specifier")
    if kind in ("and_filter", "or_filter"):
        written = "andFilter" if kind == "and_filter" else "orFilter"
        for index, part in enumerate(getattr(source, kind).filters):
            yield f"{written}.filters[{index}]", part


def _depth(source: als_pb2.AccessLogFilter) -> int:
    """How many filters stand inside each other, counted no further than one too many."""
    level, parts = 0, [source]
    while parts and level <= MAX_DEPTH:
        level, parts = level + 1, [inner for part in parts for _, inner in _inner(part)]
    return level


def _matchers(source: als_pb2.AccessLogFilter, path: str) -> Iterator[tuple[str, envoy_route_pb2.HeaderMatcher]]:
    """Every matcher of a header, with its path."""
    if source.HasField("header_filter"):
        yield f"{path}.headerFilter.header", source.header_filter.header
    for inner, part in _inner(source):
        yield from _matchers(part, f"{path}.{inner}")


def _check_matcher(matcher: envoy_route_pb2.HeaderMatcher, path: str) -> Iterator[Finding]:
    if fault := name_fault(matcher.name, pseudo=True):
        yield error(f"{path}.name", fault)
    kind = matcher.WhichOneof("header_match_specifier")
    if kind == "safe_regex_match" and (fault := regex_fault(matcher.safe_regex_match.regex)):
        yield error(f"{path}.safeRegexMatch.regex", fault)
    if kind in ("prefix_match", "suffix_match") and not getattr(matcher, kind):
        written = matcher.DESCRIPTOR.fields_by_name[kind].camelcase_name
        yield error(f"{path}.{written}", "must not be empty; write presentMatch: true for any value")


def _apply_matchers(source: als_pb2.AccessLogFilter, out: Any) -> None:
    """Matchers in the words that Envoy wants today: its older ones, which the contract has, are deprecated."""
    if source.HasField("header_filter"):
        out.header_filter.header.CopyFrom(_build_matcher(source.header_filter.header))
    for (_, part), built in zip(_inner(source), [*out.and_filter.filters, *out.or_filter.filters], strict=True):
        _apply_matchers(part, built)


def _build_matcher(matcher: envoy_route_pb2.HeaderMatcher) -> Any:
    built = route_components_pb2.HeaderMatcher(name=matcher.name, invert_match=matcher.invert_match)
    match matcher.WhichOneof("header_match_specifier"):
        case "safe_regex_match":
            built.string_match.safe_regex.CopyFrom(regex_matcher(matcher.safe_regex_match.regex))
        case "range_match":
            built.range_match.start, built.range_match.end = matcher.range_match.start, matcher.range_match.end
        case "present_match":
            built.present_match = matcher.present_match
        case str(kind) if kind in _TEXTS:
            setattr(built.string_match, kind.removesuffix("_match"), getattr(matcher, kind))
        case _:
            built.present_match = True
    return built
