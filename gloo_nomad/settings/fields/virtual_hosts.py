"""In which pieces routes go to Envoy.

Virtual hosts as resources of their own ``always``, ``never``, or from so many in one gateway on (``auto``); ``scoped``
is a RouteConfiguration for each host name.
"""

from typing import Final

OWN: Final = {"virtualHostDiscovery": "auto", "virtualHostDiscoveryFrom": 500.0}
OWN_CHOICES: Final = {"virtualHostDiscovery": ("auto", "always", "never", "scoped")}
