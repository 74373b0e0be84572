"""What the admin pages show, as functions that the composition root fills in. The pages never change anything else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from gloo_nomad.admin import logs
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.proxies import Proxy
from gloo_nomad.reports import Problems
from gloo_nomad.resources import XdsSnapshot
from gloo_nomad.store.snapshot import ConfigSnapshot


@dataclass(frozen=True, slots=True)
class SourceState:
    """How one source is."""

    name: str
    listed: bool
    """Whether it has listed everything once: then an absence is an absence."""
    error: str = ""
    """What fails at the moment; what was read before stays in service."""
    since: float = 0.0
    """Unix time since when the state is so."""


@dataclass(frozen=True, slots=True)
class Client:
    """One connected Envoy."""

    node_id: str
    role: str
    address: str
    protocol: str
    """``delta`` or ``sotw``."""
    connected_at: float
    """Unix time."""
    types: tuple[str, ...] = ()
    """Type URLs that it asked for."""
    nacks: int = 0
    last_nack: str = ""
    """What it rejected last, until it accepted that type again."""


@dataclass(frozen=True, slots=True)
class LastKnown:
    """What is kept on disk, and how far it is in service."""

    since: float = 0.0
    """Unix time since when something is served as it was kept; 0 while nothing is."""
    written: float = 0.0
    """Unix time of what is on disk; 0 if there is nothing."""
    sources: tuple[str, ...] = ()
    """Whose objects are served as they were kept."""
    failure: str = ""
    """Why it cannot be written, or not all of it."""


@dataclass(frozen=True, slots=True)
class AdminView:
    """All that can be shown; a role leaves out what it has not."""

    sources: Callable[[], Sequence[SourceState]] = tuple
    published: Callable[[], bool] = lambda: True
    """Whether the first complete configuration is in service."""
    stopping: Callable[[], bool] = lambda: False
    """Whether this process is about to end."""
    snapshot: Callable[[], ConfigSnapshot] = ConfigSnapshot
    settings: Callable[[], settings_pb2.Settings] = settings_pb2.Settings
    proxies: Callable[[], Sequence[Proxy]] = tuple
    xds: Callable[[], Mapping[str, XdsSnapshot]] = field(default=lambda: MappingProxyType({}))
    """By role."""
    problems: Callable[[], Problems] = tuple
    clients: Callable[[], Sequence[Client]] = tuple
    last_known: Callable[[], LastKnown | None] = lambda: None
    """None where nothing is kept."""
    log_level: Callable[[], str] = logs.level
    set_log_level: Callable[[str], None] = logs.set_level
    """Raises ``ValueError`` for a name that is no level."""

    def degraded_since(self) -> float:
        """Unix time since when a source fails, or something is served as it was kept on disk; 0 while all is well."""
        since = [source.since for source in self.sources() if source.error]
        kept = self.last_known()
        if kept is not None and kept.since:
            since.append(kept.since)
        return min(since, default=0.0)
