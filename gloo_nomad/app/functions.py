"""Function discovery: services are asked for what they offer, and their Upstreams say it from then on.

Each Upstream is looked at by itself, a few at a time. What was found is read again at an interval; where nothing was,
the pauses grow, until the Upstream or the Settings change. A service that does not answer keeps what is known of it.
"""

import asyncio
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.engine import Engine
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_cas import Write, txn_cas
from gloo_nomad.clients.http import BadAnswerError, WorldError
from gloo_nomad.discovery.functions import ANNOTATION, Look, look_for, service_spec, without_functions
from gloo_nomad.discovery.lookup import NO_ADDRESS, Outcome, look_up
from gloo_nomad.discovery.modes import wants_functions
from gloo_nomad.discovery.origins import Origin, instance_origins, static_origins
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.consul_services import read_instances, scope_of
from gloo_nomad.store.change import Entry
from gloo_nomad.store.leader import Leader
from gloo_nomad.upstreams import consul as consul_upstreams

log = structlog.get_logger(__name__)

MAX_LOOKS: Final = 16
"""Services that are asked at the same time."""
LOOK_SECONDS: Final = 60.0
"""How long one look may take altogether."""
PACE: Final = 0.2
"""Seconds between rounds, however much changes."""
LEAST_SECONDS: Final = 0.5
"""No service is asked more often, whatever the Settings say."""
NO_ADDRESS_SECONDS: Final = 60.0
"""The longest pause for a service without instances, for which only Consul is asked."""
ABSENCES: Final = 3
"""After so many answers in a row that there is nothing any more, what discovery wrote is taken back."""
MAX_VALUE: Final = 500 * 1024
"""Bytes of an Upstream that Consul KV takes, which is 512 KiB, with some room for its status."""


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


@dataclass(slots=True)
class Functions:
    """Everything that is looked at."""

    engine: Engine
    client: ConsulClient
    leader: Leader
    watched: dict[Ref, Watched] = field(default_factory=dict)
    rounds: asyncio.Event = field(init=False)
    _settings: settings_pb2.Settings | None = None

    def __post_init__(self) -> None:
        self.rounds = self.engine.listener()

    async def run(self) -> None:
        """Looks for ever, as long as this process is the leader."""
        await self.engine.sources_listed.wait()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self.leader.held.wait()
                self._follow()
                for ref, watched in self._due():
                    watched.running = True
                    tasks.create_task(self._look(ref, watched), name=f"functions of {ref}")
                await asyncio.sleep(PACE)
                await self._wait()

    def _follow(self) -> None:
        """Takes over which Upstreams there are, and which of them are to be looked at."""
        settings = self.engine.settings
        stored = self.engine.store.entries(UPSTREAM.name)
        anew = self._settings is not settings.message
        self._settings = settings.message
        for ref in self.watched.keys() - stored.keys():
            del self.watched[ref]
        for ref, entry in stored.items():
            before = self.watched.get(ref)
            if not anew and before is not None and before.entry is entry:
                continue
            watched = self._watch(entry, before, settings)
            if watched is None:
                self.watched.pop(ref, None)
            else:
                self.watched[ref] = watched

    def _watch(self, entry: Entry, before: Watched | None, settings: RuntimeSettings) -> Watched | None:
        if entry.value is None or entry.rejection is not None or not wants_functions(entry.value, settings.message):
            return None
        look = look_for(entry.value)
        if look is None or not _is_on(look, settings):
            return None
        basis = _basis(entry.value, settings)
        if before is None or before.basis != basis:
            return Watched(entry, look, basis)
        if before.look != look:
            due = 0.0 if look in {Look.ANYTHING, Look.DOCUMENT} else self._now() + interval(look, settings)
            return Watched(entry, look, basis, due)
        before.entry = entry
        return before

    def _due(self) -> list[tuple[Ref, Watched]]:
        now = self._now()
        running = sum(1 for watched in self.watched.values() if watched.running)
        due = [(ref, item) for ref, item in self.watched.items() if item.due <= now and not item.running]
        return sorted(due, key=lambda pair: pair[1].due)[: max(MAX_LOOKS - running, 0)]

    async def _wait(self) -> None:
        """Until something changed, a look ended, or the next one is due."""
        waiting = [watched.due for watched in self.watched.values() if not watched.running]
        seconds = min((due - self._now() for due in waiting), default=LOOK_SECONDS)
        try:
            async with asyncio.timeout(max(seconds, PACE)):
                await self.rounds.wait()
        except TimeoutError:
            return
        self.rounds.clear()

    async def _look(self, ref: Ref, watched: Watched) -> None:
        entry, settings = watched.entry, self.engine.settings
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                origins = await self._origins(entry.value, settings)
                outcome = await look_up(entry.value, watched.look, origins, _switched_on(settings))
            watched.absences = watched.absences + 1 if outcome.absent else 0
            wanted = _wanted(entry.value, watched, outcome)
            if wanted != entry.value and self.leader.held.is_set():
                await self._write(ref, entry, wanted)
            self._remember(ref, watched, outcome, settings)
        except (WorldError, TimeoutError) as failure:
            self._remember(ref, watched, Outcome(reason=str(failure) or "no answer in time"), settings)
        except Exception:
            log.exception("functions_defect", upstream=str(ref))
            self._remember(ref, watched, Outcome(reason="a defect of this program"), settings)
        finally:
            watched.running = False
            self.rounds.set()

    def _remember(self, ref: Ref, watched: Watched, outcome: Outcome, settings: RuntimeSettings) -> None:
        """When to look again, and a line in the log if something is different."""
        found = outcome.upstream is not None
        watched.misses = 0 if found else watched.misses + 1
        watched.due = self._now() + pause(watched, outcome, settings) * _spread(ref)
        if outcome.reason and outcome.reason != watched.reason:
            log.info("functions", upstream=str(ref), found=found, reason=outcome.reason)
        watched.reason = outcome.reason

    async def _origins(self, upstream: upstream_pb2.Upstream, settings: RuntimeSettings) -> tuple[Origin, ...]:
        insecure = bool(settings.own("functionDiscoveryInsecureTls"))
        if upstream.WhichOneof("upstream_type") == "static":
            return static_origins(upstream, insecure=insecure)
        if not settings.discovers_services:
            return ()
        for _, (place, service) in consul_upstreams.services(upstream, settings.message):
            answer = await self.client.health_service(service, scope_of(place))
            origins = instance_origins(upstream, read_instances(answer.entries).instances, insecure=insecure)
            if origins:
                return origins
        return ()

    async def _write(self, ref: Ref, entry: Entry, wanted: upstream_pb2.Upstream) -> None:
        """Writes the Upstream if nobody else changed it meanwhile."""
        value = codec.to_yaml(codec.encode(wanted, entry.status, kind=UPSTREAM)).encode()
        if len(value) > MAX_VALUE:
            raise BadAnswerError(f"what was found does not fit into Consul KV: {len(value)} bytes, {MAX_VALUE} at most")
        key = UPSTREAM.key(self.engine.settings.root_key, ref)
        outcomes = await txn_cas(self.client, [Write(key, value, entry.version)])
        if outcomes[key].index:
            log.info("functions_written", upstream=str(ref), kind=wanted.metadata.annotations.get(ANNOTATION, "none"))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _wanted(upstream: upstream_pb2.Upstream, watched: Watched, outcome: Outcome) -> upstream_pb2.Upstream:
    """The Upstream after a look: as it is, unless something was found, or is gone for good."""
    if outcome.upstream is not None:
        return outcome.upstream
    mine = watched.look in {Look.OPENAPI, Look.GRPC}
    return without_functions(upstream) if mine and watched.absences >= ABSENCES else upstream


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


def _switched_on(settings: RuntimeSettings) -> frozenset[Look]:
    switches = {Look.OPENAPI: "discoverOpenApi", Look.GRPC: "discoverGrpcReflection"}
    return frozenset(look for look, name in switches.items() if settings.own(name) is True)


def _is_on(look: Look, settings: RuntimeSettings) -> bool:
    needed = {Look.ANYTHING: {Look.OPENAPI, Look.GRPC}, Look.GRPC: {Look.GRPC}}.get(look, {Look.OPENAPI})
    return bool(needed & _switched_on(settings))


def _basis(upstream: upstream_pb2.Upstream, settings: RuntimeSettings) -> bytes:
    """The Upstream without what discovery writes, and the settings of a look."""
    left: Any = upstream_pb2.Upstream()
    left.CopyFrom(upstream)
    if ANNOTATION in left.metadata.annotations:
        del left.metadata.annotations[ANNOTATION]
    if look_for(upstream) is Look.DOCUMENT:
        service_spec(left).rest.ClearField("transformations")
    else:
        service_spec(left).Clear()
    names = sorted(_switched_on(settings))
    return b"%s %s" % (left.SerializeToString(deterministic=True), ",".join(names).encode())


def _spread(ref: Ref) -> float:
    """Between 0.9 and 1.1, always the same for an Upstream: so that not all are looked at in the same moment."""
    return 0.9 + 0.2 * zlib.crc32(str(ref).encode()) / 2**32
