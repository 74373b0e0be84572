"""Routes that no request ever reaches, because a route before them takes all of theirs.

Said only with ``gateway.validation.warnRouteShortCircuiting``: a warning on the route that is never reached. A route is
hidden by one before it whose path takes in all of its paths and that asks for no header, query parameter or method
that the hidden one does not ask for as well. What cannot be told for certain is not said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.acceptance.regexes import regex_covers
from gloo_nomad.api.gen import matchers_pb2, proxy_pb2
from gloo_nomad.gateway.matchers import ROOT, path_text
from gloo_nomad.messages import to_bytes
from gloo_nomad.reports import Finding, warning

FIELDS: Final = {"gloo.solo.io.GatewayOptions.ValidationOptions": ("warn_route_short_circuiting",)}

MAX_REGEXES: Final = 100
"""Regular expressions that later routes are compared with: each of them costs each later route."""

Matcher = matchers_pb2.Matcher


@dataclass(frozen=True, slots=True)
class _Earlier:
    """A matcher that was seen before."""

    matcher: Matcher
    index: int
    """Of its route."""
    name: str

    def describe(self) -> str:
        """Which route it is, as the user knows it."""
        kind = self.matcher.WhichOneof("path_specifier")
        named = f" ({self.name})" if self.name else ""
        return f"route {self.index}{named} with {kind} {path_text(self.matcher)}"


@dataclass(slots=True)
class _Seen:
    """The matchers before the one at hand, by what they can hide."""

    exactly: dict[bytes, _Earlier] = field(default_factory=dict)
    prefixes: dict[tuple[str, bool], list[_Earlier]] = field(default_factory=dict)
    """By prefix and whether case counts."""
    regexes: list[_Earlier] = field(default_factory=list)

    def add(self, key: bytes, earlier: _Earlier) -> None:
        """Remembers a matcher."""
        matcher = earlier.matcher
        self.exactly.setdefault(key, earlier)
        match matcher.WhichOneof("path_specifier"):
            case "prefix":
                cased = _minds_case(matcher)
                prefix = matcher.prefix if cased else matcher.prefix.lower()
                self.prefixes.setdefault((prefix, cased), []).append(earlier)
            case "regex" if len(self.regexes) < MAX_REGEXES:
                self.regexes.append(earlier)

    def hiding(self, matcher: Matcher) -> Iterator[_Earlier]:
        """Those whose paths take in all of a matcher's; their other constraints are not looked at."""
        path, kind = path_text(matcher), matcher.WhichOneof("path_specifier")
        if kind == "regex":
            path = "/"  # every path begins with it
        if kind in {"prefix", "exact", "regex"}:
            for end in range(1, len(path) + 1):
                if _minds_case(matcher) or kind == "regex":
                    yield from self.prefixes.get((path[:end], True), ())
                yield from self.prefixes.get((path[:end].lower(), False), ())
        if kind in {"prefix", "exact"} and _minds_case(matcher):
            for earlier in self.regexes:
                if regex_covers(earlier.matcher.regex, path, prefix=kind == "prefix"):
                    yield earlier


def find_short_circuits(routes: Sequence[proxy_pb2.Route]) -> Iterator[tuple[int, Finding]]:
    """Each route that is never reached, by its number, with a warning that names the one that hides it."""
    seen = _Seen()
    for index, route in enumerate(routes):
        for place, matcher in enumerate(route.matchers or (ROOT,)):
            key = to_bytes(matcher)
            hidden_by = _hidden_by(key, matcher, seen)
            if hidden_by is not None:
                text = f"is never reached: {hidden_by.describe()} comes before it and takes all of its requests"
                yield index, warning(f"matchers[{place}]", f"{text}; put this one first, or remove it")
            seen.add(key, _Earlier(matcher, index, route.name))


def _hidden_by(key: bytes, matcher: Matcher, seen: _Seen) -> _Earlier | None:
    if key in seen.exactly:
        return seen.exactly[key]
    return next((earlier for earlier in seen.hiding(matcher) if _asks_less(earlier.matcher, matcher)), None)


def _asks_less(earlier: Matcher, later: Matcher) -> bool:
    """Whether whatever fulfils the later one's constraints beside the path fulfils the earlier one's too."""
    if earlier.methods and not (later.methods and set(later.methods) <= set(earlier.methods)):
        return False
    return all(header in later.headers for header in earlier.headers) and all(
        parameter in later.query_parameters for parameter in earlier.query_parameters
    )


def _minds_case(matcher: Matcher) -> bool:
    return not matcher.HasField("case_sensitive") or matcher.case_sensitive.value
