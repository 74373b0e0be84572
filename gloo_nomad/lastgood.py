"""Last good virtual hosts: one that has an error now is served as it was when it had none.

A mistake in an edit must not take away what works. The memory is per proxy, RouteConfiguration and virtual host name;
it forgets a virtual host when its object is gone.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from gloo_nomad.api.gen import proxy_pb2
from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.proxies import HttpGroup, Listener, Proxy, VirtualHost
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot

Key = tuple[str, str, ObjectRef]


@dataclass(slots=True)
class LastGood:
    """Good virtual hosts by role, RouteConfiguration and source."""

    hosts: dict[Key, VirtualHost] = field(default_factory=dict)
    held: dict[str, tuple[tuple[Key, VirtualHost], ...]] = field(default_factory=dict)
    """By role those of rejected virtual services: what there is now would not lead to them."""
    memo: Memo = field(default_factory=Memo)
    """Keeps the identity of restored values from round to round."""

    def restore(self, proxy: Proxy, problems: Iterable[Problem], snapshot: ConfigSnapshot) -> Proxy:
        """The proxy with every rejected virtual host replaced by its last good version, if there is one.

        The same proxy when there is nothing to replace. Good virtual hosts are remembered.
        """
        rejected = _rejected(problems, snapshot)
        good = {key: host for key, host in _hosts(proxy) if host.source not in rejected}
        self._forget(proxy.role, snapshot, good.keys() | {key for key in self.hosts if key[2] in rejected})
        self.hosts.update(good)
        self.held[proxy.role] = self._held(proxy.role, rejected)
        listeners = tuple(self._restore_listener(proxy.role, listener, rejected) for listener in proxy.listeners)
        if all(new is old for new, old in zip(listeners, proxy.listeners, strict=True)):
            return proxy
        return self.memo.get(("proxy", proxy.role), (proxy, *listeners), lambda: replace(proxy, listeners=listeners))

    def sweep(self, roles: Collection[str]) -> None:
        """Ends a round over all proxies: forgets those that are gone, and what is not restored any more."""
        self.memo.sweep()
        for key in [key for key in self.hosts if key[0] not in roles]:
            del self.hosts[key]
        for role in self.held.keys() - set(roles):
            del self.held[role]

    def _held(self, role: str, rejected: Collection[ObjectRef]) -> tuple[tuple[Key, VirtualHost], ...]:
        if not rejected:
            return ()
        return tuple((key, host) for key, host in self.hosts.items() if key[0] == role and key[2] in rejected)

    def _forget(self, role: str, snapshot: ConfigSnapshot, kept: Collection[Key]) -> None:
        """Forgets virtual hosts that were taken away: their object is gone, or it is good and is somewhere else now."""
        known = snapshot.of(VIRTUAL_SERVICE.name)
        for key in [key for key in self.hosts if key[0] == role and (key not in kept or key[2].ref not in known)]:
            del self.hosts[key]

    def _restore_listener(self, role: str, listener: Listener, rejected: Collection[ObjectRef]) -> Listener:
        groups = tuple(self._restore_group(role, group, rejected) for group in listener.http)
        if all(new is old for new, old in zip(groups, listener.http, strict=True)):
            return listener
        key = ("listener", role, listener.name)
        return self.memo.get(key, (listener, *groups), lambda: replace(listener, http=groups))

    def _restore_group(self, role: str, group: HttpGroup, rejected: Collection[ObjectRef]) -> HttpGroup:
        keys = ((role, group.route_config, ref) for ref in rejected)
        kept = tuple(self.hosts[key] for key in keys if key in self.hosts)
        if not kept:
            return group
        key = ("group", role, group.route_config)
        return self.memo.get(key, (group, *kept), lambda: _with_hosts(group, kept))


def _hosts(proxy: Proxy) -> Iterator[tuple[Key, VirtualHost]]:
    for listener in proxy.listeners:
        for group in listener.http:
            for host in group.virtual_hosts:
                yield (proxy.role, group.route_config, host.source), host


def _rejected(problems: Iterable[Problem], snapshot: ConfigSnapshot) -> dict[ObjectRef, None]:
    """The virtual services with an error, the oldest first: of two that want one domain it is the older's.

    Without those that ask for a protection that they would not have: an older version may be open.
    """
    problems = tuple(problems)
    created = snapshot.created.get(VIRTUAL_SERVICE.name, {})
    found = {
        problem.ref
        for problem in problems
        if problem.severity is Severity.ERROR and problem.ref.kind == VIRTUAL_SERVICE.name
    }
    found -= {problem.ref for problem in problems if problem.closed}
    return dict.fromkeys(sorted(found, key=lambda ref: (created.get(ref.ref, 0), ref)))


def _with_hosts(group: HttpGroup, kept: tuple[VirtualHost, ...]) -> HttpGroup:
    restored = {host.source for host in kept}
    others = [host for host in group.virtual_hosts if host.source not in restored]
    taken = {domain for host in others for domain in host.message.domains}
    hosts = [*others, *(host for old in kept if (host := _without_domains(old, taken)) is not None)]
    return replace(group, virtual_hosts=tuple(sorted(hosts, key=lambda host: host.message.name)))


def _without_domains(host: VirtualHost, taken: set[str]) -> VirtualHost | None:
    """The virtual host without domains that others have; *taken* grows by what it keeps."""
    free = [domain for domain in host.message.domains if domain not in taken]
    taken.update(free)
    if len(free) == len(host.message.domains):
        return host
    if not free:
        return None
    message = proxy_pb2.VirtualHost()
    message.CopyFrom(host.message)
    del message.domains[:]
    message.domains.extend(free)
    return replace(host, message=message)
