"""Consul's mesh: what its upstreams need is watched as long as there are some, and not otherwise."""

from contextlib import aclosing
from dataclasses import dataclass

from gloo_nomad.app.consul_settings import blocking_wait, choice
from gloo_nomad.app.service_providers import ConsulProvider
from gloo_nomad.app.service_watch import ServiceWatch
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.consul_mesh import ConsulMeshSource
from gloo_nomad.sources.consul_mesh_services import ConsulMeshServicesSource
from gloo_nomad.sources.wanted_services import WantedSource
from gloo_nomad.store.mesh import MESH_IDENTITY, MESH_SERVICE


@dataclass(slots=True)
class MeshProvider(ConsulProvider):
    """Consul's catalog, for the instances through which the mesh reaches services."""

    kind: str = MESH_SERVICE
    name: str = "consul-mesh-services"

    def open(self, settings: RuntimeSettings) -> WantedSource:
        """Sidecars and native services, passing or as the settings choose."""
        wait = blocking_wait(settings)
        return ConsulMeshServicesSource(self.client, wait=wait, choice=choice(settings), name=self.name)


@dataclass(slots=True)
class IdentityProvider(ConsulProvider):
    """Consul's certificate authority, for who we are."""

    kind: str = MESH_IDENTITY
    name: str = "consul-mesh-identity"

    def open(self, settings: RuntimeSettings) -> WantedSource:
        """Certificates."""
        return ConsulMeshSource(self.client, wait=blocking_wait(settings), name=self.name)


@dataclass(slots=True)
class IdentityWatch(ServiceWatch):
    """Who we have to be. Another Consul is another mesh, so there is no emptiness to keep back."""

    async def _pump(self, source: WantedSource, _: RuntimeSettings) -> None:
        async with aclosing(source.watch_changes()) as changes:  # type: ignore[type-var]  # async generators in practice
            async for change in changes:
                await self.engine.services.put(change)
