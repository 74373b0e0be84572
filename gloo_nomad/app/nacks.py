"""What Envoys reject becomes problems of the objects behind it, until they accept it, or it or they are gone."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.api.kinds import SECRET as SECRET_KIND
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.app.engine import Engine
from gloo_nomad.envoy.names import (
    authority_name,
    certificate_name,
    quic_listener_name,
    scope_host,
    scope_name,
    split_host_name,
    split_routes_name,
    virtual_host_name,
)
from gloo_nomad.envoy.secret_users import find_secret_users
from gloo_nomad.proxies import Listener, VirtualHost
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SCOPED_ROUTES, SECRET, VIRTUAL_HOST

MAX_TEXT: Final = 400
LOOK_SECONDS: Final = 10.0
"""Between looks at whether Envoys that rejected something are still there; absent twice is gone."""

Node = tuple[str, str]
"""Role and node id."""
Resource = tuple[str, str, str]
"""Role, type URL and name."""


@dataclass(slots=True)
class Nacks:
    """The callbacks of the xDS server, and the memory of what is rejected at present."""

    engine: Engine
    connected: Callable[[], Iterable[Node]] = tuple
    _rejected: dict[Resource, dict[str, str]] = field(default_factory=dict)
    """Reasons by node id."""
    _any: asyncio.Event = field(default_factory=asyncio.Event)

    def rejected(self, role: str, node_id: str, type_url: str, names: tuple[str, ...], message: str) -> None:
        """An Envoy does not take these resources."""
        told = " ".join(message.split())[:MAX_TEXT]
        for name in names:
            self._rejected.setdefault((role, type_url, name), {})[node_id] = told
        self._any.set()
        self.engine.wake()

    def recovered(self, role: str, node_id: str, type_url: str, names: tuple[str, ...]) -> None:
        """It takes them now."""
        for name in names:
            self._drop((role, type_url, name), {node_id})
        self.engine.wake()

    def problems(self) -> Problems:
        """An error for each object behind a resource that is rejected; the same however many Envoys say the same."""
        return tuple(
            Problem(Severity.ERROR, ref, "", f"Envoy rejected {resource[2]}: {told} ({_nodes(resource, nodes)})")
            for resource, reasons in sorted(self._rejected.items())
            for told, nodes in _by_reason(reasons).items()
            for ref in sorted(set(self._objects(*resource)))
        )

    async def run(self) -> None:
        """Forgets for ever what Envoys rejected that are not connected any more."""
        absent: set[Node] = set()
        while True:
            await self._any.wait()
            await asyncio.sleep(LOOK_SECONDS)
            absent = self.forget_absent(absent)

    def forget_absent(self, absent_before: set[Node]) -> set[Node]:
        """Drops what was rejected by nodes that are absent and were so before; answers who is absent now."""
        connected = set(self.connected())
        absent = {(role, node) for (role, _, _), reasons in self._rejected.items() for node in reasons} - connected
        gone = absent & absent_before
        for resource in list(self._rejected):
            self._drop(resource, {node for role, node in gone if role == resource[0]})
        if gone:
            self.engine.wake()
        if not self._rejected:
            self._any.clear()
        return absent - gone

    def _drop(self, resource: Resource, nodes: set[str]) -> None:
        reasons = self._rejected.get(resource, {})
        for node in nodes & reasons.keys():
            del reasons[node]
        if not reasons:
            self._rejected.pop(resource, None)

    def _objects(self, role: str, type_url: str, name: str) -> Iterator[ObjectRef]:
        """The objects that a resource of the present translation comes from; none for one that is not served now."""
        translation = self.engine.translation
        if translation is None:
            return
        if type_url in {CLUSTER, ENDPOINTS}:
            served = translation.clusters.upstreams.get(name)
            if served is not None:
                yield UPSTREAM.object_ref(served.ref)
            return
        if type_url == SECRET:
            yield from self._secrets(name)
            yield from find_secret_users(name, self.engine.store.snapshot)
            return
        for proxy in translation.proxies:
            for listener in proxy.listeners if proxy.role == role else ():
                yield from _sources(listener, type_url, name)

    def _secrets(self, name: str) -> Iterator[ObjectRef]:
        for ref in self.engine.store.snapshot.of(SECRET_KIND.name):
            if name in {certificate_name(ref), authority_name(ref)}:
                yield SECRET_KIND.object_ref(ref)


def _sources(listener: Listener, type_url: str, name: str) -> Iterator[ObjectRef]:
    """What a listener, a RouteConfiguration, a scope or a virtual host of a listener comes from."""
    if type_url == LISTENER and name in {listener.name, quic_listener_name(listener.name)}:
        yield listener.source
    for group in listener.http:
        split = split_routes_name(group.route_config)
        if type_url == ROUTES and name in {group.route_config, split}:
            yield listener.source
        if type_url in {ROUTES, SCOPED_ROUTES} and name.startswith(scope_name(group.route_config, "")):
            host = name.removeprefix(scope_name(group.route_config, ""))
            yield from (found.source for found in group.virtual_hosts if host in map(scope_host, found.domains))
        if type_url == VIRTUAL_HOST and name.rpartition("/")[0] == split:
            found = [host for host in group.virtual_hosts if split_host_name(split, _envoy_name(host)) == name]
            yield from (host.source for host in found)


def _envoy_name(host: VirtualHost) -> str:
    return virtual_host_name(host.name)


def _by_reason(reasons: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node, told in sorted(reasons.items()):
        found.setdefault(told, []).append(node)
    return found


def _nodes(resource: Resource, nodes: list[str]) -> str:
    return f"{nodes[0]} and others of {resource[0]}" if len(nodes) > 1 else f"{nodes[0] or 'a node'} of {resource[0]}"
