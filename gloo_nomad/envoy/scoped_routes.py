"""A RouteConfiguration for each host name, found by the host of a request (scoped routes).

Envoy then builds anew only the table of the host that changed. Which scope a request has is decided by a header that
the connection manager sets itself, before it chooses a route: all connection managers of an Envoy share one set of
scopes, so the first part of the key is the gateway. The second one is the host header up to its first colon, as it is
written; inside the RouteConfiguration Envoy compares domains as ever, with letter case and port.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/http/http_routing#route-scope
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import chain
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import scoped_route_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2

from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.envoy.names import SCOPE_HEADER, SCOPE_SEPARATOR, scope_host, scope_key, scope_name
from gloo_nomad.envoy.resources import ads
from gloo_nomad.envoy.routes import TranslatedHost
from gloo_nomad.journal import Joined, Journal
from gloo_nomad.messages import delimited, to_bytes, typed_config, version_of
from gloo_nomad.proxies import HttpGroup
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.resources import JoinedResource, PrefixedResource, Resource, Resources
from gloo_nomad.store.memo import Memo

EXTENSION: Final = "gloo_nomad.scope"
LONGEST_HOST: Final = 253
"""Characters of the longest name that DNS has."""
MOST_HOSTS: Final = 50_000
"""Host names of one RouteConfiguration; the xDS server lets one stream ask for 200,000."""
_UNSCOPABLE: Final = (
    "is no host name that a scope can have (virtualHostDiscovery: scoped); write host names of at most 253 characters "
    "without wildcards, or move what needs one to another gateway"
)
_TOO_MANY: Final = (
    f"has more than {MOST_HOSTS} host names, or virtual services whose names are the same for Envoy, and goes on as "
    "with virtualHostDiscovery: auto; spread the virtual services over several gateways, or rename them"
)
_NAME_FIELD: Final = 1
"""Number of ``RouteConfiguration.name``."""

Member = tuple[str, str]
"""A host name and the name of a virtual host that has it among its domains."""


class Scoping(Enum):
    """What becomes of the scopes of a proxy."""

    NONE = "none"
    KEPT = "kept"
    """They are served for connections that began with them; new ones do without."""
    USED = "used"


@dataclass(frozen=True, slots=True, eq=False)
class Scopable:
    """What some virtual hosts have for scopes, and which domains cannot have one."""

    members: Mapping[Member, TranslatedHost] = field(default_factory=dict)
    unscopable: tuple[tuple[ObjectRef, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ScopedRoutes:
    """RouteConfigurations, and ScopedRouteConfigurations of the same names that lead to them."""

    routes: Resources
    scopes: Resources


def find_scopable(hosts: Iterable[TranslatedHost]) -> Scopable:
    """What these virtual hosts have."""
    members: dict[Member, TranslatedHost] = {}
    unscopable: list[tuple[ObjectRef, str]] = []
    for host in hosts:
        for domain in host.domains:
            name = scope_host(domain)
            if "*" in name or not 0 < len(name) <= LONGEST_HOST:
                unscopable.append((host.source, domain))
            else:
                members[name, host.name] = host
    return Scopable(members, tuple(unscopable))


def join_scopable(parts: Sequence[Scopable]) -> Scopable:
    """What all of these have."""
    members = {member: host for part in parts for member, host in part.members.items()}
    return Scopable(members, tuple(chain.from_iterable(part.unscopable for part in parts)))


def build_scoped_routes(
    route_config: str, frame: Any, parts: Sequence[Scopable], key: tuple[Any, ...], memo: Memo
) -> ScopedRoutes | None:
    """Those of all virtual hosts; *frame* is the RouteConfiguration without virtual hosts. Costs what changed.

    None if there is nothing to find, or too much, or two virtual hosts of one name want one host name.
    """
    found = [part.members for part in parts]
    members = memo.get(("scope members", *key), (), Joined[Member, TranslatedHost]).join(found)
    if not members or len(members) != sum(map(len, found)):
        return None
    kept = memo.get(("scopes", *key), (), partial(_Scopes, route_config)).follow(_pack_frame(frame), members)
    return kept if len(kept.scopes) <= MOST_HOSTS else None


def _pack_frame(frame: Any) -> bytes:
    """What all RouteConfigurations have in common; upstreams do not see the header."""
    out = type(frame)()
    out.CopyFrom(frame)
    out.ClearField("name")
    out.request_headers_to_remove.append(SCOPE_HEADER)
    return to_bytes(out)


@dataclass(slots=True)
class _Scopes:
    """The resources of one gateway, kept up to date by what changed among its virtual hosts."""

    route_config: str
    frame: bytes = b""
    members: Journal[Member, TranslatedHost] = field(default_factory=Journal)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of the virtual hosts of each host name, sorted."""
    routes: Journal[str, Resource] = field(default_factory=Journal)
    scopes: Journal[str, Resource] = field(default_factory=Journal)

    def follow(self, frame: bytes, members: Journal[Member, TranslatedHost]) -> ScopedRoutes:
        """The resources for these virtual hosts; the same objects as long as they do not change."""
        changed = members.changed_since(self.members) if frame == self.frame else None
        if changed is None:
            changed = frozenset({*members, *self.members})
        self.frame, self.members = frame, members
        touched = {host for host, _ in changed}
        self._rename(changed)
        there = [host for host in touched if host in self.names]
        gone = [scope_name(self.route_config, host) for host in touched if host not in self.names]
        self.routes = self.routes.replace({made.name: made for made in map(self._build_routes, there)}, gone)
        new = [host for host in there if scope_name(self.route_config, host) not in self.scopes]
        self.scopes = self.scopes.replace({made.name: made for made in map(self._build_scope, new)}, gone)
        return ScopedRoutes(self.routes, self.scopes)

    def _rename(self, changed: Iterable[Member]) -> None:
        for host, name in changed:
            names = {*self.names.pop(host, ()), name}
            if (host, name) not in self.members:
                names.remove(name)
            if names:
                self.names[host] = tuple(sorted(names))

    def _build_routes(self, host: str) -> Resource:
        name = scope_name(self.route_config, host)
        hosts = tuple(self.members[host, found] for found in self.names[host])
        version = version_of(self.frame, *(found.digest for found in hosts))
        old = self.routes.get(name)
        if old is not None and old.version == version:
            return old  # type: ignore[no-any-return]
        opening = delimited(_NAME_FIELD, name.encode()) + self.frame
        if len(hosts) > 1:
            return JoinedResource(name, version, partial(_wires, opening, hosts))
        begin, rest = hosts[0].wire()
        return PrefixedResource(name, version, opening + begin, rest)

    def _build_scope(self, host: str) -> Resource:
        name = scope_name(self.route_config, host)
        out = scoped_route_pb2.ScopedRouteConfiguration(name=name, route_configuration_name=name)
        out.key.fragments.add(string_key=scope_key(self.route_config))
        out.key.fragments.add(string_key=host)
        body = to_bytes(out)
        return Resource(name, version_of(body), body)


def unscoped_problems(group: HttpGroup, parts: Iterable[Scopable], scoped: ScopedRoutes | None) -> Iterator[Problem]:
    """Why the routes of a gateway are not found by scope although they should be."""
    for source, domain in dict.fromkeys(found for part in parts for found in part.unscopable):
        text = f"{domain[:80]} {_UNSCOPABLE}; until then {group.source} goes on as with auto"
        yield Problem(Severity.WARNING, source, "virtualHost.domains", text)
    if scoped is None and any(part.members for part in parts):
        yield Problem(Severity.WARNING, group.source, group.path, _TOO_MANY)


def _wires(opening: bytes, hosts: Sequence[TranslatedHost]) -> Iterator[bytes]:
    yield opening
    yield from chain.from_iterable(host.wire() for host in hosts)


def apply_scoped_routes(route_config: str, out: Any) -> None:
    """Lets a connection manager find its routes by scope. What clients say in the header is written over."""
    mutation = header_mutation_pb2.HeaderMutation()
    value = f"{scope_key(route_config)}{SCOPE_SEPARATOR}%REQ(:AUTHORITY)%"
    added = mutation.mutations.add().append
    added.header.CopyFrom(base_pb2.HeaderValue(key=SCOPE_HEADER, value=value))
    added.append_action = added.OVERWRITE_IF_EXISTS_OR_ADD
    out.early_header_mutation_extensions.add(name=EXTENSION, typed_config=typed_config(mutation))
    scoped = out.scoped_routes
    scoped.name = EXTENSION
    scoped.rds_config_source.CopyFrom(ads())
    scoped.scoped_rds.scoped_rds_config_source.CopyFrom(ads())
    for index in range(2):
        extractor = scoped.scope_key_builder.fragments.add().header_value_extractor
        extractor.name, extractor.element_separator, extractor.index = SCOPE_HEADER, SCOPE_SEPARATOR, index
