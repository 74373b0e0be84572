"""HTTP gateways: the virtual hosts of the selected virtual services, behind the filter chains that they ask for.

https://docs.solo.io/gloo-edge/latest/guides/security/tls/server_tls/: all virtual hosts of an ``ssl`` gateway are
served on each of its filter chains, unless ``isolateVirtualHostsBySslConfig`` gives each chain its own.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from google.protobuf.message import Message

from gloo_nomad.api.gen import gateway_pb2, http_listener_options_pb2, proxy_pb2
from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.gateway.domains import find_conflicts
from gloo_nomad.gateway.host_lists import HostList
from gloo_nomad.gateway.hosts import Converted
from gloo_nomad.gateway.names import route_config_name
from gloo_nomad.gateway.scene import Scene
from gloo_nomad.gateway.selection import Selection, select_services
from gloo_nomad.gateway.ssl import Chain, build_chains
from gloo_nomad.proxies import HttpGroup, VirtualHost

_TLS: Final = attrgetter("tls")
_ISOLATE: Final = "gateway.solo.io/isolate_vhost"


@dataclass(frozen=True, slots=True)
class HttpPart:
    """An HTTP gateway and where it stands: alone on its listener, or one of several behind matchers."""

    http: gateway_pb2.HttpGateway
    ssl: bool
    source: ObjectRef
    origin: Message
    """The whole object that it is in; the same object as long as it does not change."""
    path: str = "httpGateway"
    matcher: proxy_pb2.Matcher | None = None
    options: http_listener_options_pb2.HttpListenerOptions | None = None
    """Instead of the HTTP gateway's own."""

    @property
    def key(self) -> tuple[ObjectRef, str]:
        """What tells it apart from others on the listener."""
        return self.source, self.path


def translate_http(part: HttpPart, scene: Scene) -> tuple[HttpGroup, ...]:
    """The groups of an HTTP gateway; none if it has no virtual service.

    A group may be without virtual hosts, when all of its virtual services are left out: the last good version of
    each belongs into it.
    """
    selection = scene.world.memo.get(("selection", *scene.key, *part.key), (), Selection)
    conditions = (part.origin, part.ssl)
    services, findings = select_services(part.http, scene.world.services, selection, conditions)
    for finding in findings:
        scene.report(finding, part.path, part.source)
    if not services and not _serves_empty(scene):
        return ()
    chains = _chains(part, services, scene)
    if part.ssl and not chains:
        return ()
    if not _isolates(scene) or not part.ssl:
        return (_build_group(part, services, chains, scene),)
    by_source = {service.source: service for service in services}
    return tuple(
        _build_group(part, tuple(by_source[source] for source in chain.sources), (chain,), scene, isolated=True)
        for chain in chains
    )


def _serves_empty(scene: Scene) -> bool:
    return scene.world.settings.gateway.translate_empty_gateways.value


def _isolates(scene: Scene) -> bool:
    """Whether each filter chain has virtual hosts of its own; the gateway's annotation goes before the settings."""
    annotation = scene.gateway.metadata.annotations.get(_ISOLATE, "")
    if annotation in {"true", "false"}:
        return annotation == "true"
    return scene.world.settings.gateway.isolate_virtual_hosts_by_ssl_config.value


def _chains(part: HttpPart, services: tuple[Converted, ...], scene: Scene) -> tuple[Chain, ...]:
    """One chain for each TLS configuration that a virtual service has; the matcher gives what it leaves unset."""
    if not part.ssl:
        return ()
    asked = tuple(filter(None, map(_TLS, services)))
    defaults = part.matcher.ssl_config if part.matcher is not None else None
    key = ("chains", *scene.key, *part.key)
    return scene.world.memo.get(key, (part.matcher, *asked), lambda: build_chains(asked, defaults))


def _build_group(
    part: HttpPart, services: tuple[Converted, ...], chains: tuple[Chain, ...], scene: Scene, *, isolated: bool = False
) -> HttpGroup:
    matcher = _route_config_matcher(part, chains, isolated=isolated)
    name = route_config_name(scene.listener, matcher)
    hosts = _hosts(part, services, name, scene)
    key = (*scene.key, *part.key, name)
    kept = scene.world.keep(key, chains)
    options = part.options or part.http.options
    return scene.world.memo.get(
        ("group", *key),
        (part.origin, part.matcher, part.options, kept, hosts),
        lambda: HttpGroup(part.source, name, options, hosts, kept, part.matcher, part.path),
    )


def _hosts(part: HttpPart, services: tuple[Converted, ...], name: str, scene: Scene) -> tuple[VirtualHost, ...]:
    """The virtual hosts of a group, sorted by name; each domain is in one of them only."""
    world = scene.world
    created, claimed = world.created(VIRTUAL_SERVICE.name), world.claimed(VIRTUAL_SERVICE.name)
    hosts = world.memo.get(("hosts", *scene.key, *part.key, name), (), HostList)
    conflicts = hosts.update(
        services,
        (created, claimed),
        lambda claims: find_conflicts(claims, part.source, part.path, created, claimed),
        (scene.source.name, scene.proxy),
    )
    scene.problems.extend(conflicts.problems)
    return hosts.served


def _route_config_matcher(part: HttpPart, chains: tuple[Chain, ...], *, isolated: bool) -> proxy_pb2.Matcher | None:
    """What tells the RouteConfigurations of one listener apart."""
    if not isolated:
        return part.matcher
    matcher = proxy_pb2.Matcher()
    if part.matcher is not None:
        matcher.CopyFrom(part.matcher)
    matcher.ssl_config.CopyFrom(chains[0].config)
    return matcher
