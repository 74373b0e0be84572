"""Virtual hosts on a delta stream: they follow their RouteConfiguration, and come all in one response.

Envoy asks for all of them without names. It drops those whose RouteConfiguration it does not have yet and never asks
for them again; with the first response that has some of a RouteConfiguration it opens the listener; and it refuses a
response after which two virtual hosts have one domain. Hence: none before its RouteConfiguration, all of them after it,
and updates together with removals. (Envoy 1.40, ``VhdsSubscription`` and ``RouteConfigUpdateReceiverImpl``)
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from gloo_nomad.resources import VIRTUAL_HOST
from gloo_nomad.xds.lane import DeltaLane
from gloo_nomad.xds.node_view import NodeView

TOGETHER_BYTES: Final = 48 * 1024 * 1024
"""A response is split only when it would be larger. Until the last part has come, Envoy answers 404 for its hosts."""


class VirtualHostLane(DeltaLane):
    """The lane of virtual hosts; *holds_routes* says whether the client has a RouteConfiguration of that name."""

    def __init__(self, view: NodeView, part_bytes: int, holds_routes: Callable[[str], bool]) -> None:
        super().__init__(VIRTUAL_HOST, view, max(part_bytes, TOGETHER_BYTES))
        self._holds_routes = holds_routes

    def follow(self, routes: Collection[str]) -> None:
        """RouteConfigurations have been sent: Envoy may not have their virtual hosts, whatever it was sent before."""
        wires = self.view.wires(VIRTUAL_HOST)
        theirs = {name for name in {*wires, *self._known} if _routes_of(name) in routes}
        self._forced.update(name for name in theirs if name in wires)
        self._mark(theirs)

    def routes_changed(self, routes: Collection[str]) -> None:
        """RouteConfigurations came, changed or went: what was left undone for want of one is looked at again."""
        self._mark([name for name in {*self.view.wires(VIRTUAL_HOST), *self._known} if _routes_of(name) in routes])

    def forget_routes(self, routes: Collection[str]) -> None:
        """The client gave RouteConfigurations up, and their virtual hosts with them."""
        self._drop([name for name in self._known if _routes_of(name) in routes])

    def _mark(self, names: Iterable[str]) -> None:
        names = set(names)
        followed = {name for name in names if self._holds_routes(_routes_of(name))}
        for pending in (self._updates, self._removals, self._answers):
            pending.difference_update(names - followed)
        super()._mark(followed)


def _routes_of(name: str) -> str:
    """The RouteConfiguration of a virtual host; its name may have slashes itself."""
    return name.rpartition("/")[0]
