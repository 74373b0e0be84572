"""Instances through which Consul's mesh reaches wanted services: their sidecars, or themselves if they are native."""

from collections.abc import AsyncGenerator
from typing import Final

from gloo_nomad.clients.blocking import Query
from gloo_nomad.clients.consul import Blocking, ConsulClient
from gloo_nomad.clients.consul_answers import ChecksAnswer, NamesAnswer
from gloo_nomad.sources.consul_services import PASSING, Choice, ConsulServicesSource, scope_of
from gloo_nomad.sources.service_sweep import watch_any
from gloo_nomad.store.mesh import MESH_SERVICE

MAX_QUERIES: Final = 30
"""Blocking queries at a time, beside those of services that are not in the mesh."""


class ConsulMeshServicesSource(ConsulServicesSource):
    """Watches them. A sidecar that Consul registers with its service has a check that follows the service's checks."""

    def __init__(
        self,
        client: ConsulClient,
        *,
        wait: float = 60.0,
        choice: Choice = PASSING,
        max_queries: int = MAX_QUERIES,
        name: str = "consul-mesh-services",
    ) -> None:
        """As of ``ConsulServicesSource``."""
        super().__init__(client, wait=wait, choice=choice, max_queries=max_queries, name=name)
        self._kind = MESH_SERVICE
        self._health = client.health_connect

    def _watch_changed(self, place: str) -> AsyncGenerator[frozenset[str] | None, None]:
        """All of a place after each change: sidecars are registered under names of their own."""
        scope, label = scope_of(place), place or "own"

        async def checks(index: int, wait: float) -> ChecksAnswer:
            return await self._client.failing_checks(scope, Blocking(index, wait))

        async def names(index: int, wait: float) -> NamesAnswer:
            return await self._client.catalog_services(scope, Blocking(index, wait))

        queries: dict[str, Query[ChecksAnswer] | Query[NamesAnswer]]
        queries = {f"checks@{label}": checks, f"names@{label}": names}
        return watch_any(queries, self.state, self._wait)
