"""What the discovery role writes."""

from typing import Final

FIELDS: Final = {
    "gloo.solo.io.Settings": ("discovery",),
    "gloo.solo.io.Settings.DiscoveryOptions": ("uds_options",),
    "gloo.solo.io.Settings.DiscoveryOptions.UdsOptions": ("enabled",),
}
