"""Objects in Consul KV: ``<root>/<group>/<version>/<Kind>/<namespace>/<name>``, pushed by blocking queries."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from gloo_nomad.api.kinds import Kind
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.sources.kv_kind import KindReader
from gloo_nomad.sources.kv_shards import Cutting, Place
from gloo_nomad.sources.kv_watch import watch_kind
from gloo_nomad.sources.source import SourceState, merge
from gloo_nomad.store.change import Change


class ConsulKvSource:
    """Watches kinds of objects, each by one query, or by several when it has many keys and there are connections."""

    def __init__(
        self,
        client: ConsulClient,
        root_key: str,
        kinds: Iterable[Kind],
        namespaces: Iterable[str] = (),
        *,
        wait: float = 60.0,
        cutting: Cutting | None = None,
        name: str = "consul-kv",
    ) -> None:
        """Only exactly these *namespaces* are read, all if there are none; *wait* is the longest wait in seconds.

        *cutting* says how kinds are cut into shards; without it they never are.
        """
        self.name = name
        self._client = client
        self._root = root_key.strip("/")
        self._kinds = {kind.name: kind for kind in kinds}
        self.state = SourceState(name, set(self._kinds))
        self._namespaces = frozenset(namespaces)
        self._wait = wait
        self._cutting = cutting or Cutting()

    async def watch_changes(self) -> AsyncGenerator[Change, None]:
        """Yields for each kind all its objects first, then what is different; a kind without objects is empty."""
        parts = {f"{self.name}/{name}": self._watch_kind(kind) for name, kind in self._kinds.items()}
        async with aclosing(merge(parts)) as changes:
            async for change in changes:
                yield change
                self.state.sent(change.kind)

    async def _watch_kind(self, kind: Kind) -> AsyncGenerator[Change, None]:
        prefix = f"{self._root}/{kind.prefix}"
        reader = KindReader(self.name, kind, prefix, self._namespaces)
        place = Place(kind.name, prefix, self._wait, self.state.reporter(kind.name))
        async with aclosing(watch_kind(self._client, place, self._cutting)) as found:
            async for change in found:
                objects = await reader.read(change)
                del change  # as in watch_index: its pairs hold the whole answer
                if objects is not None:
                    yield objects
