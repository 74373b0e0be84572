"""Instances of a service as Consul or Nomad knows them right now: for what is not on the way of requests."""

from dataclasses import dataclass

from gloo_nomad.app.service_providers import reads_nomad
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.nomad import NomadClient
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.consul_services import read_instances, scope_of
from gloo_nomad.sources.nomad_services import read_instance
from gloo_nomad.store.services import CONSUL_SERVICE, NOMAD_SERVICE, ServiceInstances
from gloo_nomad.upstreams.hooks import ServiceKey


@dataclass(frozen=True, slots=True)
class Instances:
    """Who is asked; without Nomad its services have none."""

    consul: ConsulClient
    nomad: NomadClient | None = None

    async def read(self, key: ServiceKey, settings: RuntimeSettings) -> ServiceInstances:
        """The passing instances in Consul, or those that are registered in Nomad; raises ``WorldError``.

        None where the Settings do not let services be read.
        """
        kind, (place, name) = key
        if kind == CONSUL_SERVICE and settings.discovers_services:
            return read_instances((await self.consul.health_service(name, scope_of(place))).entries)
        if kind == NOMAD_SERVICE and self.nomad is not None and reads_nomad(settings):
            found = (await self.nomad.read_service(name, place)).instances
            return ServiceInstances(tuple(map(read_instance, found)))
        return ServiceInstances()
