"""The state-of-the-world protocol as a state machine: every response holds all that the client asks for.

From Envoy's documentation, "xDS REST and gRPC protocol", sections "ACK/NACK and resource type instance version" and
"How the client specifies what resources to return".
"""

from collections.abc import Collection
from typing import Any

from gloo_nomad.resources import CLUSTER, ENDPOINTS
from gloo_nomad.xds.ledger import Answer, Sent
from gloo_nomad.xds.node_view import NodeView
from gloo_nomad.xds.session import Lane, Session, check_names
from gloo_nomad.xds.subscription import WILDCARD
from gloo_nomad.xds.view import version_text
from gloo_nomad.xds.wire import Outgoing


class SotwLane(Lane):
    """One type on a state-of-the-world stream.

    The version of a response is the hash of the versions in it, so a client that comes back with the version of
    what it would be sent is sent nothing.
    """

    def __init__(self, type_url: str, view: NodeView) -> None:
        super().__init__(type_url, view)
        self._names: frozenset[str] = frozenset()
        self._wildcard = False
        self._named = False
        self._started = False
        self._dirty = True
        self._forced = False

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
        elif (wanted, wildcard) != (self._names, self._wildcard):
            self._replace_names(wanted, wildcard=wildcard)

    def _replace_names(self, wanted: frozenset[str], *, wildcard: bool) -> None:
        """Names that come in are sent again; names that only go out need no response once all was accepted."""
        was_current = not (self.owes_updates() or self.ledger.rejected or self.ledger.unanswered)
        more = bool(wanted - self._names) or (wildcard and not self._wildcard)
        self._names, self._wildcard = wanted, wildcard
        if more:
            self._forced = True
        elif was_current:
            self.ledger.sent_version = self._version()
        self._dirty = True

    def changed(self, names: Collection[str]) -> None:
        """Looks again at the next chance if the client wants any of the names."""
        if not self.ledger.rejected.keys().isdisjoint(names):
            self._forced = True
        if not self._dirty:
            self._dirty = self._wildcard or not self._names.isdisjoint(names)

    def owes_updates(self) -> bool:
        """Whether what the client asks for is not what it was sent last."""
        if self._named and not (self._wildcard or self._names):
            return False
        if self._dirty and not self._forced and self.view.published:
            self._dirty = self._version() != self.ledger.sent_version
        return self._dirty or self._forced

    def owes_removals(self) -> bool:
        """Never: what is gone is missing from the next response."""
        return False

    def _version(self) -> str:
        """The version of what the client asks for.

        The endpoints of a cluster count as changed when the cluster does: Envoy warms it only when they arrive again.
        """
        total = self._total(self.type_url)
        if self.type_url == ENDPOINTS:
            total += self._total(CLUSTER)
        return version_text(total)

    def _total(self, type_url: str) -> int:
        if self._wildcard:
            return self.view.total(type_url)
        wires = self.view.wires(type_url)
        return sum(wires[name].fingerprint for name in self._names if name in wires)

    def take(self, now: float, *, updates: bool, removals: bool) -> Outgoing:
        """A response with all that the client asks for and that exists, sorted by name."""
        wires = self.view.wires(self.type_url)
        names = sorted(wires if self._wildcard else (name for name in self._names if name in wires))
        self._dirty = self._forced = False
        for gone in self.ledger.rejected.keys() - set(names):
            self.ledger.forget(gone)
        nonce, version = self.ledger.issue_nonce(self.view.serial), self._version()
        chosen = tuple(wires[name] for name in names)
        versions = tuple(wire.version for wire in chosen)
        standins = self.view.standins(self.type_url)
        self.ledger.record(Sent(nonce, now, version, tuple(names), True, versions, standins=standins))
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
            self._dirty = True
        return answer

    def subscribed(self) -> tuple[bool, int]:
        """Whether everything is asked for, and how many names are."""
        return self._wildcard, len(self._names)


class SotwSession(Session[SotwLane]):
    """One state-of-the-world stream."""

    def make_lane(self, type_url: str) -> SotwLane:
        """A lane for a type that is asked for the first time."""
        return SotwLane(type_url, self.view)

    def receive(self, request: Any, now: float) -> Answer | None:
        """Takes a DiscoveryRequest over; one with a stale nonce is ignored."""
        if self.has_something is None:
            self.has_something = bool(request.version_info)
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
