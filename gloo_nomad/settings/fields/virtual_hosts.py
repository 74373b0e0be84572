"""Virtual hosts as Envoy resources of their own: ``auto`` from so many in one gateway on, ``always`` or ``never``."""

from typing import Final

OWN: Final = {"virtualHostDiscovery": "auto", "virtualHostDiscoveryFrom": 500.0}
OWN_CHOICES: Final = {"virtualHostDiscovery": ("auto", "always", "never")}
