"""The catalogs that discovery reads: names of services in Consul and in Nomad."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from gloo_nomad.api.refs import Ref
from gloo_nomad.app.consul_settings import blocking_wait
from gloo_nomad.app.discovery import Planner, Scope, writes_upstreams
from gloo_nomad.app.service_providers import reads_nomad
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.nomad import NomadClient
from gloo_nomad.discovery.nomad_upstreams import NomadServices, plan_nomad_upstreams
from gloo_nomad.discovery.upstreams import FoundService, Plan, plan_upstreams
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.consul_catalog import ConsulCatalog, Names
from gloo_nomad.sources.nomad_catalog import NomadCatalog
from gloo_nomad.sources.source import SourceState
from gloo_nomad.store.change import Entry


@dataclass(slots=True, eq=False)
class ConsulNames:
    """Consul's services, of the settings' datacenters."""

    client: ConsulClient
    name: str = "catalog"

    def scope(self, settings: RuntimeSettings) -> Scope | None:
        """Datacenters, while service discovery is on."""
        if not settings.discovers_services or not writes_upstreams(settings):
            return None
        return tuple(sorted(set(settings.message.consul.service_discovery.data_centers)))

    def open(self, scope: Scope, settings: RuntimeSettings) -> tuple[SourceState, AsyncGenerator[Planner, None]]:
        """See ``Catalog``."""
        catalog = ConsulCatalog(self.client, scope, wait=blocking_wait(settings))
        return catalog.state, _plan_consul(catalog)


@dataclass(slots=True, eq=False)
class NomadServiceNames:
    """Nomad's services, of the settings' namespaces of Nomad."""

    client: NomadClient
    name: str = "nomad catalog"

    def scope(self, settings: RuntimeSettings) -> Scope | None:
        """Namespaces of Nomad, while its services are read and Upstreams wanted for them."""
        if not reads_nomad(settings) or not settings.own("nomadUpstreams") or not writes_upstreams(settings):
            return None
        return tuple(sorted(set(map(str, settings.own("nomadNamespaces")))))

    def open(self, scope: Scope, settings: RuntimeSettings) -> tuple[SourceState, AsyncGenerator[Planner, None]]:
        """See ``Catalog``."""
        catalog = NomadCatalog(self.client, scope)
        return catalog.state, _plan_nomad(catalog)


async def _plan_consul(catalog: ConsulCatalog) -> AsyncGenerator[Planner, None]:
    def planner(services: Mapping[str, FoundService]) -> Planner:
        def plan(stored: Mapping[Ref, Entry], settings: RuntimeSettings) -> Plan:
            return plan_upstreams(services, stored, settings.message, settings.write_namespace)

        return plan

    async with aclosing(catalog.watch_names()) as answers:
        async for by_datacenter in answers:
            yield planner(merge_datacenters(by_datacenter))


async def _plan_nomad(catalog: NomadCatalog) -> AsyncGenerator[Planner, None]:
    def planner(services: NomadServices) -> Planner:
        def plan(stored: Mapping[Ref, Entry], settings: RuntimeSettings) -> Plan:
            return plan_nomad_upstreams(services, stored, settings.message, settings.write_namespace)

        return plan

    async with aclosing(catalog.watch_names()) as answers:
        async for services in answers:
            yield planner(services)


def merge_datacenters(by_datacenter: Mapping[str, Names]) -> dict[str, FoundService]:
    """Each service once, with its tags and datacenters united."""
    tags: dict[str, set[str]] = {}
    where: dict[str, set[str]] = {}
    for datacenter, names in by_datacenter.items():
        for name, found in names.items():
            tags.setdefault(name, set()).update(found)
            where.setdefault(name, set()).add(datacenter)
    return {name: FoundService(name, frozenset(tags[name]), frozenset(where[name])) for name in sorted(tags)}
