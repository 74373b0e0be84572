"""The delta protocol as a state machine: what depends on what, beyond the order of types.

From Envoy's documentation, "xDS REST and gRPC protocol", sections "Incremental xDS" and "Resource warming".
"""

from collections.abc import Collection
from typing import Any

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SCOPED_ROUTES, VIRTUAL_HOST
from gloo_nomad.xds.hosts import TOGETHER_BYTES, VirtualHostLane
from gloo_nomad.xds.lane import DeltaLane
from gloo_nomad.xds.ledger import Answer
from gloo_nomad.xds.scopes import SCOPES_SECONDS, ListenerLane, use_scopes
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
        if type_url == LISTENER:
            return ListenerLane(self.view, self._part_bytes, self._has_scopes)
        part_bytes = max(self._part_bytes, TOGETHER_BYTES) if type_url == SCOPED_ROUTES else self._part_bytes
        return DeltaLane(type_url, self.view, part_bytes)

    def _has_scopes(self) -> bool:
        """Whether the client has every scope, and the RouteConfiguration of the same name that it leads to."""
        scopes, routes = self.lanes.get(SCOPED_ROUTES), self.lanes.get(ROUTES)
        if scopes is None or routes is None:
            return False
        settled = not any(lane.owes_updates() or lane.ledger.unanswered for lane in (scopes, routes))
        return settled and self.view.wires(SCOPED_ROUTES).keys() <= routes.subscription.names

    def _holds_routes(self, name: str) -> bool:
        """Whether the client can use virtual hosts of this RouteConfiguration; on a stream without any, it says so."""
        return ROUTES not in self.lanes or (self.lanes[ROUTES].holds(name) and name in self.view.wires(ROUTES))

    def _host_lane(self) -> VirtualHostLane | None:
        lane = self.lanes.get(VIRTUAL_HOST)
        return lane if isinstance(lane, VirtualHostLane) else None

    def receive(self, request: Any, now: float) -> Answer | None:
        """Takes a DeltaDiscoveryRequest over; the names of one with a stale nonce count, its answer does not."""
        self.meet(now, has_something=bool(request.initial_resource_versions))
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
        warming"). Virtual hosts come after their RouteConfiguration, and scopes after listeners that use them.
        """
        listeners = self.lanes.get(LISTENER)
        if isinstance(listeners, ListenerLane):
            listeners.look(now)
        outgoing = super().next_response(now)
        if outgoing is not None and outgoing.type_url == LISTENER and SCOPED_ROUTES in self.lanes:
            self.lanes[SCOPED_ROUTES].resend(self.view.wires(SCOPED_ROUTES) if use_scopes(outgoing.wires) else ())
        if outgoing is not None and outgoing.type_url == CLUSTER and ENDPOINTS in self.lanes:
            self.lanes[ENDPOINTS].resend(self.lanes[CLUSTER].replaced)
        hosts = self._host_lane()
        if outgoing is not None and outgoing.type_url == ROUTES and hosts is not None:
            hosts.follow({wire.name for wire in outgoing.wires})
        return outgoing

    def wake_at(self, now: float) -> float | None:
        """When to ask for the next response even if nothing happens until then."""
        listeners = self.lanes.get(LISTENER)
        end = listeners.scope_hold.end(SCOPES_SECONDS) if isinstance(listeners, ListenerLane) else None
        times = [time for time in (super().wake_at(now), end) if time is not None and time > now]
        return min(times, default=None)
