"""What one Envoy is served: what its role is, except for what it rejected, and what is gone while it may be in use."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from gloo_nomad.xds.ledger import Nack
from gloo_nomad.xds.view import RoleView, version_text
from gloo_nomad.xds.wire import Wire

_NOTHING: Final[frozenset[str]] = frozenset()


class _Overlay(Mapping[str, Wire]):
    """Resources of several mappings, of which the first that has a name counts; copies nothing."""

    def __init__(self, *layers: Mapping[str, Wire]) -> None:
        self._layers = layers

    def __getitem__(self, name: str) -> Wire:
        for layer in self._layers:
            if name in layer:
                return layer[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter({name: None for layer in self._layers for name in layer})

    def __len__(self) -> int:
        return len(set().union(*self._layers))


class NodeView:
    """A role's view with the eyes of a node.

    The same as the role's as long as the node rejects nothing and nothing that is gone is kept for it.
    """

    def __init__(self, view: RoleView, node_id: str = "") -> None:
        self._view = view
        self._node: object = node_id or object()
        self._kept: dict[str, dict[str, Wire]] = {}

    @property
    def published(self) -> bool:
        """Whether the role was published."""
        return self._view.published

    @property
    def tentative(self) -> bool:
        """Whether what is published may be older than what the node has."""
        return self._view.tentative

    @property
    def serial(self) -> int:
        """The number of the role's last publication."""
        return self._view.serial

    def wires(self, type_url: str) -> Mapping[str, Wire]:
        """The resources of a type for this node."""
        served = self._view.wires(type_url)
        standins, kept = self.standins(type_url), self.kept(type_url)
        return _Overlay(standins, served, kept) if standins or kept else served

    def total(self, type_url: str) -> int:
        """The sum of the fingerprints of a type."""
        total, served = self._view.total(type_url), self._view.wires(type_url)
        standins, kept = self.standins(type_url), self.kept(type_url)
        total += sum(wire.fingerprint for wire in kept.values())
        return total + sum(wire.fingerprint - served[name].fingerprint for name, wire in standins.items())

    def kept(self, type_url: str) -> Mapping[str, Wire]:
        """By name: what is gone and still served."""
        return self._kept.get(type_url, {})

    def keep(self, type_url: str, names: Iterable[str], had: Callable[[str], Wire | None]) -> None:
        """Of these names, what is gone is served on as the node had it, and what is there as it is."""
        served, kept = self._view.wires(type_url), self._kept.setdefault(type_url, {})
        for name in names:
            wire = None if name in served else had(name)
            if wire is not None:
                kept[name] = wire
            elif name in served:
                kept.pop(name, None)

    def let_go(self, type_url: str, names: Iterable[str]) -> None:
        """Of these names, what is gone is no longer served."""
        for name in names:
            self._kept[type_url].pop(name, None)

    def version(self, type_url: str) -> str:
        """The version of a type as a whole."""
        return version_text(self.total(type_url))

    def standins(self, type_url: str) -> Mapping[str, Wire]:
        """By name: the last accepted versions that are served in place of what the node rejected."""
        return {} if self._view.standbys.is_empty else dict(self._standins(type_url))

    def _standins(self, type_url: str) -> Iterator[tuple[str, Wire]]:
        for name, versions in self._rejections(type_url):
            kept = self._view.standbys.kept(type_url, name)
            if kept is not None and kept.version not in versions:
                yield name, kept

    def withheld(self, type_url: str) -> frozenset[str]:
        """What the node rejected and nothing can stand in for."""
        if self._view.standbys.is_empty:
            return _NOTHING
        return frozenset(name for name, _ in self._rejections(type_url)) - self.standins(type_url).keys()

    def rejected(self, type_url: str) -> dict[str, Nack]:
        """By name: why the node rejected what is served now."""
        served = self._view.wires(type_url)
        return {name: versions[served[name].version] for name, versions in self._rejections(type_url)}

    def _rejections(self, type_url: str) -> Iterator[tuple[str, Mapping[str, Nack]]]:
        served = self._view.wires(type_url)
        for url, name, versions in self._view.standbys.rejections(self._node):
            if url == type_url and name in served and served[name].version in versions:
                yield name, versions

    def accept(self, type_url: str, versions: Iterable[tuple[str, str]]) -> None:
        """The node took these names in these versions."""
        served, standbys = self._view.wires(type_url), self._view.standbys
        present = [(name, version) for name, version in versions if name in served]
        standbys.accepted(type_url, present, served)
        if not standbys.is_empty:
            for name, version in present:
                if served[name].version == version:
                    standbys.take_back(type_url, name, self._node)

    def reject(self, type_url: str, versions: Iterable[tuple[str, str]], nack: Nack) -> None:
        """The node did not take these names in these versions; what meanwhile changed is forgotten at once."""
        served = self._view.wires(type_url)
        for name, version in versions:
            kept = self._view.standbys.kept(type_url, name)
            if name in served and version in {served[name].version, kept.version if kept else ""}:
                self._view.standbys.reject(type_url, name, self._node, version, nack)
