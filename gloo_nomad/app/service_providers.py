"""Who knows instances of services, and when it is asked: Consul and Nomad."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from gloo_nomad.app.consul_settings import blocking_wait, choice
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.nomad import NomadClient
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.consul_services import ConsulServicesSource, scope_of
from gloo_nomad.sources.nomad_services import NomadServicesSource
from gloo_nomad.sources.wanted_services import WantedSource
from gloo_nomad.store.services import CONSUL_SERVICE, NOMAD_SERVICE


class Provider(Protocol):
    """One of them."""

    kind: str
    """Of the instances in the store."""
    name: str
    """Of the source."""
    system: str
    """For messages."""

    def is_asked(self, settings: RuntimeSettings) -> bool:
        """Whether its services are read at all."""

    def key(self, settings: RuntimeSettings) -> Hashable:
        """What the source is built from: another one is made when this is different."""

    def open(self, settings: RuntimeSettings) -> WantedSource:
        """A source of instances."""

    async def names(self, place: str) -> frozenset[str]:
        """The services that there are in a place (datacenter, namespace), apart from its own; raises ``WorldError``."""


@dataclass(slots=True)
class ConsulProvider:
    """Consul's catalog."""

    client: ConsulClient
    kind: str = CONSUL_SERVICE
    name: str = "consul-services"
    system: str = "Consul"

    def is_asked(self, settings: RuntimeSettings) -> bool:
        """By the contract's setting."""
        return settings.discovers_services

    def key(self, settings: RuntimeSettings) -> Hashable:
        """Also the choice of instances."""
        return self.is_asked(settings), blocking_wait(settings), choice(settings)

    def open(self, settings: RuntimeSettings) -> WantedSource:
        """Passing instances, or those that the settings choose."""
        wait = blocking_wait(settings)
        return ConsulServicesSource(self.client, wait=wait, choice=choice(settings), name=self.name)

    async def names(self, place: str) -> frozenset[str]:
        """Without Consul itself, which is always there."""
        answer = await self.client.catalog_services(scope_of(place))
        return frozenset(answer.names) - {"consul"}


@dataclass(slots=True)
class NomadProvider:
    """The services of Nomad's jobs with ``provider = "nomad"``."""

    client: NomadClient
    kind: str = NOMAD_SERVICE
    name: str = "nomad-services"
    system: str = "Nomad"

    def is_asked(self, settings: RuntimeSettings) -> bool:
        """By a setting of ours."""
        return reads_nomad(settings)

    def key(self, settings: RuntimeSettings) -> Hashable:
        """Nothing else."""
        return self.is_asked(settings)

    def open(self, settings: RuntimeSettings) -> WantedSource:
        """Ready instances."""
        return NomadServicesSource(self.client, name=self.name)

    async def names(self, place: str) -> frozenset[str]:
        """Of one of Nomad's namespaces."""
        answer = await self.client.list_services(place)
        return frozenset(answer.names.get(place, {}))


def reads_nomad(settings: RuntimeSettings) -> bool:
    """Whether Nomad's services are read, where Nomad is known."""
    return bool(settings.own("nomadServices"))
