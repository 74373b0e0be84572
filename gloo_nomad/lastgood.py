"""Last good virtual hosts: one that has an error now is served as it was when it had none.

A mistake in an edit must not take away what works. The memory is per proxy, RouteConfiguration and virtual host name;
it forgets a virtual host when its object is gone.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.proxies import HttpGroup, Listener, Proxy, VirtualHost
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot

Key = tuple[str, str, ObjectRef]
"""Role, RouteConfiguration and source."""
Hosts = dict[ObjectRef, VirtualHost]


@dataclass(frozen=True, slots=True)
class Good:
    """The good virtual hosts of one RouteConfiguration."""

    served: tuple[VirtualHost, ...] = ()
    """Those of the last round, good or not."""
    rejected: Collection[ObjectRef] = frozenset()
    """What was not good in that round."""
    kept: Hosts = field(default_factory=dict)
    """The last good versions of those."""

    def of(self, sources: Iterable[ObjectRef]) -> Hosts:
        """The good versions of these virtual services, in their order, as far as there are any."""
        wanted = dict.fromkeys(sources)
        new = {source for source in wanted if source not in self.kept and source not in self.rejected}
        found = {host.source: host for host in self.served if host.source in new} if new else {}
        good = {**self.kept, **found}
        return {source: good[source] for source in wanted if source in good}


@dataclass(slots=True)
class LastGood:
    """Good virtual hosts."""

    hosts: dict[tuple[str, str], Good] = field(default_factory=dict)
    """By role and RouteConfiguration."""
    held: dict[str, tuple[tuple[Key, VirtualHost], ...]] = field(default_factory=dict)
    """By role those of rejected virtual services: what there is now would not lead to them."""
    memo: Memo = field(default_factory=Memo)
    """Keeps the identity of restored values from round to round."""

    def restore(self, proxy: Proxy, problems: Iterable[Problem], snapshot: ConfigSnapshot) -> Proxy:
        """The proxy with every rejected virtual host replaced by its last good version, if there is one.

        The same proxy when there is nothing to replace. Good virtual hosts are remembered.
        """
        rejected = _rejected(problems, snapshot)
        self._remember(proxy, rejected, snapshot)
        self.held[proxy.role] = self._held(proxy.role)
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

    def hold(self, hosts: Iterable[tuple[Key, VirtualHost]]) -> None:
        """Takes virtual hosts over that were good once."""
        for (role, route_config, source), host in hosts:
            before = self.hosts.get((role, route_config), Good())
            self.hosts[role, route_config] = replace(before, kept={**before.kept, source: host})

    def _held(self, role: str) -> tuple[tuple[Key, VirtualHost], ...]:
        return tuple(
            ((*key, source), host)
            for key, good in self.hosts.items()
            if key[0] == role
            for source, host in good.kept.items()
        )

    def _remember(self, proxy: Proxy, rejected: Collection[ObjectRef], snapshot: ConfigSnapshot) -> None:
        """Takes good virtual hosts over; of those before, the rejected ones stay as long as their object is there."""
        known = snapshot.of(VIRTUAL_SERVICE.name)
        rejected_here = [source for source in rejected if source.ref in known]
        for key in [key for key in self.hosts if key[0] == proxy.role]:
            if kept := self.hosts.pop(key).of(rejected_here):
                self.hosts[key] = Good(kept=kept)
        served: dict[str, tuple[VirtualHost, ...]] = {}
        for listener in proxy.listeners:
            for group in listener.http:
                served[group.route_config] = served.get(group.route_config, ()) + group.virtual_hosts
        for route_config, hosts in served.items():
            kept = self.hosts.get((proxy.role, route_config), Good()).kept
            self.hosts[proxy.role, route_config] = Good(hosts, rejected, kept)

    def _restore_listener(self, role: str, listener: Listener, rejected: Collection[ObjectRef]) -> Listener:
        groups = tuple(self._restore_group(role, group, rejected) for group in listener.http)
        if all(new is old for new, old in zip(groups, listener.http, strict=True)):
            return listener
        key = ("listener", role, listener.name)
        return self.memo.get(key, (listener, *groups), lambda: replace(listener, http=groups))

    def _restore_group(self, role: str, group: HttpGroup, rejected: Collection[ObjectRef]) -> HttpGroup:
        good = self.hosts.get((role, group.route_config), Good())
        kept = tuple(good.kept[source] for source in rejected if source in good.kept)
        if not kept:
            return group
        key = ("group", role, group.route_config)
        return self.memo.get(key, (group, *kept), lambda: _with_hosts(group, kept))


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
    taken = set(chain.from_iterable(host.domains for host in others))
    hosts = [*others, *(host for old in kept if (host := _without_domains(old, taken)) is not None)]
    return replace(group, virtual_hosts=tuple(sorted(hosts, key=lambda host: host.name)))


def _without_domains(host: VirtualHost, taken: set[str]) -> VirtualHost | None:
    """The virtual host without domains that others have; *taken* grows by what it keeps."""
    free = [domain for domain in host.domains if domain not in taken]
    taken.update(free)
    if len(free) == len(host.domains):
        return host
    if not free:
        return None
    message = host.message
    del message.domains[:]
    message.domains.extend(free)
    return host.with_message(message)
