"""The state-of-the-world protocol as a state machine: every response holds all that the client asks for.

From Envoy's documentation, "xDS REST and gRPC protocol", sections "ACK/NACK and resource type instance version" and
"How the client specifies what resources to return".
"""

from bisect import bisect_left
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import Any, Final

from envoy.config.endpoint.v3 import endpoint_pb2

from gloo_nomad.messages import to_bytes, version_of
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, SCOPED_ROUTES, Resource
from gloo_nomad.xds.ledger import Answer, Sent
from gloo_nomad.xds.node_view import NodeView
from gloo_nomad.xds.scopes import use_scopes
from gloo_nomad.xds.session import Lane, Session, check_names
from gloo_nomad.xds.subscription import WILDCARD
from gloo_nomad.xds.view import version_text
from gloo_nomad.xds.wire import Outgoing, Wire, build_wire

_NAME: Final = attrgetter("name")


class SotwLane(Lane):
    """One type on a state-of-the-world stream.

    The version of a response is the hash of the versions in it, so a client that comes back with the version of
    what it would be sent is sent nothing. What is gone stays in the responses, as it was sent last, until it may be
    taken away; then it is missing from the next one.
    """

    def __init__(self, type_url: str, view: NodeView) -> None:
        super().__init__(type_url, view)
        self._names: frozenset[str] = frozenset()
        self._wildcard = False
        self._named = False
        self._started = False
        self._dirty = True
        self._forced = False
        self._has: tuple[Wire, ...] | None = None
        """What the client was sent last and did not reject, sorted by name; None if that is not known."""
        self._asked: frozenset[str] = frozenset()
        """Names that the client waits for and has nothing of."""

    def is_stale(self, nonce: str) -> bool:
        """Whether a request answers an earlier response than the last one."""
        return bool(nonce and self.ledger.last_nonce) and nonce != self.ledger.last_nonce

    def subscribe(self, names: Collection[str], version: str) -> None:
        """Takes the names of a request over; ``version`` is what the client has, which a first request may say."""
        check_names(names, 0)
        wanted = frozenset(names) - {WILDCARD}
        wildcard = WILDCARD in names or not (names or self._named)
        self._named = self._named or bool(names)
        if not self._started:
            self._started = True
            self._names, self._wildcard, self.ledger.sent_version = wanted, wildcard, version
            self._asked = frozenset() if version else wanted
            self.owes_updates()
        elif (wanted, wildcard) != (self._names, self._wildcard):
            self._replace_names(wanted, wildcard=wildcard)

    def _replace_names(self, wanted: frozenset[str], *, wildcard: bool) -> None:
        """Names that come in are sent again; names that only go out need no response once all was accepted."""
        was_current = not (self.owes_updates() or self.ledger.rejected or self.ledger.unanswered)
        more = bool(wanted - self._names) or (wildcard and not self._wildcard)
        self._asked = (self._asked | (wanted - self._names)) & wanted
        self._names, self._wildcard = wanted, wildcard
        self.view.let_go(self.type_url, [name for name in self.view.kept(self.type_url) if not self._covers(name)])
        if more:
            self._forced = True
        elif was_current:
            self.ledger.sent_version = self._version()
        self._dirty = True

    def _covers(self, name: str) -> bool:
        return self._wildcard or name in self._names

    def changed(self, names: Collection[str]) -> None:
        """Looks again at the next chance if the client wants any of the names."""
        if not self.ledger.rejected.keys().isdisjoint(names):
            self._forced = True
        self.view.keep(self.type_url, filter(self._covers, names), self._had)
        if not self._dirty:
            self._dirty = self._wildcard or not self._names.isdisjoint(names)

    def _had(self, name: str) -> Wire | None:
        has = self._has or ()
        index = bisect_left(has, name, key=_NAME)
        return has[index] if index < len(has) and has[index].name == name else None

    def resend(self) -> None:
        """Sends again what the client may have forgotten."""
        self._forced = self._dirty = True

    def owes_updates(self) -> bool:
        """Whether what the client asks for is not what it was sent last."""
        if self._named and not (self._wildcard or self._names):
            return False
        if self._dirty and not self._forced and self.view.published:
            self._dirty = self._version() != self.ledger.sent_version
            if self._has is None and not self._dirty:
                self._has = self._wanted()
        return self._dirty or self._forced

    def owes_removals(self) -> bool:
        """Whether the client has something that is gone."""
        return bool(self._gone())

    def _gone(self) -> AbstractSet[str]:
        """The names of what is kept and may go as soon as nothing uses it any more."""
        return self.view.kept(self.type_url).keys()

    def _wanted(self) -> tuple[Wire, ...]:
        wires = self.view.wires(self.type_url)
        return tuple(wires[name] for name in sorted(wires if self._wildcard else self._names & wires.keys()))

    def _version(self) -> str:
        """The version of what the client asks for."""
        return version_text(self._total(self.type_url))

    def _total(self, type_url: str) -> int:
        if self._wildcard:
            return self.view.total(type_url)
        wires = self.view.wires(type_url)
        return sum(wires[name].fingerprint for name in self._names if name in wires)

    def take(self, now: float, *, updates: bool, removals: bool) -> Outgoing:
        """A response with all that the client asks for, sorted by name: what exists, and what is kept."""
        if removals:
            self.view.let_go(self.type_url, tuple(self._gone()))
        chosen = self._has = self._wanted()
        self._dirty, self._forced, self._asked = False, False, frozenset()
        names, versions = tuple(wire.name for wire in chosen), tuple(wire.version for wire in chosen)
        for gone in self.ledger.rejected.keys() - set(names):
            self.ledger.forget(gone)
        nonce, version = self.ledger.issue_nonce(self.view.serial), self._version()
        standins = self.view.standins(self.type_url)
        self.ledger.record(Sent(nonce, now, version, names, updates, versions, standins=standins))
        return Outgoing(False, self.type_url, nonce, version, chosen)

    def settle(self, nonce: str, error: str | None, now: float) -> Answer | None:
        """Takes the answer to a response over; what it rejects by name is sent as it was last accepted."""
        sent = self.ledger.sent(nonce)
        answer = self.ledger.settle(nonce, error, now)
        if sent is None or answer is None:
            return answer
        nack = answer.nack
        if nack is None:
            self.view.accept(self.type_url, sent.pairs)
        elif nack.named or len(sent.names) == 1:
            blamed = [pair for pair in sent.pairs if pair[0] in nack.names]
            self.view.reject(self.type_url, blamed, nack)
            self._has = tuple(wire for wire in self._has or () if wire.name not in nack.names)
            self._dirty = True
        return answer

    def subscribed(self) -> tuple[bool, int]:
        """Whether everything is asked for, and how many names are."""
        return self._wildcard, len(self._names)


class EndpointsLane(SotwLane):
    """The endpoints on a state-of-the-world stream, which Envoy needs to warm the clusters that it was sent."""

    def _version(self) -> str:
        """The version counts the clusters: Envoy warms one that changed only when its endpoints arrive again."""
        return version_text(self._total(ENDPOINTS) + self._total(CLUSTER))

    def _gone(self) -> AbstractSet[str]:
        """Endpoints stay for as long as their cluster does."""
        return super()._gone() - self.view.kept(CLUSTER).keys()

    def take(self, now: float, *, updates: bool, removals: bool) -> Outgoing:
        """The response has no instances for a cluster that went, with its endpoints, before Envoy asked for them.

        Envoy accepts no clusters before all of them are warm.
        """
        waiting = self._asked & self.view.kept(CLUSTER).keys()
        self.view.keep(ENDPOINTS, waiting, lambda name: self._had(name) or _build_empty(name))
        return super().take(now, updates=updates, removals=removals)


def _build_empty(name: str) -> Wire:
    body = to_bytes(endpoint_pb2.ClusterLoadAssignment(cluster_name=name))
    return build_wire(ENDPOINTS, Resource(name, version_of(body), body))


class SotwSession(Session[SotwLane]):
    """One state-of-the-world stream."""

    def make_lane(self, type_url: str) -> SotwLane:
        """A lane for a type that is asked for the first time."""
        return EndpointsLane(type_url, self.view) if type_url == ENDPOINTS else SotwLane(type_url, self.view)

    def receive(self, request: Any, now: float) -> Answer | None:
        """Takes a DiscoveryRequest over; one with a stale nonce is ignored."""
        self.meet(now, has_something=bool(request.version_info))
        lane = self.lane(request.type_url)
        if lane.is_stale(request.response_nonce):
            return None
        error = request.error_detail.message if request.HasField("error_detail") else None
        answer = lane.settle(request.response_nonce, error, now) if request.response_nonce else None
        lane.subscribe(request.resource_names, request.version_info)
        return answer

    def resources_changed(self, type_url: str, names: Collection[str]) -> None:
        """Resources of a type were added, changed or removed; endpoints change with their clusters."""
        super().resources_changed(type_url, names)
        if type_url == CLUSTER:
            super().resources_changed(ENDPOINTS, names)

    def next_response(self, now: float) -> Outgoing | None:
        """The next response; scopes are sent again after listeners that use them."""
        outgoing = super().next_response(now)
        scopes = self.lanes.get(SCOPED_ROUTES)
        if outgoing is not None and outgoing.type_url == LISTENER and scopes is not None and use_scopes(outgoing.wires):
            scopes.resend()
        return outgoing
