"""What the discovery role writes, and how often it asks services for their functions."""

from typing import Final

FIELDS: Final = {
    "gloo.solo.io.Settings": ("discovery",),
    "gloo.solo.io.Settings.DiscoveryOptions": ("uds_options", "fds_mode", "fds_options"),
    "gloo.solo.io.Settings.DiscoveryOptions.UdsOptions": ("enabled", "watch_labels"),
}
OWN: Final = {
    "discoverOpenApi": True,
    "discoverGrpcReflection": True,
    "openApiRefreshSeconds": 15.0,
    "grpcReflectionRefreshSeconds": 60.0,
    "functionDiscoveryMaxPauseSeconds": 600.0,
    "functionDiscoveryInsecureTls": False,
}
