"""The whole pipeline on one page: a snapshot of objects to the Envoy resources of every proxy, and what is wrong.

A pure function with a memory: the result depends on the snapshot, the settings, the virtual hosts that were good before
and how they were sent; what did not change is not computed again. ``translate`` is called from one thread at a time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from types import MappingProxyType

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.clusters import ClusterSet, translate_clusters
from gloo_nomad.envoy.translate import EnvoyProxy, translate_proxy
from gloo_nomad.gateway.translate import translate_gateways
from gloo_nomad.good_listeners import GoodListeners
from gloo_nomad.good_listeners import Key as ListenerKey
from gloo_nomad.journal import Joined
from gloo_nomad.lastgood import Key as HostKey
from gloo_nomad.lastgood import LastGood
from gloo_nomad.options.registry import collect, collect_refused, modules
from gloo_nomad.proxies import Listener, Proxy, VirtualHost
from gloo_nomad.reports import Problems
from gloo_nomad.resources import (
    CLUSTER,
    LISTENER,
    ROUTES,
    SCOPED_ROUTES,
    SECRET,
    VIRTUAL_HOST,
    Resource,
    Resources,
    XdsSnapshot,
)
from gloo_nomad.splitting import Splitting
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot
from gloo_nomad.unclaimed import FEATURE_PACKAGES, Unclaimed


@dataclass(frozen=True, slots=True)
class Translation:
    """What one snapshot means. Endpoints are not in it: they have a path of their own (``envoy.endpoints``)."""

    proxies: tuple[Proxy, ...] = ()
    xds: Mapping[str, XdsSnapshot] = field(default_factory=lambda: MappingProxyType({}))
    """By role (``<namespace>~<proxy>``), without endpoints."""
    problems: Problems = ()
    clusters: ClusterSet = field(default_factory=ClusterSet)
    services: frozenset[tuple[str, Ref]] = frozenset()
    """Services (kind, name) whose endpoints some route can reach."""
    held_hosts: tuple[tuple[HostKey, VirtualHost], ...] = ()
    """Last good virtual hosts of which there is now a rejected version."""
    held_listeners: tuple[tuple[ListenerKey, Listener], ...] = ()
    """The same of listeners."""


@dataclass(slots=True)
class Pipeline:
    """All stages in a row, and their memory."""

    memo: Memo = field(default_factory=Memo)
    last_good: LastGood = field(default_factory=LastGood)
    good_listeners: GoodListeners = field(default_factory=GoodListeners)
    splitting: Splitting = field(default_factory=Splitting)
    unclaimed: Unclaimed = field(default_factory=Unclaimed)

    def translate(self, snapshot: ConfigSnapshot, settings: settings_pb2.Settings) -> Translation:
        """Translates everything; the settings are the same object as long as nothing in them changed."""
        proxies, gateway_problems = translate_gateways(snapshot, settings, self.memo)
        translated = [self._translate_proxy(proxy, gateway_problems, snapshot, settings) for proxy in proxies]
        consul_services = frozenset().union(*(envoy.consul_services for _, envoy, _ in translated))
        clusters = translate_clusters(snapshot, settings, self.memo, consul_services)
        problems = [*gateway_problems, *self.unclaimed.problems(snapshot, claims())]
        problems.extend(problem for _, _, found in translated for problem in found)
        problems.extend(clusters.problems)
        xds = {proxy.role: assemble_snapshot(proxy.role, envoy, clusters, self.memo) for proxy, envoy, _ in translated}
        reachable = frozenset().union(*(envoy.reachable for _, envoy, _ in translated))
        self.memo.sweep()
        roles = {proxy.role for proxy in proxies}
        self.last_good.sweep(roles)
        self.good_listeners.sweep(roles)
        self.splitting.sweep(roles)
        return Translation(
            tuple(proxy for proxy, _, _ in translated),
            MappingProxyType(xds),
            tuple(dict.fromkeys(problems)),
            clusters,
            clusters.services(reachable),
            tuple(chain.from_iterable(self.last_good.held.values())),
            tuple(chain.from_iterable(self.good_listeners.held.values())),
        )

    def hold(
        self, hosts: Iterable[tuple[HostKey, VirtualHost]], listeners: Iterable[tuple[ListenerKey, Listener]]
    ) -> None:
        """Takes last good versions of a time before over; to be called before the first translation."""
        self.last_good.hold(hosts)
        self.good_listeners.listeners.update(listeners)

    def _translate_proxy(
        self, proxy: Proxy, problems: Problems, snapshot: ConfigSnapshot, settings: settings_pb2.Settings
    ) -> tuple[Proxy, EnvoyProxy, Problems]:
        """One proxy; virtual hosts and listeners with an error are translated from their last good version instead."""
        translate = partial(
            translate_proxy,
            split=self.splitting.choose(proxy, settings),
            scoping=self.splitting.scoping(proxy, settings),
        )
        envoy = translate(proxy, snapshot, settings, self.memo)
        found = (*problems, *envoy.problems)
        kept = self.last_good.restore(proxy, found, snapshot)
        kept = self.good_listeners.restore(kept, envoy.listeners.keys(), found, snapshot)
        if kept is proxy:
            return proxy, envoy, envoy.problems
        return kept, translate(kept, snapshot, settings, self.memo, restored=True), envoy.problems


@cache
def claims() -> Mapping[str, frozenset[str]]:
    """Every field of the contract that some module makes work or answers with an error, by message name."""
    found = [module for package in FEATURE_PACKAGES for module in modules(package)]
    working, refused = collect(found), collect_refused(found)
    return {name: working.get(name, frozenset()) | refused.get(name, frozenset()) for name in {*working, *refused}}


def _with_generated(clusters: Resources, generated: Resources) -> Resources:
    merged = {**clusters, **generated} if generated else {}
    return MappingProxyType({name: merged[name] for name in sorted(merged)}) if generated else clusters


def assemble_snapshot(role: str, envoy: EnvoyProxy, clusters: ClusterSet, memo: Memo) -> XdsSnapshot:
    """What the Envoys of a role are served, without endpoints."""
    types = {
        CLUSTER: _with_generated(clusters.clusters, envoy.clusters),
        LISTENER: _with_generated(envoy.listeners, clusters.listeners),
        ROUTES: _with_scoped(("routes", role), envoy.routes, envoy, memo),
        SECRET: MappingProxyType({**clusters.secrets, **envoy.secrets}),
    }
    if envoy.scopes:
        types[SCOPED_ROUTES] = envoy.scopes
    return XdsSnapshot(MappingProxyType(types), _for_delta(role, envoy, memo))


def _for_delta(role: str, envoy: EnvoyProxy, memo: Memo) -> Mapping[str, Resources]:
    if not envoy.split_routes:
        return MappingProxyType({})
    routes = MappingProxyType({**envoy.routes, **envoy.split_routes})
    return MappingProxyType(
        {ROUTES: _with_scoped(("delta routes", role), routes, envoy, memo), VIRTUAL_HOST: envoy.virtual_hosts}
    )


def _with_scoped(key: tuple[str, str], routes: Resources, envoy: EnvoyProxy, memo: Memo) -> Resources:
    """All RouteConfigurations; costs those that changed, and a look at each of *routes*."""
    if not envoy.scoped_routes:
        return routes
    return memo.get(key, (), Joined[str, Resource]).join((routes, envoy.scoped_routes))
