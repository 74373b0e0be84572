"""Who is part of which proxy, and what is wrong with whom: what statuses are made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.proxies import Listener, Proxy, VirtualHost
from gloo_nomad.reports import Problem
from gloo_nomad.store.status_writer import Standing
from gloo_nomad.store.statuses import group_by_object

_NOWHERE: frozenset[Ref] = frozenset()


@dataclass(slots=True)
class Standings:
    """The standing of every object after one round; remembers the sources of virtual hosts that did not change."""

    _problems: dict[ObjectRef, tuple[Problem, ...]] = field(default_factory=dict)
    _proxies: dict[ObjectRef, frozenset[Ref]] = field(default_factory=dict)
    _sources: dict[VirtualHost, frozenset[ObjectRef]] = field(default_factory=dict)

    def update(self, proxies: Iterable[Proxy], problems: Iterable[Problem]) -> None:
        """Takes a round's results over."""
        self._problems = {ref: tuple(found) for ref, found in group_by_object(problems).items()}
        sources: dict[VirtualHost, frozenset[ObjectRef]] = {}
        members: dict[ObjectRef, set[Ref]] = {}
        for proxy in proxies:
            for listener in proxy.listeners:
                for ref in self._members(listener, sources):
                    members.setdefault(ref, set()).add(proxy.ref)
        self._sources = sources
        shared: dict[frozenset[Ref], frozenset[Ref]] = {}
        self._proxies = {ref: shared.setdefault(key := frozenset(names), key) for ref, names in members.items()}

    def of(self, ref: ObjectRef) -> Standing:
        """One object's standing."""
        return Standing(self._problems.get(ref, ()), self._proxies.get(ref, _NOWHERE))

    def _members(self, listener: Listener, out: dict[VirtualHost, frozenset[ObjectRef]]) -> Iterator[ObjectRef]:
        yield listener.source
        for group in listener.http:
            yield group.source
            for host in group.virtual_hosts:
                found = self._sources.get(host)
                if found is None:
                    found = frozenset({host.source, *(origin.source for origin in host.origins)})
                out[host] = found
                yield from found
        for tcp in listener.tcp:
            yield tcp.source
