"""Whether functions of an Upstream are looked for: ``discovery.fdsMode``, and labels of the Upstream.

The mode is BLACKLIST where the Settings have a ``discovery`` block that does not name one, and WHITELIST where they
have no such block. The label may stand in ``metadata`` or, as discovery would write it, in ``discoveryMetadata``.
"""

from typing import Final

from gloo_nomad.api.gen import settings_pb2, upstream_pb2

LABEL: Final = "discovery.solo.io/function_discovery"
ENABLED: Final = "enabled"
DISABLED: Final = "disabled"

_Options = settings_pb2.Settings.DiscoveryOptions


def wants_functions(upstream: upstream_pb2.Upstream, settings: settings_pb2.Settings) -> bool:
    """Whether the mode and the labels let discovery ask this Upstream."""
    mode = settings.discovery.fds_mode if settings.HasField("discovery") else _Options.WHITELIST
    if mode == _Options.DISABLED:
        return False
    labels = upstream.metadata.labels
    label = labels[LABEL] if LABEL in labels else upstream.discovery_metadata.labels.get(LABEL, "")
    return label == ENABLED if mode == _Options.WHITELIST else label != DISABLED
