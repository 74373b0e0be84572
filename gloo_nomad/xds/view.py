"""What the Envoys of one role are served at present, and who is to be told when it changes."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from gloo_nomad.journal import Journal
from gloo_nomad.resources import NO_RESOURCES, Resources, XdsSnapshot
from gloo_nomad.xds.standbys import Standbys
from gloo_nomad.xds.wire import Encoder, Wire, build_wire

_NO_WIRES: Final[Mapping[str, Wire]] = MappingProxyType({})
_MODULUS: Final = 1 << 128


class Watcher(Protocol):
    """A stream as a view sees it."""

    def resources_changed(self, type_url: str, names: Collection[str]) -> None:
        """These resources were added, changed or removed; called before ``wake``."""

    def wake(self) -> None:
        """A publication is complete: look for something to send."""


class TypeView:
    """The resources of one type, framed for sending, and the version of all of them together."""

    def __init__(self, type_url: str, standbys: Standbys) -> None:
        self.type_url = type_url
        self._standbys = standbys
        self.resources = NO_RESOURCES
        self.wires: dict[str, Wire] = {}
        self.total = 0

    def replace(self, resources: Resources) -> tuple[str, ...]:
        """Takes newer resources over and names those that differ.

        Costs what differs, and a look at each name where the resources do not say themselves what that is.
        """
        if resources is self.resources:
            return ()
        old, self.resources = self.resources, resources
        return tuple(name for name in _changed(old, resources) if self._replace_one(name))

    def _replace_one(self, name: str) -> bool:
        resource, old = self.resources.get(name), self.wires.pop(name, None)
        if resource is not None and old is not None and resource.version == old.version:
            self.wires[name] = old
            return False
        if old is not None:
            self.total = (self.total - old.fingerprint) % _MODULUS
        if resource is not None:
            wire = self.wires[name] = build_wire(self.type_url, resource)
            self.total = (self.total + wire.fingerprint) % _MODULUS
        if old is not None or resource is not None:
            self._standbys.replaced(self.type_url, name, old, self.wires.get(name))
        return True


def _changed(old: Resources, new: Resources) -> list[str]:
    """The names whose resource may be another, those that are gone last."""
    known = new.changed_since(old) if isinstance(old, Journal) and isinstance(new, Journal) else None
    if known is not None:
        return sorted(known, key=lambda name: (name not in new, name))
    changed = [name for name, resource in new.items() if old.get(name) is not resource]
    return [*changed, *(name for name in old if name not in new)]


def version_text(total: int) -> str:
    """The version of a set of resources from the sum of their fingerprints; the same set always has the same."""
    return f"{total % _MODULUS:032x}"


class RoleView:
    """The resources of one role by type, as delta streams are served them, or as state-of-the-world streams are.

    Until the role's first publication a stream waits: nothing is known, which is not the same as nothing being there.
    """

    def __init__(self, role: str, *, delta: bool = True, tentative: bool = False) -> None:
        self.role = role
        self.delta = delta
        self.published = False
        self.tentative = tentative
        """Whether what is served may be older than what an Envoy has: it is for those that have nothing."""
        self.serial = 0
        self.encoder = Encoder()
        self.snapshot = XdsSnapshot()
        self.standbys = Standbys()
        self._types: dict[str, TypeView] = {}
        self._watchers: set[Watcher] = set()

    def wires(self, type_url: str) -> Mapping[str, Wire]:
        """The resources of a type that are served now."""
        view = self._types.get(type_url)
        return _NO_WIRES if view is None else view.wires

    def total(self, type_url: str) -> int:
        """The sum of the fingerprints of a type."""
        view = self._types.get(type_url)
        return 0 if view is None else view.total

    def version(self, type_url: str) -> str:
        """The version of a type as a whole."""
        return version_text(self.total(type_url))

    def publish(self, snapshot: XdsSnapshot) -> None:
        """Replaces everything; streams are woken if anything differs or this is the first publication."""
        if snapshot is self.snapshot and self.published:
            return
        self.snapshot = snapshot
        served = snapshot.for_delta() if self.delta else snapshot
        changes = {type_url: self._replace(type_url, served.of(type_url)) for type_url in self._all_types(served)}
        first, self.published = not self.published, True
        self._announce({type_url: names for type_url, names in changes.items() if names}, first=first)

    def publish_type(self, type_url: str, resources: Resources) -> None:
        """Replaces the resources of one type; does not count as the first publication of a role."""
        if resources is self.snapshot.of(type_url):
            return
        self.snapshot = self.snapshot.with_type(type_url, resources)
        names = self._replace(type_url, resources)
        self._announce({type_url: names} if names else {}, first=False)

    def _all_types(self, snapshot: XdsSnapshot) -> list[str]:
        return [*snapshot.types, *(type_url for type_url in self._types if type_url not in snapshot.types)]

    def _replace(self, type_url: str, resources: Resources) -> tuple[str, ...]:
        view = self._types.get(type_url)
        if view is None:
            view = self._types[type_url] = TypeView(type_url, self.standbys)
        return view.replace(resources)

    def _announce(self, changes: Mapping[str, tuple[str, ...]], *, first: bool) -> None:
        if not (changes or first):
            return
        self.serial += 1
        for watcher in tuple(self._watchers):
            for type_url, names in changes.items():
                watcher.resources_changed(type_url, names)
            watcher.wake()

    def settle(self) -> None:
        """What is served is what there is: also streams of Envoys that had something are served it."""
        self.tentative = False
        self._announce({}, first=True)

    def attach(self, watcher: Watcher) -> None:
        """Tells a stream of changes from now on."""
        self._watchers.add(watcher)

    def detach(self, watcher: Watcher) -> None:
        """No longer tells it."""
        self._watchers.discard(watcher)

    @property
    def is_unused(self) -> bool:
        """Whether no stream waits and nothing is kept that would be lost.

        That is what was published, for delta, and what Envoys rejected that may come back.
        """
        published = self.delta and (self.published or bool(self.snapshot.types))
        return not (self._watchers or published or not self.standbys.is_empty)
