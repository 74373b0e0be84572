"""Function discovery: services are asked for what they offer, and their Upstreams say it from then on.

Each Upstream is looked at by itself, a few at a time. What was found is read again at an interval; where nothing was,
the pauses grow, until the Upstream or the Settings change. A service that does not answer keeps what is known of it.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import structlog

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.engine import Engine
from gloo_nomad.app.instances import Instances
from gloo_nomad.app.watched_functions import LEAST_SECONDS, Watched, pause, spread, switched_on, watch
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_cas import Write, txn_cas
from gloo_nomad.clients.http import BadAnswerError, WorldError
from gloo_nomad.discovery.functions import ANNOTATION, Look, without_functions
from gloo_nomad.discovery.lookup import Outcome, look_up
from gloo_nomad.discovery.origins import Origin, instance_origins, static_origins
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Entry
from gloo_nomad.store.leader import Leader
from gloo_nomad.upstreams.hooks import services, type_of

log = structlog.get_logger(__name__)

MAX_LOOKS: Final = 16
"""Services that are asked at the same time."""
LOOK_SECONDS: Final = 60.0
"""How long one look may take altogether."""
PACE: Final = 0.2
"""Seconds between rounds, however much changes."""
ABSENCES: Final = 3
"""After so many answers in a row that there is nothing any more, what discovery wrote is taken back."""
MAX_VALUE: Final = 500 * 1024
"""Bytes of an Upstream that Consul KV takes, which is 512 KiB, with some room for its status."""


@dataclass(slots=True)
class Functions:
    """Everything that is looked at."""

    engine: Engine
    client: ConsulClient
    leader: Leader
    instances: Instances
    watched: dict[Ref, Watched] = field(default_factory=dict)
    rounds: asyncio.Event = field(init=False)
    _settings: settings_pb2.Settings | None = None
    _seen: dict[Ref, Entry] = field(default_factory=dict)
    """Every Upstream as it was last thought about: most rounds change none."""

    def __post_init__(self) -> None:
        self.rounds = self.engine.listener()

    async def run(self) -> None:
        """Looks for ever, as long as this process is the leader."""
        await self.engine.config_listed.wait()
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
        if self._settings is not settings.message:
            self._settings = settings.message
            self._seen.clear()
        for ref in self._seen.keys() - stored.keys():
            del self._seen[ref]
        for ref in self.watched.keys() - stored.keys():
            del self.watched[ref]
        for ref, entry in stored.items():
            if self._seen.get(ref) is entry:
                continue
            self._seen[ref] = entry
            watched = watch(entry, self.watched.pop(ref, None), settings, self._now())
            if watched is not None:
                self.watched[ref] = watched

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
                outcome = await look_up(entry.value, watched.look, origins, switched_on(settings))
            watched.absences = watched.absences + 1 if outcome.absent else 0
            wanted = _wanted(entry.value, watched, outcome)
            late = wanted != entry.value and not await self._write(ref, entry, wanted)
            self._remember(ref, watched, outcome, settings)
            if late:
                watched.due = self._now() + LEAST_SECONDS
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
        watched.due = self._now() + pause(watched, outcome, settings) * spread(ref)
        if outcome.reason and outcome.reason != watched.reason:
            log.info("functions", upstream=str(ref), found=found, reason=outcome.reason)
        watched.reason = outcome.reason

    async def _origins(self, upstream: upstream_pb2.Upstream, settings: RuntimeSettings) -> tuple[Origin, ...]:
        insecure = bool(settings.own("functionDiscoveryInsecureTls"))
        if upstream.HasField("static"):
            return static_origins(upstream, insecure=insecure)
        module = type_of(upstream)
        for key in services(module, upstream, settings.message) if module is not None else ():
            instances = await self.instances.read(key, settings)
            if origins := instance_origins(upstream, instances, insecure=insecure):
                return origins
        return ()

    async def _write(self, ref: Ref, entry: Entry, wanted: upstream_pb2.Upstream) -> bool:
        """Writes the Upstream unless somebody else changed it meanwhile, then it is False: to be looked at anew."""
        value = await asyncio.to_thread(_encode, wanted, entry)
        if len(value) > MAX_VALUE:
            raise BadAnswerError(f"what was found does not fit into Consul KV: {len(value)} bytes, {MAX_VALUE} at most")
        if not self.leader.held.is_set():
            return False
        key = UPSTREAM.key(self.engine.settings.root_key, ref)
        outcomes = await txn_cas(self.client, [Write(key, value, entry.version)], self.leader.fence())
        if not outcomes[key].index:
            return False
        log.info("functions_written", upstream=str(ref), kind=wanted.metadata.annotations.get(ANNOTATION, "none"))
        return True

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _encode(upstream: upstream_pb2.Upstream, entry: Entry) -> bytes:
    return codec.to_yaml(codec.encode(upstream, entry.status, kind=UPSTREAM)).encode()


def _wanted(upstream: upstream_pb2.Upstream, watched: Watched, outcome: Outcome) -> upstream_pb2.Upstream:
    """The Upstream after a look: as it is, unless something was found, or is gone for good."""
    if outcome.upstream is not None:
        return outcome.upstream
    mine = watched.look in {Look.OPENAPI, Look.GRPC}
    return without_functions(upstream) if mine and watched.absences >= ABSENCES else upstream
