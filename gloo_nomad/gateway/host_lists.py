"""The virtual hosts of a group, kept up to date: a change costs the virtual services that changed."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from gloo_nomad.gateway.domains import NO_DOMAINS, Claim, Conflicts
from gloo_nomad.gateway.hosts import Converted, build_variant
from gloo_nomad.journal import differing_places
from gloo_nomad.proxies import VirtualHost

_NAME: Final = attrgetter("name")
Find = Callable[[Sequence[Claim]], Conflicts]


@dataclass(slots=True)
class HostList:
    """What one gateway made of its virtual services in the last round."""

    services: tuple[Converted, ...] = ()
    ages: tuple[Mapping[Any, Any], ...] = ()
    """What decides conflicts beside the services; the same objects as long as nothing in them changed."""
    conflicts: Conflicts | None = None
    served: tuple[VirtualHost, ...] = ()
    """Sorted by name."""
    _ordered: list[Converted] = field(default_factory=list)
    _hosts: list[VirtualHost | None] = field(default_factory=list)
    """For each of the ordered services."""
    _variants: dict[Converted, tuple[frozenset[str], VirtualHost]] = field(default_factory=dict)
    """Virtual hosts that are others than those of their services, and without which domains."""

    def update(
        self, services: tuple[Converted, ...], ages: tuple[Mapping[Any, Any], ...], find: Find, names: tuple[str, str]
    ) -> Conflicts:
        """Takes the sorted services of a round over; the result is in ``served``, the same tuple if none of it changed.

        *find* says who loses which domains; *names* are those of the gateway and of the proxy.
        """
        places = differing_places(self.services, services) if self.conflicts is not None else None
        pairs = None if places is None else [(self.services[place], services[place]) for place in places]
        aged = len(ages) != len(self.ages) or any(new is not old for new, old in zip(ages, self.ages, strict=True))
        conflicts = self.conflicts
        if conflicts is None or pairs is None or aged or any(old.claim is not new.claim for old, new in pairs):
            found = find([service.claim for service in services])
            conflicts = found if conflicts is None or found != conflicts else conflicts
        if pairs is None or conflicts is not self.conflicts or any(old.name != new.name for old, new in pairs):
            self._renew(services, conflicts, names)
        else:
            self._exchange(pairs, conflicts, names)
        served = tuple(self._served())
        self.served = self.served if served == self.served else served
        self.services, self.ages, self.conflicts = services, ages, conflicts
        return conflicts

    def _served(self) -> Iterator[VirtualHost]:
        return filter(None, self._hosts)

    def _renew(self, services: tuple[Converted, ...], conflicts: Conflicts, names: tuple[str, str]) -> None:
        before, self._variants = self._variants, {}
        self._ordered = sorted(services, key=_NAME)
        self._hosts = [self._host(service, conflicts, names, before) for service in self._ordered]

    def _exchange(
        self, pairs: Sequence[tuple[Converted, Converted]], conflicts: Conflicts, names: tuple[str, str]
    ) -> None:
        for old, new in pairs:
            place = self._ordered.index(old, bisect_left(self._ordered, old.name, key=_NAME))
            self._variants.pop(old, None)
            self._hosts[place] = self._host(new, conflicts, names, {})
            self._ordered[place] = new

    def _host(
        self,
        service: Converted,
        conflicts: Conflicts,
        names: tuple[str, str],
        before: Mapping[Converted, tuple[frozenset[str], VirtualHost]],
    ) -> VirtualHost | None:
        """A virtual host with its routes named, and without domains it lost.

        None if it is left out, because of an error or because it has no domain left.
        """
        lost = conflicts.lost.get(service.claim.source, NO_DOMAINS)
        if service.host is None or (not lost and not service.names):
            return service.host
        if lost.issuperset(service.claim.domains):
            return None
        known = before.get(service)
        if known is None or known[0] != lost:
            known = lost, build_variant(service, service.host, *names, lost)
        self._variants[service] = known
        return known[1]
