"""Matchers of routes below other routes: what a child takes over from its parent, and whether it fits it.

https://docs.solo.io/gloo-edge/latest/guides/traffic_management/destination_types/delegation/: a delegated route must
say the path of its parent again, unless it inherits it. A constraint of a delegating
route always holds for what is below it: either the child says or inherits it, or the child is left out.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

from gloo_nomad.api.gen import matchers_pb2
from gloo_nomad.reports import Finding, error, warning

READS: Final = {
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

Matcher = matchers_pb2.Matcher
Constraint = Literal["headers", "query_parameters", "methods"]
ROOT: Final = Matcher(prefix="/")
"""What a route without matchers matches."""


class Inheritance(NamedTuple):
    """What the children of a delegating route take over from it."""

    matcher: Matcher
    matchers: bool = False
    """``inheritableMatchers``: headers, query parameters and methods go in front of the child's own."""
    path: bool = False
    """``inheritablePathMatchers``: the child's path is replaced by the parent's."""
    held: Matcher = Matcher()
    """Constraints of delegating matchers without a path: they hold below, whatever the child says."""


def path_text(matcher: Matcher) -> str:
    """The path of a matcher as text, whatever its kind; empty without one."""
    kind = matcher.WhichOneof("path_specifier")
    return str(getattr(matcher, kind)) if kind in {"prefix", "exact", "regex"} else ""


def copies(matchers: Iterable[Matcher]) -> list[Matcher]:
    """Matchers that may be changed; one for everything when there are none."""
    made = []
    for matcher in matchers:
        copy = Matcher()
        copy.CopyFrom(matcher)
        made.append(copy)
    if not made:
        made.append(Matcher(prefix="/"))
    return made


def apply_root(out: list[Matcher]) -> None:
    """Gives matchers of a delegating route that have no path the prefix ``/``, and keeps their other constraints."""
    for matcher in out:
        if matcher.WhichOneof("path_specifier") is None:
            matcher.prefix = "/"
            matcher.ClearField("case_sensitive")


def constraints(matcher: Matcher) -> Matcher:
    """Headers, query parameters and methods of a matcher, without its path."""
    return Matcher(headers=matcher.headers, query_parameters=matcher.query_parameters, methods=matcher.methods)


def apply_parent(parent: Inheritance, out: list[Matcher], *, matchers: bool, path: bool) -> None:
    """Takes the parent's path and constraints over, as the flags (the child's own, else the parent's) say."""
    for matcher in out:
        if path:
            _apply_path(parent.matcher, matcher)
        _prepend(parent.held, matcher, "headers", "query_parameters")
        if matchers:
            _prepend(parent.matcher, matcher, "headers", "query_parameters")
        if parent.held.methods:
            _narrow(parent.held.methods, matcher)
        elif matchers:
            _prepend(parent.matcher, matcher, "methods")


def _apply_path(parent: Matcher, out: Matcher) -> None:
    out.prefix = parent.prefix
    out.ClearField("case_sensitive")
    if parent.HasField("case_sensitive"):
        out.case_sensitive.CopyFrom(parent.case_sensitive)


def _prepend(parent: Matcher, out: Matcher, *names: Constraint) -> None:
    for name in names:
        own = list(getattr(out, name))
        missing = [item for item in getattr(parent, name) if item not in own]
        if missing:
            out.ClearField(name)
            getattr(out, name).extend([*missing, *own])


def _narrow(held: Iterable[str], out: Matcher) -> None:
    """Methods are narrowed, not added to: each more of them would let more requests through."""
    wanted = list(held)
    if not out.methods or set(wanted) <= set(out.methods):
        del out.methods[:]
        out.methods.extend(wanted)


def check_child(parent: Matcher, children: Iterable[Matcher]) -> Iterator[Finding]:
    """Why a delegated route does not fit the route that delegates to it; it is left out then, the rest is served."""
    for index, child in enumerate(children):
        reason = _misfit(parent, child)
        if reason:
            yield warning(f"matchers[{index}]", f"{reason}; this route is left out")


def _misfit(parent: Matcher, child: Matcher) -> str:
    if not path_text(child).startswith(parent.prefix):
        return (
            f"required prefix: {parent.prefix}, prefix: {path_text(child)}: invalid route: the path of a delegated "
            "route must begin with the prefix of the route that delegates to it (or set inheritablePathMatchers)"
        )
    if _case(parent) != _case(child):
        return (
            f"required caseSensitive: {_case(parent)}, caseSensitive: {_case(child)}: invalid route: a delegated route "
            "must say the same of caseSensitive as the route that delegates to it"
        )
    for name, text in (("headers", "headers"), ("query_parameters", "queryParameters")):
        theirs = {item.name: item for item in getattr(child, name)}
        missing = [item.name for item in getattr(parent, name) if theirs.get(item.name) != item]
        if missing:
            return _missing(text, missing, list(theirs))
    missing = [method for method in parent.methods if method not in child.methods]
    return _missing("methods", missing, list(child.methods)) if missing else ""


def _case(matcher: Matcher) -> str:
    return str(matcher.case_sensitive.value).lower() if matcher.HasField("case_sensitive") else "unset"


def _missing(field: str, missing: list[str], found: list[str]) -> str:
    return (
        f"required {field}: {', '.join(missing)}, {field}: {', '.join(found) or 'none'}: invalid route: a delegated "
        f"route must have all {field} of the route that delegates to it (or set inheritableMatchers)"
    )


def refuse_delegating(matchers: list[Matcher]) -> Finding | None:
    """Why a route with these matchers cannot delegate; None if it can."""
    if len(matchers) != 1:
        return error(
            "matchers",
            "invalid route: routes with delegate actions must omit or specify a single matcher; "
            "write one route for each matcher",
        )
    if not matchers[0].prefix:
        return error("matchers[0]", "invalid route: routes with delegate actions must use a prefix matcher")
    return None
