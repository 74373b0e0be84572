"""Healthy instances of Consul services: of those that somebody wants, and of no other."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gloo_nomad.clients.blocking import Query
from gloo_nomad.clients.consul import READ_STALE, ConsulClient, Reading
from gloo_nomad.clients.consul_answers import HealthAnswer, HealthEntry, NamesAnswer
from gloo_nomad.sources.wanted_services import ServiceKey, WantedServices
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances

MAX_QUERIES: Final = 90
"""Blocking queries at a time: with those of the KV store and of the catalog below what Consul allows one client."""


class ConsulServicesSource(WantedServices[HealthAnswer]):
    """Watches the instances of wanted services all of whose checks pass. Their places are datacenters."""

    def __init__(
        self,
        client: ConsulClient,
        *,
        wait: float = 60.0,
        reading: Reading = READ_STALE,
        max_queries: int = MAX_QUERIES,
        name: str = "consul-services",
    ) -> None:
        """*wait* is the longest wait of a query in seconds; at most *max_queries* are open at a time."""
        super().__init__(name, CONSUL_SERVICE, wait=wait, max_queries=max_queries)
        self._client = client
        self._reading = reading

    async def _ask(self, key: ServiceKey, index: int, wait: float) -> HealthAnswer:
        datacenter, name = key
        return await self._client.health_service(name, datacenter, index, wait, self._reading)

    def _take(self, key: ServiceKey, answer: HealthAnswer) -> None:
        self._learn(key, read_instances(answer.entries), answer.index)

    def _wakers(self, place: str) -> Mapping[str, Query[Any]]:
        """One query for checks and one for registrations."""

        async def checks(index: int, wait: float) -> HealthAnswer:
            return await self._client.checks_index(place, index, wait)

        async def names(index: int, wait: float) -> NamesAnswer:
            return await self._client.catalog_services(place, index, wait)

        return {f"checks@{place}": checks, f"names@{place}": names}


def read_instances(entries: tuple[HealthEntry, ...]) -> ServiceInstances:
    """Instances as Consul registered them, in order; without an address of their own they have their node's."""
    return ServiceInstances(tuple(sorted(_instances(entries))))


def _instances(entries: tuple[HealthEntry, ...]) -> Iterator[Instance]:
    for entry in entries:
        service, node = entry.service, entry.node
        yield Instance(
            address=service.address or node.address,
            port=service.port,
            id=service.id,
            tags=tuple(sorted(service.tags or ())),
            datacenter=node.datacenter,
            weight=service.weights.passing if service.weights else 1,
        )
