"""What the settings say about reading Consul: for how long a question waits, which instances count, how often DNS."""

from typing import Any, Final

from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.consul_services import Choice
from gloo_nomad.sources.host_names import POLLING_SECONDS

DEFAULT_WAIT: Final = 60.0
MAX_WAIT: Final = 600.0
"""Seconds; Consul does not wait longer."""


def blocking_wait(settings: RuntimeSettings) -> float:
    """Seconds of one blocking query: ``consul.waitTime``, or else ``refreshRate``, the reference's meaning of it."""
    message = settings.message
    asked = _seconds(message.consul.wait_time) or _seconds(message.refresh_rate)
    return min(max(asked, 1.0), MAX_WAIT) if asked > 0 else DEFAULT_WAIT


def choice(settings: RuntimeSettings) -> Choice:
    """Which instances may get requests."""
    return Choice(
        with_warning=bool(settings.own("warningInstances")),
        degrade_warning=bool(settings.own("degradeWarningInstances")),
        equal_datacenters=bool(settings.own("equalDatacenters")),
    )


def dns_interval(settings: RuntimeSettings) -> float:
    """Seconds between two looks at a host name of an instance: ``consul.dnsPollingInterval``."""
    asked = _seconds(settings.message.consul.dns_polling_interval)
    return max(asked, 0.1) if asked > 0 else POLLING_SECONDS


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)
