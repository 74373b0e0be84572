"""The order of routes that come from several route tables: the more specific ones first.

It protects from a route that hides another. The rules are the ones that ``glooctl route sort`` applies, which
https://docs.solo.io/gloo-edge/latest/guides/traffic_management/destination_types/delegation/#route-sorting names.
"""

from collections.abc import Iterable
from functools import total_ordering
from typing import Any, Final, TypeVar

from gloo_nomad.gateway.matchers import path_text

_KINDS: Final = {"exact": 1, "regex": 2, "prefix": 3}

T = TypeVar("T")


@total_ordering
class _Rank:
    """More methods first, then exact before regex before prefix, then the greater path (so longer before shorter)."""

    __slots__ = ("kind", "methods", "path")

    def __init__(self, matcher: Any) -> None:
        self.methods = -len(matcher.methods)
        self.kind = _KINDS.get(matcher.WhichOneof("path_specifier"), 0)
        self.path = path_text(matcher)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rank) and (self.methods, self.kind, self.path) == (
            other.methods,
            other.kind,
            other.path,
        )

    def __hash__(self) -> int:
        return hash((self.methods, self.kind, self.path))

    def __lt__(self, other: "_Rank") -> bool:
        if (self.methods, self.kind) != (other.methods, other.kind):
            return (self.methods, self.kind) < (other.methods, other.kind)
        return self.path > other.path


def sort_routes(routes: Iterable[T], matchers: Any) -> list[T]:
    """Routes in order; *matchers* gives a route's matchers, of which the foremost counts. Equal ones keep theirs."""
    return sorted(routes, key=lambda route: min(map(_Rank, matchers(route))))
