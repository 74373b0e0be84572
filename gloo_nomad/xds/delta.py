"""The delta protocol as a state machine: what depends on what, beyond the order of types.

From Envoy's documentation, "xDS REST and gRPC protocol", sections "Incremental xDS" and "Resource warming".
"""

from collections.abc import Collection
from typing import Any

from gloo_nomad.resources import CLUSTER, ENDPOINTS, ROUTES, VIRTUAL_HOST
from gloo_nomad.xds.hosts import VirtualHostLane
from gloo_nomad.xds.lane import DeltaLane
from gloo_nomad.xds.ledger import Answer
from gloo_nomad.xds.session import PART_BYTES, PATIENCE, Session
from gloo_nomad.xds.view import RoleView
from gloo_nomad.xds.wire import Outgoing


class DeltaSession(Session[DeltaLane]):
    """One delta stream."""

    def __init__(
        self, view: RoleView, *, node_id: str = "", patience: float = PATIENCE, part_bytes: int = PART_BYTES
    ) -> None:
        super().__init__(view, node_id=node_id, patience=patience)
        self._part_bytes = part_bytes

    def make_lane(self, type_url: str) -> DeltaLane:
        """A lane for a type that is asked for the first time."""
        if type_url == VIRTUAL_HOST:
            return VirtualHostLane(self.view, self._part_bytes, self._holds_routes)
        return DeltaLane(type_url, self.view, self._part_bytes)

    def _holds_routes(self, name: str) -> bool:
        """Whether the client can use virtual hosts of this RouteConfiguration; on a stream without any, it says so."""
        return ROUTES not in self.lanes or (self.lanes[ROUTES].holds(name) and name in self.view.wires(ROUTES))

    def _host_lane(self) -> VirtualHostLane | None:
        lane = self.lanes.get(VIRTUAL_HOST)
        return lane if isinstance(lane, VirtualHostLane) else None

    def receive(self, request: Any, now: float) -> Answer | None:
        """Takes a DeltaDiscoveryRequest over; the names of one with a stale nonce count, its answer does not."""
        if self.has_something is None:
            self.has_something = bool(request.initial_resource_versions)
        lane = self.lane(request.type_url)
        error = request.error_detail.message if request.HasField("error_detail") else None
        answer = lane.settle(request.response_nonce, error, now) if request.response_nonce else None
        lane.subscribe(
            request.resource_names_subscribe, request.resource_names_unsubscribe, request.initial_resource_versions
        )
        hosts = self._host_lane()
        if hosts is not None and request.type_url == ROUTES and request.resource_names_unsubscribe:
            hosts.forget_routes({name for name in request.resource_names_unsubscribe if not lane.holds(name)})
        return answer

    def resources_changed(self, type_url: str, names: Collection[str]) -> None:
        """Resources of a type were added, changed or removed; virtual hosts depend on their RouteConfiguration."""
        super().resources_changed(type_url, names)
        hosts = self._host_lane()
        if type_url == ROUTES and hosts is not None:
            hosts.routes_changed(names)

    def next_response(self, now: float) -> Outgoing | None:
        """The next response; what belongs to the resources in it is sent again after it.

        Envoy warms a changed cluster only when endpoints arrive after it, even unchanged ones (section "Resource
        warming"). Virtual hosts come after their RouteConfiguration.
        """
        outgoing = super().next_response(now)
        if outgoing is not None and outgoing.type_url == CLUSTER and ENDPOINTS in self.lanes:
            self.lanes[ENDPOINTS].resend(self.lanes[CLUSTER].replaced)
        hosts = self._host_lane()
        if outgoing is not None and outgoing.type_url == ROUTES and hosts is not None:
            hosts.follow({wire.name for wire in outgoing.wires})
        return outgoing
