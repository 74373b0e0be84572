"""The names of all services that are registered with Nomad, with their tags: what discovery makes upstreams of."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Final

from gloo_nomad.clients.blocking import watch_index
from gloo_nomad.clients.nomad import NomadClient, NomadNames
from gloo_nomad.sources.source import SourceState

Names = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Tags of services by Nomad's namespace and name."""
_PART: Final = "names"
_DATA: Final = "lost data"
_LOST: Final = "Nomad began anew and has no service any more; what was read before stays until something is there again"


class NomadCatalog:
    """Watches the names of the services of all namespaces that the token may read, or of those that are given."""

    def __init__(
        self, client: NomadClient, namespaces: Iterable[str] = (), *, wait: float = 60.0, name: str = "nomad-catalog"
    ) -> None:
        """*wait* is the longest wait of a query in seconds."""
        self.name = name
        self.state = SourceState(name, {_PART})
        self._client = client
        self._namespaces = frozenset(namespaces)
        self._wait = wait

    async def watch_names(self) -> AsyncGenerator[Names, None]:
        """Yields all services, all again whenever a name or a tag of one is different.

        A Nomad that lost its data has none and an index that went back: that is not said.
        """

        async def query(index: int, wait: float) -> NomadNames:
            return await self._client.list_services("*", index, wait)

        sent: Names | None = None
        seen_index = 0
        async with aclosing(watch_index(query, lambda: self._wait, self.state.reporter(_PART))) as answers:
            async for seen in answers:
                answer = seen.answer
                if sent and not answer.names and answer.index < seen_index:
                    self.state.fail(_DATA, _LOST)
                    continue
                self.state.succeed(_DATA)
                seen_index = answer.index
                found = self._select(answer.names)
                if found != sent:
                    sent = found
                    yield found
                    self.state.sent(_PART)

    def _select(self, names: Names) -> Names:
        wanted = self._namespaces
        return {place: found for place, found in names.items() if not wanted or place in wanted}
