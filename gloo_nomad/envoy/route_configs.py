"""The virtual hosts of one HTTP gateway to one RouteConfiguration, by splicing bytes.

A change of one virtual host among thousands translates that one, and joins byte strings for the rest. The version is
made of the virtual hosts' digests: megabytes are not hashed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from envoy.config.route.v3 import route_pb2

from gloo_nomad.api.gen import listener_options_pb2, settings_pb2
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.envoy.actions import body_limit
from gloo_nomad.envoy.resources import build_resource
from gloo_nomad.envoy.routes import HostFrame, TranslatedHost, translate_virtual_host
from gloo_nomad.messages import to_bytes, version_of
from gloo_nomad.proxies import HttpGroup, VirtualHost
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.resources import ROUTES, Resource
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot

Clashes = Mapping[int, frozenset[str]]
NO_CLASHES: Final[Clashes] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class TranslatedRoutes:
    """A RouteConfiguration, and what the listener and the rest of the pipeline have to know of it."""

    resource: Resource
    filters: frozenset[str]
    """Names of the filters that something behind it configures."""
    upstreams: frozenset[Ref]
    consul_services: frozenset[str]
    problems: Problems


def translate_routes(
    group: HttpGroup,
    options: listener_options_pb2.RouteConfigurationOptions,
    snapshot: ConfigSnapshot,
    settings: settings_pb2.Settings,
    memo: Memo,
) -> TranslatedRoutes:
    """The RouteConfiguration of a group; every virtual host in it is remembered by itself.

    Keys may have identities in them because the remembered inputs keep what they stand for alive.
    """
    frame = HostFrame(settings, is_secure(group), body_limit(options))
    hosts = [_translate_host(host, frame, snapshot, memo) for host in group.virtual_hosts]
    clashes = memo.get(("domain clashes", id(group)), (group, *hosts), lambda: find_clashes(hosts))
    for index, domains in clashes.items():
        hosts[index] = _translate_host(group.virtual_hosts[index], replace(frame, without=domains), snapshot, memo)
    return memo.get(
        ("routes", id(group)),
        (group, options, clashes, *hosts),
        lambda: _join_hosts(group, options, hosts, clashes, memo),
    )


def is_secure(group: HttpGroup) -> bool:
    """Whether a group is for TLS, also while none of its TLS configurations can be served."""
    return bool(group.ssl) or any(host.ssl is not None for host in group.virtual_hosts[:1])


def _translate_host(host: VirtualHost, frame: HostFrame, snapshot: ConfigSnapshot, memo: Memo) -> TranslatedHost:
    """A virtual host; the same one in several listeners or proxies is translated once."""
    key = ("envoy host", id(host), frame.secure, frame.body_limit, frame.without)
    return memo.track(key, (host, frame.settings), snapshot, partial(translate_virtual_host, host, frame))


def find_clashes(hosts: Sequence[TranslatedHost]) -> Clashes:
    """For each virtual host (by its position) the domains that one before it has; Envoy would refuse all routes.

    Conflicts between objects are settled by the gateway stage. What is left comes from last good versions.
    """
    if len({domain for host in hosts for domain in host.domains}) == sum(len(host.domains) for host in hosts):
        return NO_CLASHES
    clashes: dict[int, frozenset[str]] = {}
    owners: set[str] = set()
    for index, host in enumerate(hosts):
        taken = owners.intersection(host.domains)
        if taken:
            clashes[index] = frozenset(taken)
        owners.update(host.domains)
    return clashes


def _join_hosts(
    group: HttpGroup,
    options: listener_options_pb2.RouteConfigurationOptions,
    hosts: Sequence[TranslatedHost],
    clashes: Clashes,
    memo: Memo,
) -> TranslatedRoutes:
    frame = to_bytes(_build_frame(group.route_config, options))
    version = version_of(frame, *(host.digest for host in hosts))
    body = frame + b"".join([host.wire for host in hosts])
    problems = [problem for host in hosts if host.problems for problem in host.problems]
    problems += [_clash_problem(hosts[index].source, domains) for index, domains in clashes.items()]
    return TranslatedRoutes(
        build_resource(memo, ROUTES, group.route_config, body, version),
        frozenset().union(*[host.filters for host in hosts]),
        frozenset().union(*[host.upstreams for host in hosts]),
        frozenset().union(*[host.consul_services for host in hosts]),
        tuple(dict.fromkeys(problems)),
    )


def _clash_problem(source: ObjectRef, domains: frozenset[str]) -> Problem:
    names = ", ".join(sorted(domains))
    text = f"domain conflict: {names} belongs to another virtual service, which keeps it"
    return Problem(Severity.ERROR, source, "virtualHost.domains", text)


def _build_frame(name: str, options: listener_options_pb2.RouteConfigurationOptions) -> Any:
    """A RouteConfiguration without virtual hosts."""
    frame = route_pb2.RouteConfiguration(name=name)
    if options.HasField("max_direct_response_body_size_bytes"):
        frame.max_direct_response_body_size_bytes.value = options.max_direct_response_body_size_bytes.value
    frame.most_specific_header_mutations_wins = options.most_specific_header_mutations_wins.value
    return frame
