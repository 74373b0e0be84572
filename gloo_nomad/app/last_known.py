"""Keeps on disk what is served, and starts with it: for a time when Consul, Vault and Nomad are all away.

What is kept is the store: objects, secrets and instances by source, with the versions that rejected edits left in
service. Envoy's resources follow from it, byte for byte. At a start it is put back before any source has answered; what
a source lists then takes its place. Sources that do not list in time are stood in for by what was kept.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from gloo_nomad.admin.view import LastKnown
from gloo_nomad.api.kinds import SECRET, SETTINGS
from gloo_nomad.app.data_key import find_seal
from gloo_nomad.app.engine import Engine
from gloo_nomad.app.sources import Sources
from gloo_nomad.kept.content import Content, Held
from gloo_nomad.kept.file import KeptError
from gloo_nomad.kept.parts import CONFIGURATION, PARTS, SECRETS, KeptFolder
from gloo_nomad.kept.seal import Seal
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Change
from gloo_nomad.store.mesh import MESH_IDENTITY

log = structlog.get_logger(__name__)

QUIET_SECONDS: Final = 1.0
"""How long after a change it is kept: what comes with it is kept at once."""
PAUSE_SECONDS: Final = 4.0
"""At least between two writes."""
AGAIN_SECONDS: Final = 30.0
"""How long to wait after a failure."""
_SERVICE_KINDS: Final = PARTS["services"] | {MESH_IDENTITY}


@dataclass(slots=True)
class LastKnownKeeper:
    """The folder, and what was kept there last."""

    engine: Engine
    sources: Sources
    folder: KeptFolder
    seal: Seal | None = None
    restored: dict[str, float] = field(default_factory=dict)
    """When the parts were written that this process started with."""
    written: float = 0.0
    _changed: asyncio.Event = field(init=False)
    _kept: dict[str, Content] = field(default_factory=dict)
    _faults: dict[str, str] = field(default_factory=dict)
    _awaits_key: bool = False
    """Whether there should be a key and is none, because a file or Vault cannot be read."""
    _started: float = field(default_factory=time.time)
    _finding: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._changed = self.engine.listener()

    def wake(self) -> None:
        """Says that instances are others."""
        self._changed.set()

    def state(self) -> LastKnown:
        """For the admin pages."""
        engine = self.engine
        served = {source for source, _ in self.sources.kept} | set(engine.kept_services.values())
        since = self._started if served and self.restored and engine.published.is_set() else 0.0
        failure = "; ".join(f"{part}: {fault}" for part, fault in sorted(self._faults.items()))
        return LastKnown(since, self.written, tuple(sorted(served)) if since else (), failure)

    async def restore(self) -> None:
        """Puts what was kept into the store, as far as it can be used; to be called before anything runs."""
        await self._find_seal()
        for part in PARTS:
            try:
                found = await asyncio.to_thread(self.folder.read, part, self.seal)
            except KeptError as failure:
                self.fail(part, str(failure), "last_known_refused")
            except Exception as defect:  # no file may keep the process from starting
                self.fail(part, f"cannot be used ({type(defect).__name__})", "last_known_refused")
            else:
                if found is not None:
                    self.restored[part], content = found
                    self._take(part, content)
        self.written = min(self.restored.values(), default=0.0)
        if self.restored:
            log.info("last_known", parts=sorted(self.restored), age_seconds=round(time.time() - self.written))

    async def find_key(self) -> bool:
        """Whether it is known by which key secrets are kept, or that there is none: then ``seal`` is that.

        One at a time: of two who had Vault make a key, one would go on with a key that is not in the folder.
        """
        async with self._finding:
            if self._awaits_key:
                await self._find_seal()
        return not self._awaits_key

    @property
    def why_no_key(self) -> str:
        """Why there is no ``seal``."""
        missing = "there is no key; set GLOO_NOMAD_DATA_KEY or dataKeyFile"
        return self._faults.get(SECRETS, missing) if self._awaits_key else missing

    async def _find_seal(self) -> None:
        try:
            self.seal = await find_seal(self.engine.base, self.folder.folder)
        except KeptError as failure:
            self._awaits_key = True
            self.fail(SECRETS, str(failure), "no_data_key")
        else:
            self._awaits_key = False

    def _take(self, part: str, content: Content) -> None:
        engine = self.engine
        for (source, kind), entries in content.groups.items():
            engine.store.apply(Change(source, kind, entries, complete=True))
            if kind in _SERVICE_KINDS:
                engine.kept_services.update({(kind, ref): source for ref in entries})
        if part in {CONFIGURATION, SECRETS}:
            self.sources.take_kept(content.groups, objects=part == CONFIGURATION)
        if part == CONFIGURATION:
            entry = engine.store.entries(SETTINGS.name).get(engine.base.ref)
            engine.live.take(entry.value if entry else None)
            engine.pipeline.hold(content.held.hosts, content.held.listeners)

    @property
    def is_tentative(self) -> bool:
        """Whether objects are served as they were kept, to begin with."""
        return CONFIGURATION in self.restored

    async def watch_settled(self, settle: Callable[[], None]) -> None:
        """Calls *settle* once what is served is not older than what Envoys have, and has the secrets that they have.

        Until then what is served is for Envoys that have nothing.
        """
        engine = self.engine
        await (engine.config_listed if SECRETS in self.restored else engine.sources_listed).wait()
        await engine.begun.wait()
        await engine.translate_again()
        settle()

    async def run(self) -> None:
        """Keeps for ever what is served."""
        await self.engine.published.wait()
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(QUIET_SECONDS)
                failed = await self._keep_changed()
                await asyncio.sleep(AGAIN_SECONDS if failed else PAUSE_SECONDS)
                if failed:
                    self._changed.set()
        finally:
            if self._changed.is_set():
                await asyncio.shield(self._keep_changed())

    async def _keep_changed(self) -> bool:
        """Writes what differs from what was written last; whether something could not be."""
        self._changed.clear()
        return any([await self._keep(part) for part in PARTS])

    async def _keep(self, part: str) -> bool:
        if part == SECRETS and not await self.find_key():
            return True
        now, content = time.time(), self._content(part)
        if not self._may_keep(part) or _is_same(content, self._kept.get(part)):
            return False
        try:
            await asyncio.to_thread(self.folder.write, part, content, self.seal)
        except (KeptError, OSError) as failure:
            self.fail(part, f"cannot be kept: {reason_of(failure)}", "last_known_not_kept")
            return True
        self._kept[part] = content
        self.written = now
        self.succeed(part)
        return False

    def _may_keep(self, part: str) -> bool:
        """Secrets are kept with a key only, and only once they are all that there are."""
        if part != SECRETS:
            return True
        if self.seal is not None:
            return self.engine.sources_listed.is_set() or SECRETS in self.restored
        if self.engine.store.entries(SECRET.name) and SECRETS not in self._faults:
            self.fail(SECRETS, f"are not kept: {self.why_no_key}", "last_known_not_kept")
        return False

    def _content(self, part: str) -> Content:
        store, translation = self.engine.store, self.engine.translation
        groups = {
            (source, kind): dict(entries)
            for kind in sorted(PARTS[part])
            for source, entries in sorted(store.sources(kind).items())
        }
        if part != CONFIGURATION or translation is None:
            return Content(groups)
        return Content(groups, Held(translation.held_hosts, translation.held_listeners))

    def fail(self, part: str, fault: str, event: str) -> None:
        """Tells that the file of a part cannot be read or written; *event* is for the log."""
        if self._faults.get(part) != fault:
            log.warning(event, file=str(self.folder.path(part)), reason=fault)
        self._faults[part] = fault

    def succeed(self, part: str) -> None:
        """Tells that the file of a part was written."""
        if self._faults.pop(part, None) is not None:
            log.info("last_known_kept", file=str(self.folder.path(part)))


def open_keeper(settings: RuntimeSettings, engine: Engine, sources: Sources) -> LastKnownKeeper | None:
    """Keeps in the folder that the settings name; None if they name none."""
    directory = str(settings.own("dataDirectory"))
    return LastKnownKeeper(engine, sources, KeptFolder(Path(directory), _place(settings))) if directory else None


def _place(settings: RuntimeSettings) -> Mapping[str, str]:
    """Where objects are read from. Consul's address is not part of it: any agent of a datacenter will do."""
    return {
        "namespace": settings.write_namespace,
        "settings": str(settings.ref),
        "rootKey": settings.root_key,
        "directory": settings.config_directory,
        "datacenter": settings.message.consul.datacenter,
    }


def reason_of(failure: KeptError | OSError) -> str:
    """Why a file cannot be written."""
    return failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)


def _is_same(content: Content, before: Content | None) -> bool:
    """Whether nothing was put into the store since."""
    if before is None or content.groups.keys() != before.groups.keys():
        return False
    pairs = ((entries, before.groups[key]) for key, entries in content.groups.items())
    if any(len(now) != len(old) or any(old.get(ref) is not entry for ref, entry in now.items()) for now, old in pairs):
        return False
    return _held(content) == _held(before)


def _held(content: Content) -> list[int]:
    return [id(value) for _, value in (*content.held.hosts, *content.held.listeners)]
