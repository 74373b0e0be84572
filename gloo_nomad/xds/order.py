"""Make before break: which type waits for which.

From Envoy's documentation, "xDS REST and gRPC protocol", section "Eventual consistency considerations": clusters and
their endpoints first, listeners and routes after them, and what is no longer referred to goes last. Envoy helps: it
withholds its ACK of clusters until they are warm (``ClusterManagerImpl::updateClusterCounts``), so that a route that
waits for that ACK never meets a cluster without endpoints.
"""

from collections.abc import Mapping
from typing import Final

from gloo_nomad.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    PUSH_ORDER,
    ROUTES,
    SCOPED_ROUTES,
    SECRET,
    VIRTUAL_HOST,
)

UPDATES_AFTER: Final[Mapping[str, tuple[str, ...]]] = {
    LISTENER: (CLUSTER,),
    ROUTES: (CLUSTER,),
    VIRTUAL_HOST: (CLUSTER,),
    SCOPED_ROUTES: (CLUSTER,),
}
"""New and changed resources of the key wait until those of the values were acknowledged."""

REMOVALS_AFTER: Final[Mapping[str, tuple[str, ...]]] = {
    SECRET: (CLUSTER, LISTENER),
    CLUSTER: (LISTENER, ROUTES, VIRTUAL_HOST, SCOPED_ROUTES),
    ENDPOINTS: (CLUSTER,),
    ROUTES: (LISTENER, SCOPED_ROUTES),
}
"""Removals of the key wait until nothing of the values is on its way.

Those of virtual hosts do not: one that has a domain of another that is removed must come in the same response.
"""

_RANKS: Final = {type_url: rank for rank, type_url in enumerate(PUSH_ORDER)}


def rank(type_url: str) -> tuple[int, str]:
    """Sorts types into the order in which they are sent; unknown ones come last, by name."""
    return _RANKS.get(type_url, len(_RANKS)), type_url
