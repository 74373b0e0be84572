"""How many connections to Consul the objects may have, beside everything else that this program asks Consul."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from gloo_nomad.app.service_watch import ServiceWatch
from gloo_nomad.clients.http import MAX_CONNECTIONS
from gloo_nomad.sources.kv_connections import Connections
from gloo_nomad.sources.kv_shards import Cutting

KV_CONNECTIONS: Final = 100
OTHER_CONNECTIONS: Final = 10
"""For writing, the lock, the catalog, and reading services in turn."""
_QUERIES_OF_A_KIND: Final = 2
"""The one for all of it, and one that was ended and that Consul may count still."""


def cutting_for(kinds: int, watches: Sequence[ServiceWatch]) -> Cutting:
    """How so many kinds are cut: not at all in roles that watch no services.

    Those need no haste, and Consul counts all programs of one machine together.
    """
    return Cutting(Connections(partial(_shards, kinds, watches))) if watches else Cutting()


def _shards(kinds: int, watches: Sequence[ServiceWatch]) -> int:
    """What the kinds may have for shards now; services come first, because each of theirs is of use alone.

    Nothing until it is known which are wanted: shards that take what services need later keep them from being read.
    """
    if not all(watch.engine.published.is_set() for watch in watches):
        return 0
    services = sum(watch.queries for watch in watches if watch.provider.system == "Consul")
    most = min(KV_CONNECTIONS, MAX_CONNECTIONS - OTHER_CONNECTIONS - services)
    return max(0, most - kinds * _QUERIES_OF_A_KIND)
