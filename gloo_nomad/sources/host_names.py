"""Host names as addresses of instances: looked up by DNS, and again when the answers are out of date.

Envoy is told IP addresses: an instance with a name becomes one for each address of it. A service waits until each of
its names was looked up once; from then on the last answer holds, also while DNS fails.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Self

from gloo_nomad.acceptance.names import is_ip_address
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.dns import Found
from gloo_nomad.clients.http import WorldError
from gloo_nomad.sources.source import SourceState, cancel, raise_defects
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import Instance, ServiceInstances

POLLING_SECONDS: Final = 5.0
"""Between two looks at a name, unless its answer holds for longer: Consul's answers hold for no time at all."""
MAX_SECONDS: Final = 3600.0
_AT_A_TIME: Final = 16


@dataclass(slots=True)
class HostNames:
    """Passes changes of services on, with addresses in place of names. To be used as ``async with``."""

    find: Callable[[str], Awaitable[Found]]
    send: Callable[[Change], Awaitable[None]]
    state: SourceState
    """Told of names that cannot be found."""
    interval: float = POLLING_SECONDS
    _written: dict[tuple[str, Ref], tuple[str, Entry]] = field(default_factory=dict)
    """Services with names, by kind and reference: the source, and the entry as it came."""
    _found: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The last answer for each name that was looked up; nothing if it was never found."""
    _looking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_A_TIME))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await cancel(self._looking.values())

    async def put(self, change: Change) -> None:
        """Takes a change; services whose names were never looked up follow when they were."""
        raise_defects(self._looking.values())
        puts: dict[Ref, Entry] = {}
        for ref in change.deletes:
            self._written.pop((change.kind, ref), None)
        for ref, entry in change.puts.items():
            self._written.pop((change.kind, ref), None)
            if _names(entry):
                self._written[change.kind, ref] = change.source, entry
            if self._is_known(entry):
                puts[ref] = self._resolved(entry)
        await self._follow_names()
        if puts or change.deletes or not change.puts:
            await self.send(replace(change, puts=puts))

    async def _follow_names(self) -> None:
        wanted = {name for _, entry in self._written.values() for name in _names(entry)}
        gone = self._looking.keys() - wanted
        await cancel([self._looking.pop(name) for name in gone])
        for name in gone:
            self._found.pop(name, None)
            self.state.forget(_part(name))
        for name in sorted(wanted - self._looking.keys()):
            self._looking[name] = asyncio.create_task(self._look(name), name=f"{self.state.name}/{_part(name)}")

    async def _look(self, name: str) -> None:
        """Looks a name up for ever."""
        while True:
            wait = self.interval
            try:
                async with self._slots:
                    answer = await self.find(name)
            except WorldError as failure:
                self.state.fail(_part(name), str(failure))
                await self._learn(name, self._found.get(name, ()))
            else:
                self.state.succeed(_part(name))
                await self._learn(name, answer.addresses)
                wait = min(max(answer.ttl, self.interval), MAX_SECONDS)
            await asyncio.sleep(wait)

    async def _learn(self, name: str, addresses: tuple[str, ...]) -> None:
        if self._found.get(name) == addresses:
            return
        self._found[name] = addresses
        for kind, ref in list(self._written):
            if (kind, ref) not in self._written:  # taken away while an earlier one was sent
                continue
            source, entry = self._written[kind, ref]
            if name in _names(entry) and self._is_known(entry):
                await self.send(Change(source, kind, {ref: self._resolved(entry)}))

    def _is_known(self, entry: Entry) -> bool:
        return self._found.keys() >= _names(entry)

    def _resolved(self, entry: Entry) -> Entry:
        if not _names(entry):
            return entry
        found: ServiceInstances = entry.value
        instances = {address for instance in found.instances for address in self._addresses(instance)}
        return replace(entry, value=replace(found, instances=tuple(sorted(instances))))

    def _addresses(self, instance: Instance) -> Iterator[Instance]:
        """The instance once for each of its addresses; as it is if it has none."""
        name = instance.address
        for address in self._found.get(name, ()):
            yield replace(instance, address=address, host_name=name)
        if not self._found.get(name):
            yield instance


def _names(entry: Entry) -> frozenset[str]:
    instances = entry.value.instances if entry.value is not None else ()
    return frozenset(instance.address for instance in instances if not is_ip_address(instance.address))


def _part(name: str) -> str:
    return f"DNS of {name}"
