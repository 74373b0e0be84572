"""What Envoys of a role accepted and rejected: who rejects a resource is served its last accepted version instead.

An Envoy that runs keeps by itself what it has. One that starts, or lost it, would be without the listener or the routes
that it rejected; it gets what was good before. Memory is bounded, and what falls out of it is only less help.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gloo_nomad.resources import ENDPOINTS
from gloo_nomad.xds.ledger import Nack
from gloo_nomad.xds.wire import Wire

KEPT_BYTES: Final = 32 * 1024 * 1024
"""Of earlier versions, for each role; the one that was replaced longest ago goes first."""
MOST_REJECTED: Final = 1_000
"""Resources of a role of which it is remembered who rejects them."""

NodeKey = object
"""A node id; a client without one is nobody but itself."""


class Standbys:
    """The last accepted versions, and the rejections of the present ones.

    Endpoints have no earlier version that would be of use: instances are there or are not.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], Wire] = OrderedDict()
        self._unproven: dict[str, set[str]] = {}
        """Names by type whose present version no Envoy has accepted yet."""
        self._rejected: OrderedDict[tuple[str, str], dict[NodeKey, dict[str, Nack]]] = OrderedDict()
        """By resource and node: the versions that it rejects, the present one or its standby."""

    def replaced(self, type_url: str, name: str, old: Wire | None, new: Wire | None) -> None:
        """A resource changed, was added or went away; what was rejected of it is past."""
        key = type_url, name
        self._rejected.pop(key, None)
        if type_url == ENDPOINTS:
            return
        unproven = self._unproven.setdefault(type_url, set())
        if old is not None and name not in unproven:
            self._keep(key, old)
        unproven.discard(name)
        kept = self._kept.get(key)
        if new is None or (kept is not None and kept.version == new.version):
            self._drop(key)
        else:
            unproven.add(name)

    def _keep(self, key: tuple[str, str], wire: Wire) -> None:
        self._drop(key)
        self._kept[key] = wire
        self._bytes += wire.size
        while self._bytes > self._most_bytes and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, str]) -> None:
        wire = self._kept.pop(key, None)
        if wire is not None:
            self._bytes -= wire.size

    def accepted(self, type_url: str, versions: Iterable[tuple[str, str]], wires: Mapping[str, Wire]) -> None:
        """An Envoy accepted these names in these versions; *wires* are the present ones."""
        unproven = self._unproven.get(type_url)
        if not unproven:
            return
        for name, version in versions:
            if name in unproven and wires[name].version == version:
                unproven.discard(name)

    def reject(self, type_url: str, name: str, node: NodeKey, version: str, nack: Nack) -> None:
        """A node rejects a version of a resource, the present one or its standby."""
        key = type_url, name
        self._rejected.setdefault(key, {}).setdefault(node, {})[version] = nack
        if key in self._kept:
            self._kept.move_to_end(key)
        while len(self._rejected) > MOST_REJECTED:
            self._rejected.popitem(last=False)

    def take_back(self, type_url: str, name: str, node: NodeKey) -> None:
        """A node accepts the present version after all."""
        nodes = self._rejected.get((type_url, name), {})
        nodes.pop(node, None)
        if not nodes:
            self._rejected.pop((type_url, name), None)

    def rejections(self, node: NodeKey) -> Iterator[tuple[str, str, Mapping[str, Nack]]]:
        """What a node rejects at present: type URL, name, and the reasons by version."""
        for (type_url, name), nodes in self._rejected.items():
            if node in nodes:
                yield type_url, name, nodes[node]

    def kept(self, type_url: str, name: str) -> Wire | None:
        """The version before the present one that was accepted."""
        return self._kept.get((type_url, name))

    @property
    def is_empty(self) -> bool:
        """Whether nobody rejects anything, which is nearly always so."""
        return not self._rejected
