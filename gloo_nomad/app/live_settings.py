"""The settings in force: the file's, with the object of Consul KV on top as long as it makes sense."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import SETTINGS
from gloo_nomad.reports import Problems, error, is_rejected
from gloo_nomad.settings import RuntimeSettings, SettingsError

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class LiveSettings:
    """Follows the Settings object. ``changed`` is set whenever ``settings`` is another object.

    An object that asks for what cannot be done changes nothing: the settings before it stay in force, with the reason
    among ``problems``.
    """

    base: RuntimeSettings
    try_out: Callable[[RuntimeSettings], None] = lambda _settings: None
    """Raises ``SettingsError`` if something cannot be built from the settings."""
    settings: RuntimeSettings = field(init=False)
    problems: Problems = ()
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _top: settings_pb2.Settings | None = None

    def __post_init__(self) -> None:
        self.settings = self.base

    def take(self, top: settings_pb2.Settings | None) -> bool:
        """Takes the object as it is now, None for none; True if the settings are different."""
        if top is self._top:
            return False
        self._top = top
        target = SETTINGS.object_ref(self.base.ref)
        if top is None:
            self.problems = ()
            return self._use(self.base)
        findings = [*self.base.overlay_findings(top)]
        wanted = self.base.overlaid(top)
        try:
            self.try_out(wanted)
        except SettingsError as reason:
            findings.append(error("", str(reason)))
        self.problems = tuple(finding.on(target) for finding in findings)
        if is_rejected(findings):
            log.warning("settings_rejected", object=str(target), problems=[str(problem) for problem in self.problems])
            return False
        return self._use(wanted)

    def _use(self, settings: RuntimeSettings) -> bool:
        if settings.message == self.settings.message:
            return False
        self.settings = settings
        self.changed.set()
        log.info("settings_changed")
        return True
