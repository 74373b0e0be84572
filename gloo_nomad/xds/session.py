"""One stream's types and the order in which they are sent: what delta and state-of-the-world streams share.

Plain synchronous code. ``now`` is the time of any monotonic clock in seconds, the same one in every call.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import Any, Final, Generic, TypeVar

from gloo_nomad.xds.clients import TypeState, rejections_of
from gloo_nomad.xds.ledger import Answer, Ledger
from gloo_nomad.xds.node_view import NodeView
from gloo_nomad.xds.order import REMOVALS_AFTER, UPDATES_AFTER, rank
from gloo_nomad.xds.view import RoleView
from gloo_nomad.xds.wire import Outgoing

PATIENCE: Final = 5.0
"""Seconds after which an answer is no longer waited for: neither the next response nor other types are held back."""

REUNION: Final = 1.0
"""Seconds that a client which comes back has to say what it has of every type; nothing that is in use goes before."""

PART_BYTES: Final = 3 * 1024 * 1024
"""A delta response with several resources is split when it would be larger."""

MOST_TYPES: Final = 24
MOST_NAMES: Final = 200_000
LONGEST_NAME: Final = 4_096


class ProtocolViolationError(Exception):
    """The client asks for what no Envoy asks for; the stream ends with this text."""


class Hold:
    """Lets something wait for something else, but never longer than the patience."""

    def __init__(self) -> None:
        self._since: float | None = None

    def holds(self, now: float, patience: float, *, blocked: bool) -> bool:
        """Whether to wait on, given that what is waited for is not there yet."""
        if not blocked:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now < self._since + patience

    def release(self) -> None:
        """Nothing waits any more."""
        self._since = None

    def end(self, patience: float) -> float | None:
        """When the patience ends, if anything waits."""
        return None if self._since is None else self._since + patience


class Lane(ABC):
    """One type on one stream."""

    def __init__(self, type_url: str, view: NodeView) -> None:
        self.type_url = type_url
        self.view = view
        self.ledger = Ledger(type_url)
        self.ledger.rejected.update(view.rejected(type_url))
        self.update_hold = Hold()
        self.removal_hold = Hold()
        self.continues = False
        """Whether the last response was cut, so that the next part follows without waiting for an answer."""

    @abstractmethod
    def owes_updates(self) -> bool:
        """Whether there is something new or changed to send."""

    @abstractmethod
    def owes_removals(self) -> bool:
        """Whether there is something to take away."""

    def owes_answers(self) -> bool:
        """Whether the client asked for what does not exist and was not told yet."""
        return False

    @abstractmethod
    def take(self, now: float, *, updates: bool, removals: bool) -> Outgoing:
        """Builds the next response of what may be sent and counts it as sent."""

    @abstractmethod
    def changed(self, names: Collection[str]) -> None:
        """Resources of this type differ from before."""

    @abstractmethod
    def subscribed(self) -> tuple[bool, int]:
        """Whether everything is asked for, and how many names are."""

    def forget_holds(self) -> None:
        """What is no longer owed has waited for nothing; what is owed next waits for a time of its own."""
        if not self.owes_updates():
            self.update_hold.release()
        if not self.owes_removals():
            self.removal_hold.release()

    def state(self) -> TypeState:
        """The lane as a record."""
        ledger, (wildcard, names) = self.ledger, self.subscribed()
        return TypeState(
            self.type_url,
            wildcard,
            names,
            ledger.sent_version,
            ledger.acked_version,
            ledger.unanswered,
            rejections_of(ledger.rejected),
        )


LaneT = TypeVar("LaneT", bound=Lane)


class Session(ABC, Generic[LaneT]):
    """One stream of either protocol: requests and changes go in, responses come out in the right order."""

    def __init__(self, view: RoleView, *, node_id: str = "", patience: float = PATIENCE) -> None:
        self.view = NodeView(view, node_id)
        self.lanes: dict[str, LaneT] = {}
        self.has_something: bool | None = None
        """Whether the client had resources when the stream began; None before its first request."""
        self._patience = patience
        self._complete_at = 0.0
        self._ordered: tuple[LaneT, ...] = ()

    @abstractmethod
    def receive(self, request: Any, now: float) -> Answer | None:
        """Takes a request over; returns what it says about an earlier response.

        Raises ProtocolViolationError for what no client may ask.
        """

    def meet(self, now: float, *, has_something: bool) -> None:
        """Notes with what the client came.

        Its requests come one by one, clusters first: those for what uses them may still be on their way.
        """
        if self.has_something is None:
            self.has_something = has_something
            self._complete_at = now + REUNION if has_something else now

    @abstractmethod
    def make_lane(self, type_url: str) -> LaneT:
        """A lane for a type that is asked for the first time."""

    def lane(self, type_url: str) -> LaneT:
        """The lane of a type, made if there is none yet; it is new if its ledger never was used."""
        lane = self.lanes.get(type_url)
        if lane is None:
            self._check_type(type_url)
            lane = self.lanes[type_url] = self.make_lane(type_url)
            self._ordered = tuple(sorted(self.lanes.values(), key=lambda each: rank(each.type_url)))
        return lane

    def _check_type(self, type_url: str) -> None:
        if not type_url or len(type_url) > LONGEST_NAME:
            raise ProtocolViolationError("type_url must name the resource type that is asked for")
        if len(self.lanes) >= MOST_TYPES:
            raise ProtocolViolationError(f"a stream may ask for at most {MOST_TYPES} resource types")

    def resources_changed(self, type_url: str, names: Collection[str]) -> None:
        """Resources of a type were added, changed or removed."""
        lane = self.lanes.get(type_url)
        if lane is not None:
            lane.changed(names)

    @property
    def _is_open(self) -> bool:
        """Whether this client is served what there is."""
        return self.view.published and not (self.view.tentative and self.has_something)

    def next_response(self, now: float) -> Outgoing | None:
        """The next response that may be sent, counted as sent; None if there is nothing, or nothing may go yet."""
        if not self._is_open:
            return None
        for lane in self._ordered:
            lane.forget_holds()
        for lane in self._ordered:
            outgoing = self._try_lane(lane, now)
            if outgoing is not None:
                return outgoing
        return None

    def _try_lane(self, lane: LaneT, now: float) -> Outgoing | None:
        lane.continues = lane.continues and lane.owes_updates()
        if lane.ledger.waits(now, self._patience) and not lane.continues:
            return None
        updates = lane.owes_updates() and not self._holds_updates(lane, now)
        held = lane.owes_updates() and not updates
        removals = lane.owes_removals() and not held and not self._holds_removals(lane, now)
        if not (updates or removals or lane.owes_answers()):
            return None
        if updates:
            lane.update_hold.release()
        if removals:
            lane.removal_hold.release()
        return lane.take(now, updates=updates, removals=removals)

    def _holds_updates(self, lane: LaneT, now: float) -> bool:
        blocked = any(
            other.owes_updates() or other.ledger.waits_for_updates(now, self._patience)
            for other in self._lanes_of(UPDATES_AFTER.get(lane.type_url, ()))
        )
        return lane.update_hold.holds(now, self._patience, blocked=blocked)

    def _holds_removals(self, lane: LaneT, now: float) -> bool:
        users = REMOVALS_AFTER.get(lane.type_url, ())
        blocked = (bool(users) and now < self._complete_at) or any(
            other.owes_updates() or other.owes_removals() or other.ledger.waits(now, self._patience)
            for other in self._lanes_of(users)
        )
        return lane.removal_hold.holds(now, self._patience, blocked=blocked)

    def _lanes_of(self, type_urls: Iterable[str]) -> list[LaneT]:
        return [self.lanes[type_url] for type_url in type_urls if type_url in self.lanes]

    def wake_at(self, now: float) -> float | None:
        """When to ask for the next response even if nothing happens until then; None if that is not needed."""
        if not self._is_open or not any(self._owes(lane) for lane in self._ordered):
            return None
        times = [self._complete_at, *(time for lane in self._ordered for time in self._deadlines(lane))]
        return min((time for time in times if time > now), default=None)

    def _deadlines(self, lane: LaneT) -> list[float]:
        ends = (lane.update_hold.end(self._patience), lane.removal_hold.end(self._patience))
        return [*lane.ledger.overdue_times(self._patience), *(end for end in ends if end is not None)]

    @staticmethod
    def _owes(lane: LaneT) -> bool:
        return lane.owes_updates() or lane.owes_removals() or lane.owes_answers()

    def states(self) -> tuple[TypeState, ...]:
        """The types of the stream as records, in the order in which they are sent."""
        return tuple(lane.state() for lane in self._ordered)


def check_names(names: Collection[str], already: int) -> None:
    """Bounds what one client can make the server remember; raises ProtocolViolationError."""
    if len(names) + already > MOST_NAMES:
        raise ProtocolViolationError(f"a stream may ask for at most {MOST_NAMES} resources of one type")
    if any(len(name) > LONGEST_NAME for name in names):
        raise ProtocolViolationError(f"a resource name may have at most {LONGEST_NAME} characters")
