"""One listener: an address, a filter chain for each TLS configuration, and the RouteConfigurations behind them.

What a listener loses to an error is as little as possible: a TLS configuration without its secret costs its own chain,
a server name that two configurations want goes to the one that had it first. A listener without any chain is not sent.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2

from gloo_nomad.api.gen import http_listener_options_pb2, listener_options_pb2, settings_pb2
from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.envoy.connection_managers import NetworkFilters, build_network_filters
from gloo_nomad.envoy.filter_chains import ChainPlan, FilterChain, Place, build_filter_chain, matcher_place
from gloo_nomad.envoy.generated import GeneratedClusters, translate_generated
from gloo_nomad.envoy.names import PROXY_PROTOCOL, TLS_INSPECTOR
from gloo_nomad.envoy.quic import build_quic_listener
from gloo_nomad.envoy.resources import pack_resource
from gloo_nomad.envoy.route_configs import TranslatedRoutes, is_secure, translate_routes
from gloo_nomad.envoy.scoped_routes import Scoping
from gloo_nomad.envoy.tcp import TranslatedTcp, translate_tcp
from gloo_nomad.envoy.tls import TlsScope
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import refuse_breaches
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.registry import hooks
from gloo_nomad.proxies import HttpGroup, Listener, TcpGroup
from gloo_nomad.reports import Finding, Problem, Problems, error, is_rejected
from gloo_nomad.resources import LISTENER, Resource
from gloo_nomad.store.claims import server_name_claim, server_names, since
from gloo_nomad.store.memo import Memo, Reads
from gloo_nomad.store.snapshot import ConfigSnapshot

READS: Claims = {
    "gloo.solo.io.ListenerOptions": ("extensions",),
    "gloo.solo.io.WeightedDestinationOptions": ("extensions",),
    "gloo.solo.io.Extensions": EVERY,
}
"""No extension is known in these yet: each that is named is a warning."""
BUFFER_BYTES: Final = 32_768
"""How much Envoy buffers for a connection, by its best practices for the edge."""
_UNBORN: Final = 1 << 63
_NO_OPTIONS: Final = listener_options_pb2.ListenerOptions()
_NO_HTTP_OPTIONS: Final = http_listener_options_pb2.HttpListenerOptions()


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What every part of a proxy is translated with."""

    proxy: Ref
    snapshot: ConfigSnapshot
    settings: settings_pb2.Settings
    memo: Memo
    split: frozenset[str] = frozenset()
    """RouteConfigurations whose virtual hosts are to be resources of their own."""
    scoping: Scoping = Scoping.NONE
    restored: bool = False
    """Whether last good versions are part of the proxy."""

    def age(self, chain: FilterChain, name: str) -> tuple[int, tuple[ObjectRef, ...]]:
        """What orders chains by when they got a server name: the first object behind them that has it counts."""
        having = [owner for owner in chain.owners if self._has(owner, name)] or chain.owners
        return min((self._since(owner, name) or _UNBORN for owner in having), default=_UNBORN), chain.owners

    def _has(self, owner: ObjectRef, name: str) -> bool:
        service = self.snapshot.of(VIRTUAL_SERVICE.name).get(owner.ref) if owner.kind == VIRTUAL_SERVICE.name else None
        return service is None or name in server_names(service)

    def _since(self, owner: ObjectRef, name: str) -> int:
        created, claimed = self.snapshot.created.get(owner.kind, {}), self.snapshot.claimed.get(owner.kind, {})
        return since(owner.ref, server_name_claim(name), created, claimed)


@dataclass(frozen=True, slots=True, eq=False)
class TranslatedListener:
    """A listener with all that belongs to it."""

    resource: Resource | None
    """None if it must not be sent."""
    routes: tuple[TranslatedRoutes, ...]
    secrets: tuple[Resource, ...]
    problems: Problems
    upstreams: frozenset[Ref] = frozenset()
    """Upstreams that filters and tracers speak to."""
    generated: tuple[tuple[ObjectRef, GeneratedClusters], ...] = ()
    """Clusters that options ask for, with the objects that have the options."""
    tcp: tuple[TranslatedTcp, ...] = ()
    quic: Resource | None = None
    """The listener for HTTP/3 beside it, if that is wanted."""


def translate_listener(listener: Listener, world: World) -> TranslatedListener:
    """A listener of a proxy; every part of it is remembered by itself."""
    routes: list[TranslatedRoutes] = []
    upstreams: set[Ref] = set()
    plans: list[ChainPlan] = []
    own = _keep_generated(listener, None, world)
    generated = [(listener.source, own)]
    problems: list[Problem] = [finding.on(listener.source, "options") for finding in own.findings]
    for group in listener.http:
        translated = _translate_routes(group, listener, world)
        routes.append(translated)
        filters = _network_filters(group, listener, translated, world)
        made = _keep_generated(listener, group, world)
        generated.append((group.source, made))
        findings = (*filters.findings, *made.findings)
        problems += [finding.on(group.source, f"{group.path}.options") for finding in findings]
        if not is_rejected(findings):
            plans += _plan_chains(group, filters)
            upstreams |= filters.upstreams
    tcp = tuple(_keep_tcp(group, listener, world) for group in listener.tcp)
    problems += [problem for translated in tcp for problem in translated.problems]
    plans += [plan for translated in tcp for plan in translated.plans]
    chains, lost = _build_chains(listener, plans, world)
    problems += lost
    problems += [problem for chain in chains for problem in chain.problems]
    served = [chain for chain in chains if chain.body and not is_rejected(own.findings)]
    built = _keep_listener(listener, served, world)
    problems += [finding.on(listener.source) for finding in built.findings]
    secrets = tuple(secret for chain in served for secret in chain.secrets) if built.resource is not None else ()
    return TranslatedListener(
        built.resource, tuple(routes), secrets, tuple(problems), frozenset(upstreams), tuple(generated), tcp, built.quic
    )


def _translate_routes(group: HttpGroup, listener: Listener, world: World) -> TranslatedRoutes:
    split = group.route_config in world.split
    version, options = (world.proxy, world.restored), listener.route_options
    translate = partial(translate_routes, version=version, split=split, scoping=world.scoping)
    return translate(group, options, world.snapshot, world.settings, world.memo)


def _network_filters(group: HttpGroup, listener: Listener, routes: TranslatedRoutes, world: World) -> NetworkFilters:
    name, used, settings = routes.resource.name, routes.filters, world.settings
    tls_port = listener.bind_port if is_secure(group) else 0
    named = partial(build_network_filters, routes=name, tls_port=tls_port, scoped=routes.uses_scopes)
    compute = partial(named, group, listener.options, used, settings)
    key = ("network filters", world.proxy, group.source, name, group.path, used, tls_port, routes.uses_scopes)
    return world.memo.track(key, (group.options, listener.options, settings), world.snapshot, compute)


def _keep_generated(listener: Listener, group: HttpGroup | None, world: World) -> GeneratedClusters:
    """The clusters that the options of a group ask for, or those of the listener itself."""
    source, path, of_group, of_listener = listener.source, "", _NO_HTTP_OPTIONS, listener.options
    if group is not None:
        source, path, of_group, of_listener = group.source, group.path, group.options, _NO_OPTIONS

    def compute(reads: Reads) -> GeneratedClusters:
        context = ListenerContext(world.settings, reads, source, of_group, listener=of_listener)
        return translate_generated(context, TlsScope(reads, world.settings, world.memo))

    key = ("generated clusters", world.proxy, listener.name, source, path)
    return world.memo.track(key, (of_group, of_listener, world.settings), world.snapshot, compute)


def _keep_tcp(group: TcpGroup, listener: Listener, world: World) -> TranslatedTcp:
    key = ("tcp", world.proxy, listener.name, group.source, group.path)
    compute = partial(translate_tcp, group, listener, world.settings)
    return world.memo.track(key, (group, listener.options, world.settings), world.snapshot, compute)


def _plan_chains(group: HttpGroup, filters: NetworkFilters) -> Iterator[ChainPlan]:
    """One chain for plain text, one for each TLS configuration; never plain text in place of TLS."""
    place = matcher_place(group.source, group.path)
    if not is_secure(group):
        yield ChainPlan(filters.filters, group.matcher, None, (group.source,), matcher_place=place)
    wanted = (hook(group.options) for hook in hooks("build_quic")) if group.ssl else ()
    quic = next((found for found in wanted if found is not None), None)
    for config, owners in group.ssl:
        yield ChainPlan(filters.filters, group.matcher, config, owners, matcher_place=place, quic=quic)


def _build_chains(
    listener: Listener, plans: Sequence[ChainPlan], world: World
) -> tuple[list[FilterChain], list[Problem]]:
    """The chains, each without the server names that another one had first, and what was said about those."""
    chains = [_keep_chain(listener, plan, world) for plan in plans]
    problems: list[Problem] = []
    for index, names in _find_overlaps(chains, world).items():
        chain = chains[index]
        problems += _conflict_problems(chain, names, listener)
        if "" in names:
            chains[index] = replace(chain, body=b"", secrets=())
        else:
            chains[index] = _keep_chain(listener, replace(plans[index], without=names), world)
    return chains, problems


def _conflict_problems(chain: FilterChain, names: frozenset[str], listener: Listener) -> Iterator[Problem]:
    shown = ", ".join(sorted(name or "any server name" for name in names))
    text = f"TLS conflict: another configuration had {shown} on {listener.name} first, and keeps it"
    finding = error("sslConfig.sniDomains", text)
    yield from (finding.on(owner, chain.path) for owner in chain.owners)


def _keep_chain(listener: Listener, plan: ChainPlan, world: World) -> FilterChain:
    owners = plan.owners if plan.ssl is None else ()  # by value; behind TLS there may be thousands
    key = ("filter chain", world.proxy, listener.name, owners, id(plan.filters), id(plan.ssl), plan.without)
    inputs = (plan.filters, plan.matcher, plan.ssl, None if owners else plan.owners, world.settings)
    return world.memo.track(
        key,
        inputs,
        world.snapshot,
        lambda reads: build_filter_chain(plan, TlsScope(reads, world.settings, world.memo)),
    )


def _find_overlaps(chains: Sequence[FilterChain], world: World) -> Mapping[int, frozenset[str]]:
    """For each chain (by its position) the server names that another one had first, for the same addresses.

    Envoy refuses a listener with two chains for one server name.
    """
    wanted: dict[str, list[int]] = {}
    for index, chain in enumerate(chains):
        for name in (chain.server_names or ("",)) if chain.body else ():
            wanted.setdefault(name, []).append(index)
    lost: dict[int, set[str]] = {}
    for name, indices in wanted.items():
        for index in _latecomers(name, indices, chains, world) if len(indices) > 1 else ():
            lost.setdefault(index, set()).add(name)
    return {index: frozenset(lost[index]) for index in sorted(lost)}


def _latecomers(name: str, indices: Sequence[int], chains: Sequence[FilterChain], world: World) -> Iterator[int]:
    taken: set[Place] = set()
    for index in sorted(indices, key=lambda index: (world.age(chains[index], name), index)):
        if taken.isdisjoint(chains[index].places):
            taken.update(chains[index].places)
        else:
            yield index


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    resource: Resource | None
    findings: tuple[Finding, ...]
    quic: Resource | None = None


def _keep_listener(listener: Listener, chains: Sequence[FilterChain], world: World) -> _Built:
    address = (listener.bind_address, listener.bind_port, listener.use_proxy_proto)
    return world.memo.track(
        ("envoy listener", world.proxy, listener.source, listener.name, *address),
        (listener.options, world.settings, *chains),
        world.snapshot,
        lambda reads: _build_listener(listener, chains, world, reads),
    )


def _build_listener(listener: Listener, chains: Sequence[FilterChain], world: World, reads: Reads) -> _Built:
    out = listener_pb2.Listener(name=listener.name)
    findings = list(_apply_address(listener, out.address.socket_address))
    out.per_connection_buffer_limit_bytes.value = BUFFER_BYTES
    for chain in chains:
        out.filter_chains.add().MergeFromString(chain.body)
    if listener.use_proxy_proto:
        config = typed_config(proxy_protocol_pb2.ProxyProtocol())
        out.listener_filters.add(name=PROXY_PROTOCOL, typed_config=config)
    context = ListenerContext(world.settings, reads, listener.source, listener=listener.options)
    for hook in hooks("apply_listener"):
        findings += [finding.under("options") for finding in hook(listener.options, out, context)]
    if any(chain.secure for chain in chains):
        out.listener_filters.add(name=TLS_INSPECTOR, typed_config=typed_config(tls_inspector_pb2.TlsInspector()))
    _sort_listener_filters(out)
    findings += refuse_breaches(out, "")
    if not chains or is_rejected(findings):
        return _Built(None, tuple(findings))
    beside = build_quic_listener(out, chains) if any(chain.quic is not None for chain in chains) else None
    quic = pack_resource(world.memo, LISTENER, beside.name, beside) if beside is not None else None
    return _Built(pack_resource(world.memo, LISTENER, listener.name, out), tuple(findings), quic)


def _apply_address(listener: Listener, out: Any) -> Iterator[Finding]:
    try:
        parsed = ipaddress.ip_address(listener.bind_address)
    except ValueError:
        yield error("bindAddress", f"{listener.bind_address[:80]!r} is no IP address; write :: for all addresses")
        return
    out.address = listener.bind_address
    out.port_value = listener.bind_port
    out.protocol = address_pb2.SocketAddress.TCP
    out.ipv4_compat = parsed.version == 6
    if not 1 <= listener.bind_port <= 65535:
        yield error("bindPort", f"{listener.bind_port} is no port; it must be between 1 and 65535")


def _sort_listener_filters(out: Any) -> None:
    """The PROXY protocol's header comes before anything else that a connection sends."""
    ordered = sorted(out.listener_filters, key=lambda item: item.name != PROXY_PROTOCOL)
    kept = [listener_components_pb2.ListenerFilter.FromString(item.SerializeToString()) for item in ordered]
    del out.listener_filters[:]
    out.listener_filters.extend(kept)
