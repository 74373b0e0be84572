"""One virtual host to Envoy's, kept as bytes: a RouteConfiguration of thousands is put together from these.

A route that is wrong is answered with ``gloo.invalidConfigPolicy`` (404 if it says nothing) in place of what it asked
for. The reference sends such routes to a cluster that leads to a listener of Envoy's own, which answers; a direct
response says the same without the detour. With ``replaceInvalidRoutes`` a route whose only destination does not exist
is answered that way too; of several weighted destinations, the share of a missing one gets the status alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from envoy.config.route.v3 import route_components_pb2

from gloo_nomad.acceptance.rules import broken_rules
from gloo_nomad.api.gen import (
    destination_pb2,
    dfp_pb2,
    http_listener_options_pb2,
    matchers_pb2,
    proxy_pb2,
    route_options_pb2,
    settings_pb2,
    virtual_host_options_pb2,
)
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.envoy.actions import apply_direct_response, apply_invalid_response, apply_redirect
from gloo_nomad.envoy.clusters import find_cluster
from gloo_nomad.envoy.destinations import (
    Destinations,
    Reached,
    action_findings,
    action_namespaces,
    apply_cluster_header,
    apply_single,
    apply_weighted,
    destination_namespaces,
    find_group,
)
from gloo_nomad.envoy.matchers import apply_matcher
from gloo_nomad.envoy.names import cluster_name, route_name, virtual_host_name
from gloo_nomad.envoy.regex_limits import apply_regex_limit
from gloo_nomad.messages import delimited, digest, length_delimited_tag, to_bytes, varint
from gloo_nomad.options.hooks import CLUSTER_HEADER, NO_LISTENER, RouteContext, VirtualHostContext
from gloo_nomad.options.registry import hooks
from gloo_nomad.proxies import VirtualHost
from gloo_nomad.reports import Finding, Problems, error, is_rejected, unprotected, warning
from gloo_nomad.store.memo import Reads

T = TypeVar("T")
VIRTUAL_HOSTS_FIELD: Final = 2
"""Number of ``RouteConfiguration.virtual_hosts``."""
NAME_FIELD: Final = 1
"""Number of ``VirtualHost.name``."""
DEFAULT_MATCHER: Final = matchers_pb2.Matcher(prefix="/")
_NO_OPTIONS: Final = route_options_pb2.RouteOptions()
_NOT_FOUND_CODES: Final = {404: "NOT_FOUND", 500: "INTERNAL_SERVER_ERROR"}


@dataclass(frozen=True, slots=True, eq=False)
class HostFrame:
    """What a virtual host's translation depends on beside the virtual host."""

    settings: settings_pb2.Settings
    secure: bool
    """Whether it is behind TLS: plain requests are then redirected."""
    body_limit: int
    """How many bytes the body of a direct response may have."""
    without: frozenset[str] = frozenset()
    """Domains that an older virtual host has."""
    listener: http_listener_options_pb2.HttpListenerOptions = field(default_factory=lambda: NO_LISTENER)
    """Those options of the HTTP gateway that routes depend on."""


@dataclass(frozen=True, slots=True, eq=False)
class TranslatedHost:
    """A virtual host as bytes, and all that the rest of the proxy has to know of it."""

    source: ObjectRef
    name: str
    domains: tuple[str, ...]
    """In lower case, as Envoy compares them."""
    rest: bytes
    """The message without its name, which is its first field; empty if the virtual host is left out."""
    digest: bytes
    problems: Problems
    filters: frozenset[str]
    """Names of the filters that it configures."""
    upstreams: frozenset[Ref]
    consul_services: frozenset[str]

    def head(self, name: str) -> bytes:
        """What comes before ``rest`` for a virtual host of that name."""
        return delimited(NAME_FIELD, name.encode())

    def wire(self) -> Iterator[bytes]:
        """The field of a RouteConfiguration, in parts."""
        head = self.head(self.name)
        yield length_delimited_tag(VIRTUAL_HOSTS_FIELD) + varint(len(head) + len(self.rest)) + head
        yield self.rest


@dataclass(slots=True)
class _Draft:
    """A virtual host while it is being made."""

    host: VirtualHost
    frame: HostFrame
    reads: Reads
    out: Any
    options: virtual_host_options_pb2.VirtualHostOptions
    has_options: bool
    reached: Reached = field(default_factory=Reached)
    problems: list[Any] = field(default_factory=list)

    def report(self, index: int, findings: list[Finding]) -> None:
        """Says findings on a route to whom they concern."""
        for finding in findings:
            if index < len(self.host.origins):
                self.problems.extend(self.host.report_route(index, finding))
            else:
                self.problems.append(finding.on(self.host.source, f"virtualHost.routes[{index}]"))

    def find_cluster(self, ref: Ref) -> str:
        """The cluster of an upstream that an option sends something to; "" if it does not exist."""
        self.reached.upstreams.add(ref)
        return cluster_name(ref) if self.reads.view(UPSTREAM.name, ref, _is_there) else ""

    def lookup(self) -> Destinations:
        """Where destinations are looked up."""
        return Destinations(self.reads, self.frame.settings, is_served=self._is_served)

    def _is_served(self, ref: Ref) -> bool:
        """Whether an upstream that exists has a cluster; asked only for ``replaceInvalidRoutes``."""
        settings = self.frame.settings
        if not settings.gloo.invalid_config_policy.replace_invalid_routes:
            return True
        return bool(find_cluster(ref, settings, self.reads))


def _is_there(found: Any) -> bool:
    return found is not None


def translate_virtual_host(host: VirtualHost, frame: HostFrame, reads: Reads) -> TranslatedHost:
    """One virtual host; what it looks up goes through *reads*."""
    message = host.message
    out = route_components_pb2.VirtualHost(name=virtual_host_name(message.name))
    draft = _Draft(host, frame, reads, out, message.options, message.HasField("options"))
    findings = [*_apply_domains(message, frame, out), *_apply_host_options(draft)]
    if frame.secure:
        out.require_tls = route_components_pb2.VirtualHost.ALL
    for index, route in enumerate(message.routes):
        _add_route(index, route, draft)
    for finding in findings:
        draft.problems.extend(host.report_host(finding))
    served = bool(out.domains) and not is_rejected(findings)
    body = to_bytes(out) if served else b""
    return TranslatedHost(
        host.source,
        out.name,
        tuple(domain.lower() for domain in out.domains) if served else (),
        body[len(delimited(NAME_FIELD, out.name.encode())) :],
        digest(body),
        tuple(dict.fromkeys(draft.problems)),
        _shared(_used_filters(out)) if served else frozenset(),
        _shared(frozenset(draft.reached.upstreams)) if served else frozenset(),
        _shared(frozenset(draft.reached.consul_services)) if served else frozenset(),
    )


_SHARED: Final[WeakValueDictionary[int, frozenset[Any]]] = WeakValueDictionary()
"""By hash those that some virtual host still has."""


def _shared(found: frozenset[T]) -> frozenset[T]:
    """The same object for the same content: many virtual hosts lead to the same places."""
    known = _SHARED.get(hash(found))
    if known == found:
        return known
    _SHARED[hash(found)] = found
    return found


def _apply_domains(message: proxy_pb2.VirtualHost, frame: HostFrame, out: Any) -> Iterator[Finding]:
    """Each domain once; Envoy compares them without case."""
    seen = set(frame.without)
    for index, domain in enumerate(message.domains):
        if not domain or not domain.isprintable():
            yield error(f"domains[{index}]", f"{domain[:80]!r} is no domain; write * for all")
        elif domain.lower() not in seen:
            out.domains.append(domain)
        seen.add(domain.lower())


def _apply_host_options(draft: _Draft) -> Iterator[Finding]:
    if not draft.has_options:
        return
    context = VirtualHostContext(
        draft.frame.settings,
        draft.reads,
        draft.host.source,
        tuple(draft.out.domains),
        listener=draft.frame.listener,
        find_cluster=draft.find_cluster,
    )
    for hook in hooks("apply_virtual_host"):
        for finding in hook(draft.options, draft.out, context):
            yield finding.under("options")
    for finding in apply_regex_limit(draft.frame.settings, draft.out):
        yield finding.under("options")
    yield from _refused(draft.out, "options")


def _add_route(index: int, route: proxy_pb2.Route, draft: _Draft) -> None:
    """One Envoy route for each matcher, in order."""
    action = route_components_pb2.Route()
    draft.reached.missing = False
    findings = [*_apply_action(route, action, draft), *_apply_route_options(route, action, draft)]
    if not is_rejected(findings):
        findings += [*apply_regex_limit(draft.frame.settings, action), *_refused(action, "")]
    if is_rejected(findings):
        action.Clear()
        apply_invalid_response(draft.frame.settings, action, draft.frame.body_limit)
    elif draft.reached.missing:
        findings += _replace_missing(action, draft.frame)
    for number, matcher in enumerate(route.matchers or (DEFAULT_MATCHER,)):
        added = draft.out.routes.add()
        wrong = [*apply_matcher(matcher, added.match), *apply_regex_limit(draft.frame.settings, added.match)]
        findings += [finding.under(f"matchers[{number}]") for finding in wrong]
        if is_rejected(wrong):
            del draft.out.routes[-1]
            continue
        added.MergeFrom(action)
        added.name = route_name(draft.out.name, index, route.name, number)
    draft.report(index, findings)


def _apply_action(route: proxy_pb2.Route, out: Any, draft: _Draft) -> Iterator[Finding]:
    match route.WhichOneof("action"):
        case "route_action" if route.route_action.HasField("dynamic_forward_proxy"):
            for finding in _apply_forward_proxy(route.route_action.dynamic_forward_proxy, out, draft):
                yield finding.under("routeAction.dynamicForwardProxy")
        case "route_action":
            for finding in _apply_destination(route.route_action, out.route, draft):
                yield finding.under("routeAction")
            if draft.reached.specified:
                yield from _apply_service_specs(out, draft)
        case "redirect_action":
            for finding in apply_redirect(route.redirect_action, out):
                yield finding.under("redirectAction")
        case "direct_response_action":
            for finding in apply_direct_response(route.direct_response_action, out, draft.frame.body_limit):
                yield finding.under("directResponseAction")
        case _:
            yield error("", "invalid route: route must specify an action")


def _apply_destination(action: proxy_pb2.RouteAction, out: Any, draft: _Draft) -> Iterator[Finding]:
    match action.WhichOneof("destination"):
        case "single":
            for finding in apply_single(action.single, out, draft.lookup(), draft.reached):
                yield finding.under("single")
        case "multi":
            for finding in _apply_multi(action.multi.destinations, out.weighted_clusters, draft.lookup(), draft):
                yield finding.under("multi")
        case "upstream_group":
            ref = Ref(action.upstream_group.namespace, action.upstream_group.name)
            for finding in _apply_group(ref, out, draft):
                yield finding.under("upstreamGroup")
        case "cluster_header":
            for finding in apply_cluster_header(action.cluster_header, out, draft.reached):
                yield finding.under("clusterHeader")
        case _:
            yield from action_findings(action)


def _apply_forward_proxy(wanted: dfp_pb2.PerRouteConfig, out: Any, draft: _Draft) -> Iterator[Finding]:
    context = _route_context(draft, forwarded=True)
    for hook in hooks("apply_forward_proxy"):
        yield from hook(wanted, out, context)


def _apply_service_specs(out: Any, draft: _Draft) -> Iterator[Finding]:
    """What the upstreams that a route leads to ask of it."""
    context = _route_context(draft, forwarded=True)
    targets = [(out.route.cluster, out), *((entry.name, entry) for entry in out.route.weighted_clusters.clusters)]
    for cluster, target in targets:
        ref = draft.reached.specified.get(cluster)
        if ref is None:
            continue
        upstream = draft.reads.get(UPSTREAM.name, ref)
        for finding in (finding for hook in hooks("apply_upstream") for finding in hook(upstream, target, context)):
            yield warning("routeAction", f"upstream {ref}: {finding.path}: {finding.message}")


def _apply_group(ref: Ref, out: Any, draft: _Draft) -> Iterator[Finding]:
    group, inside, findings = find_group(ref, draft.lookup())
    yield from findings
    if group is None:
        draft.reached.missing = True
        out.cluster = cluster_name(ref)
        return
    for finding in _apply_multi(group.destinations, out.weighted_clusters, inside, draft):
        text = f"upstream group {ref}: {finding.path}: {finding.message}"
        yield unprotected("", text) if finding.closed else warning("", text)


def _apply_multi(destinations: Any, out: Any, lookup: Destinations, draft: _Draft) -> Iterator[Finding]:
    yield from apply_weighted(destinations, out, lookup, draft.reached)
    for index, (weighted, entry) in enumerate(zip(destinations, out.clusters, strict=True)):
        for finding in _apply_weighted_options(weighted, entry, draft):
            yield finding.under(f"destinations[{index}].options")


def _apply_weighted_options(
    weighted: destination_pb2.WeightedDestination, out: Any, draft: _Draft
) -> Iterator[Finding]:
    if not weighted.HasField("options"):
        return
    found = partial(destination_namespaces, [weighted.destination])
    context = _route_context(draft, forwarded=True, namespaces=found)
    for hook in hooks("apply_destination"):
        yield from hook(weighted.options, out, context)


def _apply_route_options(route: proxy_pb2.Route, out: Any, draft: _Draft) -> Iterator[Finding]:
    if not route.HasField("options"):
        return
    forwarded = route.WhichOneof("action") == "route_action"
    found = partial(action_namespaces, route.route_action, draft.reads)
    context = _route_context(draft, forwarded=forwarded, namespaces=found)
    for hook in hooks("apply_route"):
        for finding in hook(route.options, out, context):
            yield finding.under("options")


def _route_context(
    draft: _Draft, *, forwarded: bool, namespaces: Callable[[], frozenset[str]] = frozenset
) -> RouteContext:
    return RouteContext(
        draft.frame.settings,
        draft.reads,
        draft.host.source,
        draft.options,
        forwarded,
        listener=draft.frame.listener,
        find_cluster=draft.find_cluster,
        namespaces=namespaces,
    )


def _replace_missing(action: Any, frame: HostFrame) -> Iterator[Finding]:
    """What ``replaceInvalidRoutes`` asks for when a destination does not exist."""
    policy = frame.settings.gloo.invalid_config_policy
    if not policy.replace_invalid_routes:
        return
    if action.route.HasField("weighted_clusters"):
        code = _NOT_FOUND_CODES.get(policy.invalid_route_response_code or 404, "SERVICE_UNAVAILABLE")
        action.route.cluster_not_found_response_code = code
        return
    action.Clear()
    apply_invalid_response(frame.settings, action, frame.body_limit)
    yield warning("", "is replaced by the response of gloo.invalidConfigPolicy")


def _refused(message: Any, path: str) -> list[Finding]:
    """What Envoy's own rules say against a message that is made already: nothing that Envoy refuses is ever sent."""
    breaches = [breach for breach in broken_rules(message) if breach.path not in _UNFINISHED]
    return [error(path, f"Envoy refuses it: {breach.path} {breach.reason}") for breach in breaches]


_UNFINISHED: Final = frozenset({"match", "domains", "name", ""})
"""What is not there yet when rules are asked."""


def _used_filters(out: Any) -> frozenset[str]:
    """The filters that a virtual host, its routes or their destinations configure."""
    used = set(out.typed_per_filter_config)
    for route in out.routes:
        used.update(route.typed_per_filter_config)
        if route.route.cluster_header:
            used.add(CLUSTER_HEADER + route.route.cluster_header)
        for cluster in route.route.weighted_clusters.clusters:
            used.update(cluster.typed_per_filter_config)
    return frozenset(used)
