"""Instances of Consul services that may get requests: of services that somebody wants, and of no other."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Final

from gloo_nomad.clients.consul import (
    READ_CACHED,
    READ_CONSISTENT,
    READ_LEADER,
    READ_STALE,
    Blocking,
    ConsulClient,
    Reading,
    Scope,
)
from gloo_nomad.clients.consul_answers import HealthAnswer, HealthEntry
from gloo_nomad.sources.service_changes import QUERIES, ServiceChanges
from gloo_nomad.sources.service_sweep import ServiceKey
from gloo_nomad.sources.wanted_services import WantedServices
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances, parse_place

MAX_QUERIES: Final = 90
"""Blocking queries at a time: with those of the KV store and of the catalog below what Consul allows one client."""

_READINGS: Final = {"consistent": READ_CONSISTENT, "cached": READ_CACHED}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which instances may get requests, and which of them first."""

    with_warning: bool = False
    """Also those whose worst check is a warning, with the weight that Consul has for that."""
    degrade_warning: bool = False
    """Those only where too few others are healthy."""
    equal_datacenters: bool = False
    """Instances of other datacenters are as near as those of the own one."""

    @property
    def only_passing(self) -> bool:
        """Whether Consul may leave all others out."""
        return not (self.with_warning or self.degrade_warning)


PASSING: Final = Choice()


class ConsulServicesSource(WantedServices[HealthAnswer]):
    """Watches the instances of wanted services. Their places are the texts of ``store.services.Place``."""

    QUERIES_OF_PLACE = QUERIES
    NAME = "consul-services"
    KIND = CONSUL_SERVICE
    CONNECT = False
    """Whether they are reached through the mesh."""
    MAX_QUERIES = MAX_QUERIES
    """Blocking queries at a time where the constructor is told no other number."""

    def __init__(
        self,
        client: ConsulClient,
        *,
        wait: float = 60.0,
        choice: Choice = PASSING,
        max_queries: int | None = None,
        name: str = "",
    ) -> None:
        """*wait* is the longest wait of a query in seconds; at most *max_queries* are open at a time."""
        most = self.MAX_QUERIES if max_queries is None else max_queries
        super().__init__(name or self.NAME, self.KIND, wait=wait, max_queries=most)
        self._client = client
        self._choice = choice
        self._own_datacenter = ""
        self._asking = asyncio.Lock()

    async def _ask(self, key: ServiceKey, index: int, wait: float) -> HealthAnswer:
        return await self._read(key, Blocking(index, wait), _READINGS.get(parse_place(key[0]).reading, READ_STALE))

    async def _ask_again(self, key: ServiceKey) -> HealthAnswer:
        """Reads what may be different, from the leader: a follower may be behind what woke this up."""
        consistent = parse_place(key[0]).reading == "consistent"
        return await self._read(key, Blocking(0, 0), READ_CONSISTENT if consistent else READ_LEADER)

    async def _read(self, key: ServiceKey, blocking: Blocking, reading: Reading) -> HealthAnswer:
        scope = scope_of(key[0])
        if scope.datacenter and not self._choice.equal_datacenters and not self._own_datacenter:
            async with self._asking:
                self._own_datacenter = self._own_datacenter or await self._client.own_datacenter()
        passing = self._choice.only_passing
        return await self._client.health_service(
            key[1], scope, blocking, reading, passing=passing, connect=self.CONNECT
        )

    def _take(self, key: ServiceKey, answer: HealthAnswer) -> None:
        near = scope_of(key[0]).datacenter in {"", self._own_datacenter} or self._choice.equal_datacenters
        self._learn(key, read_instances(answer.entries, self._choice, is_near=near), answer.index)

    def _watch_changed(self, place: str) -> AsyncGenerator[frozenset[str] | None, None]:
        return ServiceChanges(self._client, scope_of(place), self.state, place or "own", self._wait).watch_changed()


def scope_of(text: str) -> Scope:
    """The part of Consul that a place, as a text, is about."""
    place = parse_place(text)
    return Scope(place.datacenter, place.namespace, place.partition)


def read_instances(
    entries: tuple[HealthEntry, ...], choice: Choice = PASSING, *, is_near: bool = True
) -> ServiceInstances:
    """Instances as Consul registered them, in order; without an address of their own they have their node's."""
    return ServiceInstances(tuple(sorted(_instances(entries, choice))), is_near)


def _instances(entries: tuple[HealthEntry, ...], choice: Choice) -> Iterator[Instance]:
    for entry in entries:
        service, node, warns = entry.service, entry.node, entry.status == "warning"
        if entry.status == "critical" or (warns and choice.only_passing):
            continue
        yield Instance(
            address=service.address or node.address,
            port=service.port,
            id=service.id,
            tags=tuple(sorted(service.tags or ())),
            datacenter=node.datacenter,
            weight=(service.weights.warning if warns else service.weights.passing) if service.weights else 1,
            degraded=warns and choice.degrade_warning,
            ports=tuple(sorted((port.name, port.port) for port in service.ports or ())),
        )
