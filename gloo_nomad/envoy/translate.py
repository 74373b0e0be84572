"""The envoy stage: one proxy to listeners, routes and secrets. Clusters are the same for all proxies: see ``clusters``.

Everything is remembered in small pieces (a virtual host, a filter chain, a listener), so that a change costs what it
touches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.generated import find_clashes
from gloo_nomad.envoy.listeners import TranslatedListener, World, translate_listener
from gloo_nomad.envoy.scoped_routes import Scoping
from gloo_nomad.journal import Joined
from gloo_nomad.proxies import Proxy
from gloo_nomad.reports import Problems
from gloo_nomad.resources import NO_RESOURCES, Resource, Resources
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot


@dataclass(frozen=True, slots=True, eq=False)
class EnvoyProxy:
    """What the Envoys of one proxy are served, apart from clusters and endpoints."""

    listeners: Resources = field(default_factory=lambda: NO_RESOURCES)
    routes: Resources = field(default_factory=lambda: NO_RESOURCES)
    """RouteConfigurations with all virtual hosts in them."""
    secrets: Resources = field(default_factory=lambda: NO_RESOURCES)
    problems: Problems = ()
    consul_services: frozenset[str] = frozenset()
    """Services that ``consul`` destinations name, as ``names.consul_service_key`` writes them."""
    reachable: frozenset[Ref] = frozenset()
    """Upstreams that some route or filter leads to; ``destinations.ANY_UPSTREAM`` among them stands for all."""
    clusters: Resources = field(default_factory=lambda: NO_RESOURCES)
    """Clusters that options of its listeners ask for."""
    split_routes: Resources = field(default_factory=lambda: NO_RESOURCES)
    """For delta streams in place of those among ``routes`` that have the same names."""
    virtual_hosts: Resources = field(default_factory=lambda: NO_RESOURCES)
    """Those of ``split_routes``."""
    scoped_routes: Resources = field(default_factory=lambda: NO_RESOURCES)
    """RouteConfigurations for one host name each, beside ``routes``."""
    scopes: Resources = field(default_factory=lambda: NO_RESOURCES)
    """What leads to ``scoped_routes``."""


def translate_proxy(
    proxy: Proxy,
    snapshot: ConfigSnapshot,
    settings: settings_pb2.Settings,
    memo: Memo,
    split: frozenset[str] = frozenset(),
    *,
    scoping: Scoping = Scoping.NONE,
    restored: bool = False,
) -> EnvoyProxy:
    """All of a proxy; parts that did not change are the same objects as in the last round.

    The virtual hosts of the RouteConfigurations named in *split* become resources of their own; *scoping* says
    whether there are some for each host name. *restored* tells a proxy with last good versions in it apart from the one
    of the same round without them.
    """
    world = World(proxy.ref, snapshot, settings, memo, split, scoping, restored)
    listeners = [translate_listener(listener, world) for listener in proxy.listeners]
    served = [listener for listener in listeners if listener.resource is not None]
    routes = [routes for listener in served for routes in listener.routes]
    tcp = [translated for listener in served for translated in listener.tcp]
    generated = [made for listener in served for made in listener.generated]
    secrets = [secret for listener in served for secret in listener.secrets]
    secrets += [secret for _, made in generated for secret in made.secrets]
    return EnvoyProxy(
        _by_name(resource for listener in served for resource in (listener.resource, listener.quic)),
        _by_name(route.resource for route in routes if not route.uses_scopes),
        _by_name(secrets),
        (*_problems(listeners), *find_clashes(generated)),
        frozenset().union(*(part.consul_services for part in routes), *(part.consul_services for part in tcp)),
        frozenset().union(
            *(part.upstreams for part in routes),
            *(part.upstreams for part in tcp),
            *(listener.upstreams for listener in served),
        ),
        _by_name(cluster for _, made in reversed(generated) for cluster in made.clusters),
        _by_name(part.split.resource for part in routes if part.split is not None),
        _merge("virtual hosts", [part.split.virtual_hosts for part in routes if part.split is not None], world),
        _merge("scoped routes", [part.scoped.routes for part in routes if part.scoped is not None], world),
        _merge("scopes", [part.scoped.scopes for part in routes if part.scoped is not None], world),
    )


def _merge(what: str, found: Sequence[Resources], world: World) -> Resources:
    if len(found) < 2:
        return found[0] if found else NO_RESOURCES
    return world.memo.get((what, world.proxy, world.restored), (), Joined[str, Resource]).join(found)


def _by_name(resources: Iterable[Resource | None]) -> Resources:
    found = {resource.name: resource for resource in resources if resource is not None}
    return MappingProxyType({name: found[name] for name in sorted(found)})


def _problems(listeners: Iterable[TranslatedListener]) -> Problems:
    """Each problem once, though an object may be served by several listeners."""
    found = [problem for listener in listeners for routes in listener.routes for problem in routes.problems]
    found += [problem for listener in listeners for problem in listener.problems]
    return tuple(dict.fromkeys(found))
