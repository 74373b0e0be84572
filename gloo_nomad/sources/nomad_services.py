"""Ready instances of services that are registered with Nomad: of those that somebody wants, and of no other."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from gloo_nomad.clients.blocking import Query
from gloo_nomad.clients.nomad import NomadClient, NomadInstance, NomadInstances, NomadNames
from gloo_nomad.sources.nomad_checks import Allocation, NomadChecks
from gloo_nomad.sources.service_sweep import ServiceKey
from gloo_nomad.sources.wanted_services import WantedServices
from gloo_nomad.store.services import NOMAD_SERVICE, Instance, ServiceInstances

MAX_QUERIES: Final = 50
"""Blocking queries at a time: with all others below what Nomad allows one client."""


class NomadServicesSource(WantedServices[NomadInstances]):
    """Watches the instances of wanted services that may get requests. Their places are Nomad's namespaces.

    An instance is said as soon as its checks pass, or its tasks run if it has none. One that was said goes when it is
    deregistered or a check of it fails.
    """

    def __init__(
        self,
        client: NomadClient,
        *,
        wait: float = 30.0,
        max_queries: int = MAX_QUERIES,
        name: str = "nomad-services",
    ) -> None:
        """*wait* is the longest wait of a query in seconds; at most *max_queries* are open at a time."""
        super().__init__(name, NOMAD_SERVICE, wait=wait, max_queries=max_queries)
        self._client = client
        self._checks = NomadChecks(client, self.state, self._judge)
        self._registered: dict[ServiceKey, NomadInstances] = {}
        self._users: dict[Allocation, set[ServiceKey]] = {}

    async def _ask(self, key: ServiceKey, index: int, wait: float) -> NomadInstances:
        namespace, name = key
        return await self._client.read_service(name, namespace, index, wait)

    def _take(self, key: ServiceKey, answer: NomadInstances) -> None:
        if key in self._wanted:
            self._registered[key] = answer
            self._follow_allocations()
            self._say(key)

    def _forget(self, key: ServiceKey) -> None:
        super()._forget(key)
        if self._registered.pop(key, None) is not None:
            self._follow_allocations()

    def _wakers(self, place: str) -> Mapping[str, Query[Any]]:
        async def names(index: int, wait: float) -> NomadNames:
            return await self._client.list_services(place, index, wait)

        return {f"names@{place}": names}

    def _start_tasks(self) -> list[asyncio.Task[None]]:
        async def follow_checks() -> None:
            try:
                await self._checks.run()
            finally:
                self._wake.set()

        return [*super()._start_tasks(), asyncio.create_task(follow_checks(), name=f"{self.name}/checks")]

    def _follow_allocations(self) -> None:
        users: dict[Allocation, set[ServiceKey]] = {}
        for key, answer in self._registered.items():
            for instance in answer.instances:
                users.setdefault((instance.namespace, instance.alloc_id), set()).add(key)
        self._users = users
        self._checks.follow(users)

    def _judge(self, allocation: Allocation) -> None:
        for key in sorted(self._users.get(allocation, ())):
            self._say(key)

    def _say(self, key: ServiceKey) -> None:
        """Says the ready instances; of a service that is new only when something is known of each."""
        answer = self._registered[key]
        ready = [self._checks.is_ready((each.namespace, each.alloc_id), each.service_name) for each in answer.instances]
        if key in self._known or None not in ready:
            found = (read_instance(each) for each, is_ready in zip(answer.instances, ready, strict=True) if is_ready)
            self._learn(key, ServiceInstances(tuple(sorted(found))), answer.index)


def read_instance(instance: NomadInstance) -> Instance:
    """An instance as its job registered it; the tags of a canary are its ``canary_tags``."""
    return Instance(
        address=instance.address,
        port=instance.port,
        id=instance.id,
        tags=tuple(sorted(instance.tags or ())),
        datacenter=instance.datacenter,
    )
