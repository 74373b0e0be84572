"""Metrics of statuses: see ``settings.status_labels``."""

from typing import Final

FIELDS: Final = {
    "gloo.solo.io.Settings": ("observabilityOptions",),
    "gloo.solo.io.Settings.ObservabilityOptions": ("configStatusMetricLabels",),
}
WARNED: Final = {
    "gloo.solo.io.Settings.ObservabilityOptions": {"grafanaIntegration": "dead: the reference's free edition has none"}
}
