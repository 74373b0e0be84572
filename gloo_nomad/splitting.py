"""Which RouteConfigurations have their virtual hosts as resources of their own, and whether host names are scopes.

A change of form is a change of the listener, which Envoy warms while the old one serves and then drains. A number of
virtual hosts that goes up and down around the threshold must not cause one each time: the way back is at half of it.

Envoy drops scopes at once, and with them the routes of connections that began with them. So a proxy that had scopes
keeps them; an Envoy whose listeners do without asks for none.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.envoy.scoped_routes import Scoping
from gloo_nomad.proxies import Proxy
from gloo_nomad.settings.own import own_value

MODE: Final = "virtualHostDiscovery"
THRESHOLD: Final = "virtualHostDiscoveryFrom"


@dataclass(slots=True)
class Splitting:
    """The ones that are split at present, by role."""

    split: dict[str, frozenset[str]] = field(default_factory=dict)
    scoped: set[str] = field(default_factory=set)
    """Roles that had scopes once."""

    def choose(self, proxy: Proxy, settings: settings_pb2.Settings) -> frozenset[str]:
        """The RouteConfigurations of a proxy whose virtual hosts are to be resources of their own."""
        before = self.split.get(proxy.role, frozenset())
        threshold = _threshold(settings)
        groups = [group for listener in proxy.listeners for group in listener.http]
        chosen = frozenset(
            group.route_config
            for group in groups
            if len(group.virtual_hosts) >= (threshold / 2 if group.route_config in before else threshold)
        )
        self.split[proxy.role] = chosen
        return chosen

    def scoping(self, proxy: Proxy, settings: settings_pb2.Settings) -> Scoping:
        """What becomes of the scopes of a proxy."""
        if own_value(settings, MODE) == "scoped":
            self.scoped.add(proxy.role)
            return Scoping.USED
        return Scoping.KEPT if proxy.role in self.scoped else Scoping.NONE

    def sweep(self, roles: Collection[str]) -> None:
        """Ends a round over all proxies: forgets those that are gone."""
        for role in self.split.keys() - set(roles):
            del self.split[role]
        self.scoped.intersection_update(roles)


def _threshold(settings: settings_pb2.Settings) -> float:
    """From how many virtual hosts on; infinite for never."""
    mode = own_value(settings, MODE)
    if mode == "never":
        return float("inf")
    return 1.0 if mode == "always" else max(1.0, float(own_value(settings, THRESHOLD)))
