"""Who is part of which proxy, and what is wrong with whom: what statuses are made of."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.journal import differing_places
from gloo_nomad.proxies import Proxy, VirtualHost
from gloo_nomad.reports import Problem
from gloo_nomad.store.status_writer import Standing
from gloo_nomad.store.statuses import group_by_object


@dataclass(slots=True)
class _Members:
    """The objects that one proxy is made of."""

    proxy: Proxy | None = None
    hosts: tuple[VirtualHost, ...] = ()
    around: frozenset[ObjectRef] = frozenset()
    """Those around the virtual hosts."""
    below: Counter[ObjectRef] = field(default_factory=Counter)
    """In how many virtual hosts an object is."""

    def exchange(self, proxy: Proxy) -> set[ObjectRef]:
        """Takes a newer version over; which objects are looked at, among them all that came or went."""
        if proxy is self.proxy:
            return set()
        groups = [group for listener in proxy.listeners for group in listener.http]
        hosts = tuple(chain.from_iterable(group.virtual_hosts for group in groups))
        around = frozenset(_around(proxy))
        gone, new = _difference(self.hosts, hosts)
        touched = set(self.around ^ around)
        for host, count in (*((host, -1) for host in gone), *((host, 1) for host in new)):
            for ref in {host.source, *(origin.source for origin in host.origins)}:
                self.below[ref] += count
                touched.add(ref)
        for ref in touched:
            if not self.below[ref]:
                del self.below[ref]
        self.proxy, self.hosts, self.around = proxy, hosts, around
        return touched

    def __contains__(self, ref: ObjectRef) -> bool:
        return ref in self.around or ref in self.below


@dataclass(slots=True)
class Standings:
    """The standing of every object after one round; a round costs what is different in it."""

    _problems: dict[ObjectRef, tuple[Problem, ...]] = field(default_factory=dict)
    _proxies: dict[Ref, _Members] = field(default_factory=dict)

    def update(self, proxies: Iterable[Proxy], problems: Iterable[Problem]) -> set[ObjectRef]:
        """Takes a round's results over; the objects whose standing may be another now."""
        before, self._problems = self._problems, {ref: tuple(found) for ref, found in group_by_object(problems).items()}
        changed = {ref for ref in before | self._problems if before.get(ref) != self._problems.get(ref)}
        gone = set(self._proxies)
        for proxy in proxies:
            gone.discard(proxy.ref)
            changed |= self._proxies.setdefault(proxy.ref, _Members()).exchange(proxy)
        for ref in gone:
            members = self._proxies.pop(ref)
            changed |= members.around | members.below.keys()
        return changed

    def of(self, ref: ObjectRef) -> Standing:
        """One object's standing."""
        proxies = frozenset(name for name, members in self._proxies.items() if ref in members)
        return Standing(self._problems.get(ref, ()), proxies)


def _around(proxy: Proxy) -> Iterator[ObjectRef]:
    for listener in proxy.listeners:
        yield listener.source
        yield from (group.source for group in listener.http)
        yield from (group.source for group in listener.tcp)


def _difference(
    old: tuple[VirtualHost, ...], new: tuple[VirtualHost, ...]
) -> tuple[Iterable[VirtualHost], Iterable[VirtualHost]]:
    """Those that went and those that came; of one that is there several times, as many."""
    places = differing_places(old, new)
    if places is not None:
        return [old[place] for place in places], [new[place] for place in places]
    return (Counter(old) - Counter(new)).elements(), (Counter(new) - Counter(old)).elements()
