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
class AdminView:
    """All that can be shown; a role leaves out what it has not."""

    sources: Callable[[], Sequence[SourceState]] = tuple
    published: Callable[[], bool] = lambda: True
    """Whether the first complete configuration is in service."""
    snapshot: Callable[[], ConfigSnapshot] = ConfigSnapshot
    settings: Callable[[], settings_pb2.Settings] = settings_pb2.Settings
    proxies: Callable[[], Sequence[Proxy]] = tuple
    xds: Callable[[], Mapping[str, XdsSnapshot]] = field(default=lambda: MappingProxyType({}))
    """By role."""
    problems: Callable[[], Problems] = tuple
    clients: Callable[[], Sequence[Client]] = tuple
    log_level: Callable[[], str] = logs.level
    set_log_level: Callable[[str], None] = logs.set_level
    """Raises ``ValueError`` for a name that is no level."""
