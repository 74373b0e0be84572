"""Watches the services of one provider while the settings ask for them."""

import asyncio
from dataclasses import dataclass
from functools import partial

from gloo_nomad.app.clients import dns_server
from gloo_nomad.app.consul_settings import dns_interval
from gloo_nomad.app.data_loss import ServiceGuard
from gloo_nomad.app.engine import Engine, Services
from gloo_nomad.app.service_providers import Provider
from gloo_nomad.clients.dns import find_addresses
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.consul_services import MAX_QUERIES
from gloo_nomad.sources.host_names import HostNames
from gloo_nomad.sources.service_sweep import ServiceKey
from gloo_nomad.sources.source import SourceState, cancel
from gloo_nomad.sources.wanted_services import WantedSource
from gloo_nomad.store.change import Change


@dataclass(slots=True)
class ServiceWatch:
    """Which services of a provider are wanted, and the source that reads them while it is asked."""

    engine: Engine
    provider: Provider
    _source: WantedSource | None = None
    _wanted: frozenset[ServiceKey] = frozenset()

    @property
    def states(self) -> list[SourceState]:
        """How the source is, while there is one."""
        return [self._source.state] if self._source is not None else []

    @property
    def queries(self) -> int:
        """How many connections the source has about, at most."""
        return min(len(self._wanted), MAX_QUERIES) if self._source is not None else 0

    def want(self, services: Services) -> Services:
        """Endpoints of these are needed from now on; the answer is which of them are watched."""
        mine = frozenset((kind, ref) for kind, ref in services if kind == self.provider.kind)
        self._wanted = frozenset((ref.namespace, ref.name) for _, ref in mine)
        if self._source is not None:
            self._source.want(self._wanted)
        return mine if self.provider.is_asked(self.engine.settings) else frozenset()

    async def run(self, settings: RuntimeSettings) -> None:
        """Watches while the provider is asked; when it is not there are no services."""
        provider = self.provider
        if not provider.is_asked(settings):
            await self.engine.services.put(Change(provider.name, provider.kind, complete=True))
            return
        while True:  # anew after the provider has lost its data
            source = self._source = provider.open(settings)
            source.want(self._wanted)
            try:
                await self._pump(source, settings)
            finally:
                self._source = None

    async def _pump(self, source: WantedSource, settings: RuntimeSettings) -> None:
        """Hands over what the source says; returns when everything is to be read anew."""
        engine = self.engine
        find = partial(find_addresses, dns_server(settings))
        async with HostNames(find, engine.services.put, source.state, dns_interval(settings)) as names:
            guard = ServiceGuard(self.provider, engine.store.entries, source.state, names.put)
            pump = asyncio.create_task(guard.pump(source), name=f"source {source.name}")
            back = asyncio.create_task(guard.back.wait(), name="data is back")
            try:
                await asyncio.wait({pump, back}, return_when=asyncio.FIRST_COMPLETED)
                if pump.done():
                    pump.result()  # only a defect ends it
            finally:
                back.cancel()
                await cancel([pump, *guard.looking.values()])
