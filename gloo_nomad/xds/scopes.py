"""Listeners that find their routes by scope: scopes are sent again after them, and all but the first wait for those.

All listeners of an Envoy share one subscription to scopes. The listener that begins it opens when the scopes and their
RouteConfigurations have come; another one opens at once. When the last one has ended Envoy forgets the scopes, and when
the next one comes it neither asks for them again nor opens. Hence: after a listener that uses scopes they are sent,
changed or not; and while it waits for them, the others keep what they have. An Envoy without any listener has just
started, and opens none before all have what they need. (Envoy 1.40, ``ScopedRdsConfigSubscription``)
"""

from collections.abc import Callable, Iterable
from typing import Final

from gloo_nomad.envoy.names import SCOPE_HEADER
from gloo_nomad.resources import LISTENER
from gloo_nomad.xds.lane import DeltaLane
from gloo_nomad.xds.node_view import NodeView
from gloo_nomad.xds.session import Hold
from gloo_nomad.xds.wire import Wire

SCOPES_SECONDS: Final = 30.0
"""How long listeners wait at most."""
_MARK: Final = SCOPE_HEADER.encode()


def use_scopes(wires: Iterable[Wire]) -> bool:
    """Whether one of these listeners finds its routes by scope: then it names the header that says which."""
    return any(_MARK in wire.body for wire in wires)


class ListenerLane(DeltaLane):
    """The lane of listeners; *has_scopes* says whether the client has all scopes and their RouteConfigurations."""

    def __init__(self, view: NodeView, part_bytes: int, has_scopes: Callable[[], bool]) -> None:
        super().__init__(LISTENER, view, part_bytes)
        self._has_scopes = has_scopes
        self._waiting: set[str] = set()
        self.scope_hold = Hold()

    def look(self, now: float) -> None:
        """Decides which listeners wait; to be called before anything is asked."""
        found = self._find_waiting() if self._updates else set()
        self._waiting = found if self.scope_hold.holds(now, SCOPES_SECONDS, blocked=bool(found)) else set()

    def _find_waiting(self) -> set[str]:
        wires = self.view.wires(LISTENER)
        wanting = sorted(name for name in self._updates if use_scopes((wires[name],)))
        held = [name for name in self._known if self.holds(name)]
        if not (wanting and held) or self._has_scopes():
            return set()
        has_one = any(use_scopes((wires[name],)) for name in held if name in wires and not self._differs(wires[name]))
        return set(wanting if has_one else wanting[1:])

    def _differs(self, wire: Wire) -> bool:
        return self._known.get(wire.name) != wire.version

    def owes_updates(self) -> bool:
        """Whether there is something new or changed to send now."""
        return bool(self._updates - self._waiting) or self._greets

    def _choose(self) -> list[Wire]:
        waiting, self._updates = self._updates & self._waiting, self._updates - self._waiting
        chosen = super()._choose()
        self._updates |= waiting
        return chosen
