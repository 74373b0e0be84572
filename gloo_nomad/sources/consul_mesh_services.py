"""Instances through which Consul's mesh reaches wanted services: their sidecars, or themselves if they are native."""

from collections.abc import AsyncGenerator

from gloo_nomad.clients.blocking import Query
from gloo_nomad.clients.consul import Blocking
from gloo_nomad.clients.consul_answers import ChecksAnswer, NamesAnswer
from gloo_nomad.sources.consul_services import ConsulServicesSource, scope_of
from gloo_nomad.sources.service_sweep import watch_any
from gloo_nomad.store.mesh import MESH_SERVICE


class ConsulMeshServicesSource(ConsulServicesSource):
    """Watches them. A sidecar that Consul registers with its service has a check that follows the service's checks."""

    NAME = "consul-mesh-services"
    KIND = MESH_SERVICE
    CONNECT = True
    MAX_QUERIES = 30
    """Beside those of services that are not in the mesh."""

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
