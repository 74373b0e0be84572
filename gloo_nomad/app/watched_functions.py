"""When a service is looked at for its functions, and what for: what the Settings and the Upstream say of it."""

import zlib
from dataclasses import dataclass
from typing import Any, Final

from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.discovery.functions import ANNOTATION, Look, look_for, service_spec
from gloo_nomad.discovery.lookup import NO_ADDRESS, Outcome
from gloo_nomad.discovery.modes import wants_functions
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Entry

LEAST_SECONDS: Final = 0.5
"""No service is asked more often, whatever the Settings say."""
NO_ADDRESS_SECONDS: Final = 60.0
"""The longest pause for a service without instances, for which only Consul or Nomad is asked."""


@dataclass(slots=True)
class Watched:
    """An Upstream whose service is looked at."""

    entry: Entry
    look: Look
    basis: bytes
    """All that the result of a look depends on, beside the service."""
    due: float = 0.0
    misses: int = 0
    """Looks in a row that found nothing."""
    absences: int = 0
    running: bool = False
    reason: str = ""


def watch(entry: Entry, before: Watched | None, settings: RuntimeSettings, now: float) -> Watched | None:
    """How an Upstream is looked at from now on, *before* being how it was; None if it is not."""
    if entry.value is None or entry.rejection is not None or not wants_functions(entry.value, settings.message):
        return None
    look = look_for(entry.value)
    if look is None or not is_on(look, settings):
        return None
    basis = basis_of(entry.value, settings)
    if before is None or before.basis != basis:
        return Watched(entry, look, basis)
    if before.look != look:
        due = 0.0 if look in {Look.ANYTHING, Look.DOCUMENT} else now + interval(look, settings)
        return Watched(entry, look, basis, due)
    before.entry = entry
    return before


def interval(look: Look, settings: RuntimeSettings) -> float:
    """Seconds between looks that find something."""
    name = "grpcReflectionRefreshSeconds" if look is Look.GRPC else "openApiRefreshSeconds"
    return max(_number(settings, name), LEAST_SECONDS)


def pause(watched: Watched, outcome: Outcome, settings: RuntimeSettings) -> float:
    """Seconds until the next look: twice as many after each that found nothing, up to a bound."""
    longest = max(_number(settings, "functionDiscoveryMaxPauseSeconds"), LEAST_SECONDS)
    if outcome is NO_ADDRESS:  # no service was asked
        longest = min(longest, NO_ADDRESS_SECONDS)
    seconds = interval(watched.look, settings) * 2 ** min(max(watched.misses - 1, 0), 20)
    return longest if _is_inline(watched) else min(seconds, longest)


def _is_inline(watched: Watched) -> bool:
    """Whether the document stands in the Upstream, and cannot be another one as long as that is the same."""
    return watched.look is Look.DOCUMENT and bool(service_spec(watched.entry.value).rest.swagger_info.inline)


def _number(settings: RuntimeSettings, name: str) -> float:
    """One of our own settings; its default where the value is of another type, of which a Problem tells."""
    found = settings.own(name)
    return float(found) if isinstance(found, int | float) else LEAST_SECONDS


def switched_on(settings: RuntimeSettings) -> frozenset[Look]:
    """Which of OPENAPI and GRPC the Settings let discovery look for."""
    switches = {Look.OPENAPI: "discoverOpenApi", Look.GRPC: "discoverGrpcReflection"}
    return frozenset(look for look, name in switches.items() if settings.own(name) is True)


def is_on(look: Look, settings: RuntimeSettings) -> bool:
    """Whether the Settings let discovery look for that."""
    needed = {Look.ANYTHING: {Look.OPENAPI, Look.GRPC}, Look.GRPC: {Look.GRPC}}.get(look, {Look.OPENAPI})
    return bool(needed & switched_on(settings))


def basis_of(upstream: upstream_pb2.Upstream, settings: RuntimeSettings) -> bytes:
    """The Upstream without what discovery writes, and the settings of a look."""
    left: Any = upstream_pb2.Upstream()
    left.CopyFrom(upstream)
    if ANNOTATION in left.metadata.annotations:
        del left.metadata.annotations[ANNOTATION]
    if look_for(upstream) is Look.DOCUMENT:
        service_spec(left).rest.ClearField("transformations")
    else:
        service_spec(left).Clear()
    names = sorted(switched_on(settings))
    return b"%s %s" % (left.SerializeToString(deterministic=True), ",".join(names).encode())


def spread(ref: Ref) -> float:
    """Between 0.9 and 1.1, always the same for an Upstream: so that not all are looked at in the same moment."""
    return 0.9 + 0.2 * zlib.crc32(str(ref).encode()) / 2**32
