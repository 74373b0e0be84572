"""What everything about one gateway in one proxy is put together from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gloo_nomad.api.gen import gateway_pb2, settings_pb2
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.gateway.services import Services
from gloo_nomad.reports import Finding, Problem
from gloo_nomad.store.claims import Claims
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot

T = TypeVar("T")


@dataclass(slots=True)
class Last(Generic[T]):
    """Remembers a value, so that one that is equal to the last stays the same object."""

    value: T | None = None

    def keep(self, value: T) -> T:
        """The last value if the new one equals it, else the new one."""
        if value is not self.value and (self.value is None or self.value != value):
            self.value = value
        return self.value


@dataclass(frozen=True, slots=True)
class World:
    """All that one round of translation reads."""

    snapshot: ConfigSnapshot
    settings: settings_pb2.Settings
    memo: Memo
    """Entries that a round does not ask for are forgotten: every round asks for all that it needs."""
    services: Services

    def created(self, kind: str) -> Mapping[Ref, int]:
        """The ages of the objects of a kind; the same mapping as long as none changes."""
        return self.keep(("created", kind), self.snapshot.created.get(kind, {}))

    def claimed(self, kind: str) -> Mapping[Ref, Claims]:
        """What objects of a kind claim since later than they exist; the same mapping as long as none changes."""
        return self.keep(("claimed", kind), self.snapshot.claimed.get(kind, {}))

    def keep(self, key: Any, value: T) -> T:
        """The value of the last round under this key, if it is equal."""
        last: Last[T] = self.memo.get(("last", key), (), Last)
        return last.keep(value)


@dataclass(frozen=True, slots=True)
class Scene:
    """One gateway in one proxy, and what was found wrong with it."""

    world: World
    proxy: str
    gateway: gateway_pb2.Gateway
    source: ObjectRef
    listener: str
    problems: list[Problem] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, Ref]:
        """What tells results of different gateways and proxies apart."""
        return self.proxy, self.source.ref

    def report(self, finding: Finding, path: str = "", source: ObjectRef | None = None) -> None:
        """Says a finding to the gateway, or to another object."""
        self.problems.append(finding.on(source or self.source, path))
