"""Virtual hosts on a delta stream: they follow their RouteConfiguration, and come all in one response.

Envoy asks for all of them without names. It drops those whose RouteConfiguration it does not have yet and never asks
for them again; with the first response that has some of a RouteConfiguration it opens the listener; and it refuses a
response after which two virtual hosts have one domain. Hence: none before its RouteConfiguration, all of them after it,
and updates together with removals. (Envoy 1.40, ``VhdsSubscription`` and ``RouteConfigUpdateReceiverImpl``)
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gloo_nomad.resources import VIRTUAL_HOST
from gloo_nomad.xds.lane import ON_ITS_WAY, DeltaLane
from gloo_nomad.xds.ledger import Answer
from gloo_nomad.xds.view import RoleView
from gloo_nomad.xds.wire import Wire

TOGETHER_BYTES: Final = 48 * 1024 * 1024
"""A response is split only when it would be larger. Until the last part has come, Envoy answers 404 for its hosts."""


class VirtualHostLane(DeltaLane):
    """The lane of virtual hosts; *holds_routes* says whether the client has a RouteConfiguration of that name."""

    def __init__(self, view: RoleView, part_bytes: int, holds_routes: Callable[[str], bool]) -> None:
        super().__init__(VIRTUAL_HOST, view, max(part_bytes, TOGETHER_BYTES))
        self._holds_routes = holds_routes
        self._apart: deque[frozenset[str]] = deque()
        """What was rejected together is tried again in parts, until it is known which one is at fault."""
        self._removed: tuple[str, ...] = ()
        """What the last response took away."""

    def follow(self, routes: Collection[str]) -> None:
        """RouteConfigurations have been sent: Envoy may not have their virtual hosts, whatever it was sent before."""
        wires = self.view.wires(VIRTUAL_HOST)
        theirs = {name for name in {*wires, *self._known} if _routes_of(name) in routes}
        self._forced.update(name for name in theirs if name in wires)
        self._mark(theirs)

    def forget_routes(self, routes: Collection[str]) -> None:
        """The client gave RouteConfigurations up, and their virtual hosts with them."""
        self._drop([name for name in self._known if _routes_of(name) in routes])

    def _mark(self, names: Iterable[str]) -> None:
        names = set(names)
        followed = {name for name in names if self._holds_routes(_routes_of(name))}
        for pending in (self._updates, self._removals, self._answers):
            pending.difference_update(names - followed)
        super()._mark(followed)

    def settle(self, nonce: str, error: str | None, now: float) -> Answer | None:
        """Takes an answer over; a rejection is reported only when it is known whose it is."""
        sent = self.ledger.sent_names(nonce)
        answer = self.ledger.settle(nonce, error, now)
        if answer is None or answer.nack is None:
            return answer
        self._known.update(dict.fromkeys(self._removed, ON_ITS_WAY))
        blamed, others = answer.nack.names, [name for name in sent if name not in answer.nack.names]
        found = len(blamed) <= 1
        self._try_again([others] if found else [sent[: len(sent) // 2], sent[len(sent) // 2 :]])
        self._mark(self._removed)
        if found:
            return answer
        for name in blamed:
            self.ledger.forget(name)
        return None

    def _try_again(self, parts: Iterable[Iterable[str]]) -> None:
        """Sends resources again, each part in a response of its own, before anything else."""
        for part in reversed([frozenset(part) for part in parts]):
            if part:
                self._apart.appendleft(part)
                self._ask(name for name in part if name in self.view.wires(VIRTUAL_HOST))

    def _choose(self) -> list[Wire]:
        while self._apart:
            part = self._apart.popleft() & self._updates
            if part:
                wires = self.view.wires(VIRTUAL_HOST)
                return [wires[name] for name in sorted(part)]
        return super()._choose()

    def _take_removals(self, *, removals: bool) -> tuple[str, ...]:
        self._removed = super()._take_removals(removals=removals)
        return self._removed


def _routes_of(name: str) -> str:
    """The RouteConfiguration of a virtual host; its name may have slashes itself."""
    return name.rpartition("/")[0]
