"""All virtual services, converted, and the memory that makes one change cost one conversion."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gloo_nomad.api.gen import gateway_pb2, settings_pb2
from gloo_nomad.api.kinds import ROUTE_OPTION, ROUTE_TABLE, VIRTUAL_HOST_OPTION, VIRTUAL_SERVICE
from gloo_nomad.api.refs import Ref
from gloo_nomad.gateway.hosts import Converted, convert_service
from gloo_nomad.gateway.tables import TableFinder
from gloo_nomad.reports import Problem
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

_BELOW = (ROUTE_TABLE.name, ROUTE_OPTION.name, VIRTUAL_HOST_OPTION.name)

Services = Collection[Converted]


@dataclass(slots=True)
class Conversions:
    """What all virtual services became in the last round.

    As long as nothing below them changed, only changed virtual services are looked at; else the look-ups of each
    conversion are compared.
    """

    memo: Memo = field(default_factory=Memo)
    services: Collection[gateway_pb2.VirtualService] = field(default_factory=Collection)
    below: tuple[Any, ...] = ()
    converted: Services = field(default_factory=Collection)
    faulty: Mapping[Ref, Converted] = field(default_factory=dict)
    """Those with problems, whatever gateway selects them."""

    def translate(self, snapshot: ConfigSnapshot, settings: settings_pb2.Settings) -> Services:
        """All virtual services, converted, sorted by namespace and name; the same objects for what did not change."""
        services = snapshot.of(VIRTUAL_SERVICE.name)
        below = (settings, *(snapshot.of(kind) for kind in _BELOW))
        changed = self._changed(services, below)
        found = {
            ref: self._convert(ref, services[ref], snapshot, settings)
            for ref in (services if changed is None else changed)
        }
        if changed is None:
            self.memo.sweep()
            self.converted = self.converted.replace(found, self.converted.keys() - services.keys())
            self.faulty = {ref: converted for ref, converted in found.items() if converted.problems}
        elif found:
            self.converted = self.converted.replace(found)
            kept = {ref: converted for ref, converted in self.faulty.items() if ref not in found}
            self.faulty = kept | {ref: converted for ref, converted in found.items() if converted.problems}
        self.services, self.below = services, below
        return self.converted

    def problems(self) -> Iterator[Problem]:
        """What is wrong with virtual services and what they delegate to, whatever gateway selects them."""
        for ref in sorted(self.faulty):
            yield from self.faulty[ref].problems

    def _changed(
        self, services: Collection[gateway_pb2.VirtualService], below: tuple[Any, ...]
    ) -> frozenset[Ref] | None:
        """The virtual services that may differ from the last round; None if all may, or if some are gone."""
        if len(below) != len(self.below) or any(new is not old for new, old in zip(below, self.below, strict=True)):
            return None
        changed = services.changed_since(self.services)
        return changed if changed is not None and all(ref in services for ref in changed) else None

    def _convert(
        self, ref: Ref, service: gateway_pb2.VirtualService, snapshot: ConfigSnapshot, settings: settings_pb2.Settings
    ) -> Converted:
        before = self.converted.get(ref)
        return self.memo.track(
            ref,
            (service, settings),
            snapshot,
            lambda reads: convert_service(service, settings, TableFinder(reads, self.memo), before),
        )
