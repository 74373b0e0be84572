"""The tree of routes below a virtual service: each route, and those of the route tables that it delegates to.

https://docs.solo.io/gloo-edge/latest/guides/traffic_management/destination_types/delegation/. What is wrong is said to
the object that says it, and once more to the virtual service on top. A route with an error is answered in its place;
a delegated route that does not fit its parent is left out with a warning.
"""

import sys
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gloo_nomad.api.gen import gateway_pb2, matchers_pb2, proxy_pb2, route_options_pb2, settings_pb2
from gloo_nomad.api.kinds import ROUTE_OPTION, ROUTE_TABLE
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.gateway import matchers as matching
from gloo_nomad.gateway import routes
from gloo_nomad.gateway.inheritance import (
    apply_references,
    apply_unset,
    inheritable,
    inherited_origins,
    origins_of,
)
from gloo_nomad.gateway.names import route_part
from gloo_nomad.gateway.ordering import sort_routes
from gloo_nomad.gateway.tables import TableFinder, by_weight
from gloo_nomad.proxies import NO_ORIGINS, OptionOrigins, RouteOrigin
from gloo_nomad.reports import Finding, Problem, error

FIELDS: Final = {"gateway.solo.io.RouteTable": ("metadata", "routes", "weight")}

MAX_DEPTH: Final = 64
"""Route tables below each other; far beyond any use, and what keeps a chain of thousands from hurting."""
MAX_ROUTES: Final = 50_000
"""Routes visited for one virtual host: tables that delegate twice to the next multiply without bound."""


class Produced(NamedTuple):
    """One route of the proxy and where it comes from; the name's steps are empty if no route on the way has a name."""

    message: proxy_pb2.Route
    origin: RouteOrigin
    name: tuple[str, ...] = ()


class Parent(NamedTuple):
    """The delegating route above."""

    owner: "Owner"
    path: str
    inheritance: matching.Inheritance
    options: route_options_pb2.RouteOptions
    origins: OptionOrigins
    name: tuple[str, ...]
    named: bool
    via: str


class Owner(NamedTuple):
    """The object whose routes are walked: the virtual service or a route table."""

    ref: ObjectRef
    label: str
    """What its steps of a route's name begin with: ``vs`` or ``rt``."""
    prefix: str
    """What its routes' paths begin with: ``virtualHost.`` or nothing."""
    sources: tuple[routes.SourceRef, ...]
    """It and the objects above it, the virtual service first."""
    tables: tuple[Ref, ...] = ()
    """The route tables on the way to it, itself included."""
    parent: Parent | None = None


@dataclass(slots=True)
class Walk:
    """What a walk gathers, and what it looks things up with."""

    top: ObjectRef
    finder: TableFinder
    settings: settings_pb2.Settings
    problems: list[Problem] = field(default_factory=list)
    visited: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether there are more routes than one virtual host may have."""
        return self.visited > MAX_ROUTES

    def report(self, owner: Owner, finding: Finding, path: str, via: str) -> None:
        """Says a finding to the object at fault, and to the virtual service on top."""
        problem = finding.on(owner.ref, path)
        self.problems.append(problem)
        if owner.ref != self.top:
            text = f"on sub route table {owner.ref.ref}: {problem}"
            self.problems.append(Problem(finding.severity, self.top, via, text))


class _Step(NamedTuple):
    """One route on the walk, with what it inherits resolved."""

    owner: Owner
    route: gateway_pb2.Route
    path: str
    via: str
    matchers: list[matchers_pb2.Matcher]
    name: tuple[str, ...]
    named: bool


def walk_routes(owner: Owner, found: list[gateway_pb2.Route], out: Walk) -> list[Produced]:
    """All routes that an object's routes lead to, in order."""
    produced: list[Produced] = []
    for index, route in enumerate(found):
        out.visited += 1
        if out.exhausted:
            break
        produced.extend(_walk_route(owner, index, route, out))
    return produced


def _walk_route(owner: Owner, index: int, route: gateway_pb2.Route, out: Walk) -> list[Produced]:
    path = sys.intern(f"{owner.prefix}routes[{index}]")  # thousands have the same
    parent = owner.parent
    step = _Step(
        owner,
        route,
        path,
        parent.via if parent else path,
        matching.copies(route.matchers),
        (*(parent.name if parent else ()), route_part(owner.ref, owner.label, route.name, index)),
        bool(route.name) or (parent is not None and parent.named),
    )
    own_path_missing = route.HasField("delegate_action") and _is_pathless(route)
    if own_path_missing:
        matching.apply_root(step.matchers)
    if parent is not None and not _fits(step, parent, out):
        return []
    if not route.HasField("delegate_action"):
        return [_produce(step, out)]
    return _delegate(step, _inheritance(step, held=own_path_missing), out)


def _is_pathless(route: gateway_pb2.Route) -> bool:
    return len(route.matchers) == 1 and route.matchers[0].WhichOneof("path_specifier") is None


def _flag(route: gateway_pb2.Route, name: str, inherited: bool) -> bool:
    return bool(getattr(route, name).value) if route.HasField(name) else inherited  # type: ignore[arg-type]


def _fits(step: _Step, parent: Parent, out: Walk) -> bool:
    """Takes the parent's matchers over, and reports a route that does not fit them."""
    above = parent.inheritance
    matching.apply_parent(
        above,
        step.matchers,
        matchers=_flag(step.route, "inheritable_matchers", above.matchers),
        path=_flag(step.route, "inheritable_path_matchers", above.path),
    )
    findings = list(matching.check_child(above.matcher, step.matchers))
    for finding in findings:
        said = finding if step.route.matchers else Finding(finding.severity, "", finding.message)
        out.report(step.owner, said, step.path, step.via)
    return not findings


def _inheritance(step: _Step, *, held: bool) -> matching.Inheritance:
    """What the children of a delegating route take over."""
    above = step.owner.parent.inheritance if step.owner.parent else matching.Inheritance(matching.ROOT)
    matcher = step.matchers[0]
    return matching.Inheritance(
        matcher,
        _flag(step.route, "inheritable_matchers", above.matchers),
        _flag(step.route, "inheritable_path_matchers", above.path),
        matching.constraints(matcher) if held else above.held,
    )


def _produce(step: _Step, out: Walk) -> Produced:
    """A route that ends here."""
    action = step.route.WhichOneof("action")
    if action is None:
        return _replace(step, error("", "invalid route: route must specify an action"), out)
    options, origins = _resolve_options(step, out, forwards=action == "route_action")
    message = routes.build_route(step.route, step.matchers, step.owner.sources, step.owner.ref.namespace)
    if options.ListFields():
        message.options.CopyFrom(options)
    return _finish(step, message, origins)


def _finish(step: _Step, message: proxy_pb2.Route, origins: OptionOrigins) -> Produced:
    via = "" if step.owner.parent is None else step.via
    origin = RouteOrigin(step.owner.ref, step.path, via, origins or NO_ORIGINS)
    return Produced(message, origin, step.name if step.named else ())


def _replace(step: _Step, finding: Finding, out: Walk) -> Produced:
    """What answers in place of a route with an error."""
    out.report(step.owner, finding, step.path, step.via)
    message = routes.build_replacement(step.matchers, step.owner.sources, out.settings)
    return _finish(step, message, NO_ORIGINS)


def _resolve_options(step: _Step, out: Walk, *, forwards: bool) -> tuple[route_options_pb2.RouteOptions, OptionOrigins]:
    """The route's own options, then those of RouteOption objects, then those of the route above."""
    options = route_options_pb2.RouteOptions()
    options.CopyFrom(step.route.options)
    origins: dict[str, tuple[ObjectRef, str]] = {}
    if step.route.HasField("options_config_refs"):
        for given in apply_references(step.route.options_config_refs, ROUTE_OPTION, out.finder.reads, options):
            if isinstance(given, Finding):
                out.report(step.owner, given, step.path, step.via)
            else:
                origins.update(origins_of(given[1], given[0], "options"))
    parent = step.owner.parent
    if parent is not None:
        filled = apply_unset(inheritable(parent.options, forwards=forwards), options)
        origins.update(inherited_origins(filled, parent.origins, parent.owner.ref, f"{parent.path}.options"))
    return options, origins


def _delegate(step: _Step, inheritance: matching.Inheritance, out: Walk) -> list[Produced]:
    """The routes of all route tables that a delegating route means, the lightest table first."""
    refused = matching.refuse_delegating(step.matchers)
    if refused is not None:
        return [_replace(step, refused, out)]
    if len(step.owner.tables) >= MAX_DEPTH:
        return [_replace(step, error("", f"delegates deeper than {MAX_DEPTH} route tables; flatten them"), out)]
    found = out.finder.find(step.route.delegate_action, step.owner.ref.namespace)
    if isinstance(found, Finding):
        out.report(step.owner, found, f"{step.path}.delegateAction", step.via)
        return []
    options, origins = _resolve_options(step, out, forwards=True)
    parent = Parent(step.owner, step.path, inheritance, options, origins, step.name, step.named, step.via)
    produced: list[Produced] = []
    refusals: list[Produced] = []
    for group in by_weight(found):
        below: list[Produced] = []
        for ref, table in group:
            if ref in step.owner.tables:
                refusals.append(_refuse_cycle(step, ref, out))
            else:
                below.extend(walk_routes(_table_owner(ref, table, parent), list(table.routes), out))
        produced.extend(sort_routes(below, lambda route: route.message.matchers) if len(group) > 1 else below)
    return [*produced, *refusals[:1]]


def _table_owner(ref: Ref, table: gateway_pb2.RouteTable, parent: Parent) -> Owner:
    sources = (*parent.owner.sources, routes.table_source(table))
    return Owner(ROUTE_TABLE.object_ref(ref), "rt", "", sources, (*parent.owner.tables, ref), parent)


def _refuse_cycle(step: _Step, ref: Ref, out: Walk) -> Produced:
    """An error on the table that would be visited again; what delegates to it is answered instead."""
    way = " -> ".join(f"[{table}]" for table in (*step.owner.tables[step.owner.tables.index(ref) :], ref))
    finding = error("", f"invalid route: delegation cycle detected: {way}; one of them must not delegate to the next")
    again = step.owner._replace(ref=ROUTE_TABLE.object_ref(ref))
    out.report(again, finding, "", step.via)
    message = routes.build_replacement(step.matchers, step.owner.sources, out.settings)
    return _finish(step, message, NO_ORIGINS)
