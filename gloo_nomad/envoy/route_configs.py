"""The virtual hosts of one HTTP gateway to one RouteConfiguration, by splicing bytes.

A change of one virtual host among thousands translates that one, and joins byte strings for the rest. The version is
made of the virtual hosts' digests: megabytes are not hashed again.

Many virtual hosts are resources of their own where the protocol allows it (``envoy.split_routes``): then only the
changed one travels, and the whole is joined only for clients that need it so. On request there is a RouteConfiguration
for each host name instead (``envoy.scoped_routes``).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from envoy.config.route.v3 import route_pb2

from gloo_nomad.api.gen import http_listener_options_pb2, listener_options_pb2, settings_pb2
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.envoy.actions import body_limit
from gloo_nomad.envoy.chunks import Steps, translate_chunks
from gloo_nomad.envoy.names import split_routes_name
from gloo_nomad.envoy.resources import build_resource
from gloo_nomad.envoy.routes import HostFrame, TranslatedHost, translate_virtual_host
from gloo_nomad.envoy.scoped_routes import (
    Scopable,
    ScopedRoutes,
    Scoping,
    build_scoped_routes,
    find_scopable,
    join_scopable,
    unscoped_problems,
)
from gloo_nomad.envoy.split_routes import SplitRoutes, join_hosts, pack_split_frame, split_hosts
from gloo_nomad.messages import to_bytes, version_of
from gloo_nomad.options.hooks import NO_LISTENER, ListenerContext
from gloo_nomad.options.registry import hooks, routes_read
from gloo_nomad.proxies import HttpGroup, VirtualHost
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.resources import NO_RESOURCES, ROUTES, JoinedResource, Resource, Resources
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class TranslatedRoutes:
    """A RouteConfiguration, and what the listener and the rest of the pipeline have to know of it."""

    resource: Resource
    """With all virtual hosts in it."""
    filters: frozenset[str]
    """Names of the filters that something behind it configures."""
    upstreams: frozenset[Ref]
    consul_services: frozenset[str]
    problems: Problems
    split: SplitRoutes | None = None
    """The same for delta streams, if its virtual hosts are resources of their own."""
    scoped: ScopedRoutes | None = None
    """The same by host name, as far as host names can be scopes."""
    uses_scopes: bool = False
    """Whether the listener takes ``scoped`` and nothing else."""


def translate_routes(
    group: HttpGroup,
    options: listener_options_pb2.RouteConfigurationOptions,
    snapshot: ConfigSnapshot,
    settings: settings_pb2.Settings,
    memo: Memo,
    *,
    version: tuple[Any, ...] = (),
    split: bool = False,
    scoping: Scoping = Scoping.NONE,
) -> TranslatedRoutes:
    """The RouteConfiguration of a group; every virtual host in it is remembered by itself.

    *split* asks for virtual hosts as resources of their own, *scoping* for scopes; *version* tells the lists of one
    group apart that there are in one round. Keys may have identities in them because the remembered inputs keep what
    they stand for alive.
    """
    listener = _listener_view(group.options, memo)
    frame = HostFrame(settings, is_secure(group), body_limit(options), listener=listener)
    key = (*version, group.source, group.route_config, frame.secure, frame.body_limit, split, scoping)
    form = _Form(key, group.route_config if split else "", scoping)

    def translate(part: Sequence[VirtualHost]) -> _Hosts:
        hosts = [_translate_host(host, frame, snapshot, memo) for host in part]
        return _gather(hosts, form, memo)

    steps = Steps(translate, partial(_join, memo))
    inputs = (settings, listener)
    chunks = translate_chunks(("envoy hosts", *key), group.virtual_hosts, snapshot, memo, steps, shared=inputs)
    if _have_clashes(key, chunks, memo):
        chunks = [_settle_clashes(group, frame, snapshot, memo, form)]
    return memo.track(
        ("routes", id(group), *key),
        (group, options, settings, *chunks),
        snapshot,
        lambda reads: _build_routes(
            group, options, chunks, ListenerContext(settings, reads, group.source), memo, form=form
        ),
    )


def _listener_view(options: Any, memo: Memo) -> http_listener_options_pb2.HttpListenerOptions:
    """What routes depend on of a gateway's options: the same object for the same content.

    A virtual host behind several gateways is then translated once, and nothing else in their options concerns it.
    """
    read = [name for name in routes_read() if options.HasField(name)]
    if not read:
        return NO_LISTENER

    def copy() -> http_listener_options_pb2.HttpListenerOptions:
        kept = http_listener_options_pb2.HttpListenerOptions()
        for name in read:
            getattr(kept, name).CopyFrom(getattr(options, name))
        return kept

    kept = memo.get(("listener view", id(options)), (options,), copy)
    return memo.get(("listener content", to_bytes(kept)), (), lambda: kept)


def is_secure(group: HttpGroup) -> bool:
    """Whether a group is for TLS, also while none of its TLS configurations can be served."""
    return bool(group.ssl) or any(host.ssl is not None for host in group.virtual_hosts[:1])


def _translate_host(host: VirtualHost, frame: HostFrame, snapshot: ConfigSnapshot, memo: Memo) -> TranslatedHost:
    """A virtual host; the same one in several listeners or proxies is translated once."""
    key = ("envoy host", id(host), frame.secure, frame.body_limit, frame.without, id(frame.listener))
    return memo.track(
        key, (host, frame.settings, frame.listener), snapshot, partial(translate_virtual_host, host, frame)
    )


@dataclass(frozen=True, slots=True)
class _Form:
    """In which pieces virtual hosts are served."""

    key: tuple[Any, ...]
    """Tells the lists of virtual hosts of one round apart."""
    split: str = ""
    """The RouteConfiguration of which they are to be resources of their own, if any."""
    scoping: Scoping = Scoping.NONE


@dataclass(frozen=True, slots=True, eq=False)
class _Hosts:
    """Some virtual hosts, put together. Sets of the same content are the same object."""

    served: tuple[TranslatedHost, ...]
    digests: bytes
    """Those of all that are served, one after the other: equal bytes have equal ones, however they are cut."""
    domains: frozenset[str]
    domain_count: int
    filters: frozenset[str]
    upstreams: frozenset[Ref]
    consul_services: frozenset[str]
    problems: Problems
    resources: Resources
    """Virtual hosts as resources of their own, if they are to be that."""
    scopable: Scopable
    """Host names, if they are to be scopes."""


def _gather(hosts: Sequence[TranslatedHost], form: _Form, memo: Memo) -> _Hosts:
    """Virtual hosts, in the pieces that are asked for."""
    served = tuple(host for host in hosts if host.rest)
    return _Hosts(
        served,
        b"".join([host.digest for host in served]),
        _same(frozenset(domain for host in hosts for domain in host.domains), memo),
        sum(len(host.domains) for host in hosts),
        _union((host.filters for host in hosts), memo),
        _union((host.upstreams for host in hosts), memo),
        _union((host.consul_services for host in hosts), memo),
        tuple(problem for host in hosts for problem in host.problems),
        split_hosts(form.split, served, memo) if form.split else NO_RESOURCES,
        find_scopable(served) if form.scoping is not Scoping.NONE else Scopable(),
    )


def _join(memo: Memo, parts: Sequence[_Hosts]) -> _Hosts:
    return _Hosts(
        tuple(chain.from_iterable(part.served for part in parts)),
        b"".join([part.digests for part in parts]),
        _union((part.domains for part in parts), memo),
        sum(part.domain_count for part in parts),
        _union((part.filters for part in parts), memo),
        _union((part.upstreams for part in parts), memo),
        _union((part.consul_services for part in parts), memo),
        tuple(chain.from_iterable(part.problems for part in parts)),
        {name: resource for part in parts for name, resource in part.resources.items()},
        join_scopable([part.scopable for part in parts]),
    )


def _union(parts: Iterable[frozenset[T]], memo: Memo) -> frozenset[T]:
    return _same(frozenset().union(*parts), memo)


def _same(found: frozenset[T], memo: Memo) -> frozenset[T]:
    return memo.get(("set", found), (), lambda: found)


def _have_clashes(key: tuple[Any, ...], parts: Sequence[_Hosts], memo: Memo) -> bool:
    """Whether some domain is there twice."""
    domains = tuple(part.domains for part in parts)
    count = sum(part.domain_count for part in parts)
    return memo.get(("clashes", *key), (count, *domains), lambda: len(frozenset().union(*domains)) < count)


def _settle_clashes(group: HttpGroup, frame: HostFrame, snapshot: ConfigSnapshot, memo: Memo, form: _Form) -> _Hosts:
    """All virtual hosts, each without the domains that one before it has; Envoy would refuse all routes otherwise.

    Conflicts between objects are settled by the gateway stage. What is left comes from last good versions.
    """
    owned: set[str] = set()
    settled: list[TranslatedHost] = []
    problems: list[Problem] = []
    for host in group.virtual_hosts:
        translated = _translate_host(host, frame, snapshot, memo)
        taken = owned.intersection(translated.domains)
        if taken:
            translated = _translate_host(host, replace(frame, without=frozenset(taken)), snapshot, memo)
            problems.append(_clash_problem(host.source, taken))
        owned.update(translated.domains)
        settled.append(translated)
    key = ("settled clashes", *form.key)

    def gather() -> _Hosts:
        gathered = _gather(settled, form, memo)
        return replace(gathered, problems=(*gathered.problems, *problems))

    return memo.get(key, tuple(settled), gather)


def _build_routes(
    group: HttpGroup,
    options: listener_options_pb2.RouteConfigurationOptions,
    chunks: Sequence[_Hosts],
    context: ListenerContext,
    memo: Memo,
    *,
    form: _Form,
) -> TranslatedRoutes:
    filters = frozenset().union(*(chunk.filters for chunk in chunks))
    built = _build_frame(group.route_config, options)
    for hook in hooks("apply_route_configuration"):
        hook(group.options, built, replace(context, options=group.options, used_filters=filters))
    scoped, unscoped = _scope(group, built, chunks, form, memo)
    uses_scopes = form.scoping is Scoping.USED and scoped is not None and not unscoped
    parts = None if uses_scopes or not form.split else _join_split(form, chunks, memo)
    built.name = name = group.route_config if parts is None else split_routes_name(group.route_config)
    frame = to_bytes(built)
    version = version_of(frame, b"".join([chunk.digests for chunk in chunks]))
    wires = partial(_wires, frame, chunks)
    if parts is None and not uses_scopes:
        whole, split = build_resource(memo, ROUTES, name, b"".join(wires()), version), None
    else:
        whole = memo.get(("resource", ROUTES, name, version), (), lambda: JoinedResource(name, version, wires))
        split = None if parts is None else SplitRoutes(pack_split_frame(built, memo), parts)
    return TranslatedRoutes(
        whole,
        filters,
        frozenset().union(*(chunk.upstreams for chunk in chunks)),
        frozenset().union(*(chunk.consul_services for chunk in chunks)),
        tuple(dict.fromkeys([*(problem for chunk in chunks for problem in chunk.problems), *unscoped])),
        split,
        scoped,
        uses_scopes,
    )


def _join_split(form: _Form, chunks: Sequence[_Hosts], memo: Memo) -> Resources | None:
    count = sum(len(chunk.served) for chunk in chunks)
    return join_hosts(form.key, [chunk.resources for chunk in chunks], count, memo)


def _scope(
    group: HttpGroup, frame: Any, chunks: Sequence[_Hosts], form: _Form, memo: Memo
) -> tuple[ScopedRoutes | None, Problems]:
    """The routes by host name, and why they are not used although they should be."""
    if form.scoping is Scoping.NONE:
        return None, ()
    parts = [chunk.scopable for chunk in chunks]
    scoped = build_scoped_routes(group.route_config, frame, parts, form.key, memo)
    return scoped, tuple(unscoped_problems(group, parts, scoped)) if form.scoping is Scoping.USED else ()


def _wires(frame: bytes, parts: Sequence[_Hosts]) -> Iterator[bytes]:
    yield frame
    for part in parts:
        for host in part.served:
            yield from host.wire()


def _clash_problem(source: ObjectRef, domains: Iterable[str]) -> Problem:
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
