"""What asks for a protection that cannot be enforced is never served open, not even as it was before."""

from typing import Any

import pytest
from envoy.config.route.v3 import route_pb2

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.pipeline import Pipeline
from gloo_nomad.resources import LISTENER, ROUTES, Resources
from gloo_nomad.store.store import Store
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, _to_change, parse_settings

NAMESPACE = "gloo-system"
OPEN: dict[str, Any] = {"kind": "VirtualService"}
ROLES: dict[str, Any] = {"rbac": {"policies": {"admins": {}}}}
CONFIG = {"extauth": {"configRef": {"name": "users", "namespace": NAMESPACE}}}
CUSTOM: dict[str, Any] = {"extauth": {"customAuth": {}}}
SERVER = {"extauth": {"extauthzServerRef": {"name": "echo", "namespace": NAMESPACE}}}


class World:
    """A pipeline that sees one change after the other."""

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        self.store = Store()
        self.pipeline = Pipeline()
        self.settings: settings_pb2.Settings = parse_settings(settings or {})
        self.count = 0
        self.put(*fill_frame(()))

    def put(self, *documents: dict[str, Any]) -> None:
        """Stores objects."""
        for document in documents:
            self.count += 1
            self.store.apply(_to_change(document, self.count))

    def edit(self, document: dict[str, Any]) -> None:
        """Stores one object of the frame anew."""
        wanted = next(one for one in fill_frame([document]) if one["kind"] == document["kind"])
        self.put(wanted)

    def forwards(self) -> list[bool]:
        """For each route that Envoy is served, whether it forwards requests."""
        (resource,) = self._served(ROUTES).values()
        config = route_pb2.RouteConfiguration.FromString(resource.body)
        return [route.HasField("route") for host in config.virtual_hosts for route in host.routes]

    def ports(self) -> int:
        """How many listeners Envoy is served."""
        return len(self._served(LISTENER))

    def _served(self, type_url: str) -> Resources:
        return self.pipeline.translate(self.store.snapshot, self.settings).xds[ROLE].of(type_url)


@pytest.mark.parametrize("options", [ROLES, CONFIG, CUSTOM], ids=["rbac", "configRef", "customAuth"])
def test_an_open_version_is_not_served_in_place_of_a_protected_one(options: dict[str, Any]) -> None:
    """A virtual host or route that was open, and asks for what cannot be had, forwards nothing any more."""
    world = World()
    assert world.forwards() == [True]

    world.edit({"kind": "VirtualService", "virtualHost": {"options": options}})
    assert world.forwards() == []
    world.edit({"kind": "VirtualService", "virtualHost": {"routes": [{"options": options}]}})
    assert world.forwards() == [False]
    world.edit(OPEN)
    assert world.forwards() == [True]


def test_an_open_gateway_is_not_served_in_place_of_a_protected_one() -> None:
    """A gateway that was open, and asks for a firewall, has no port any more; other mistakes leave it open."""
    world = World()
    assert world.ports() == 1

    world.edit({"kind": "Gateway", "httpGateway": {"options": {"connectionLimit": {}}}})
    assert world.ports() == 1
    world.edit(
        {"kind": "Gateway", "httpGateway": {"options": {"waf": {"ruleSets": [{"ruleStr": "SecRuleEngine On"}]}}}}
    )
    assert world.ports() == 0


def test_other_mistakes_leave_what_was_good() -> None:
    """The same virtual host with a mistake that protects nothing is served as it was."""
    world = World()
    assert world.forwards() == [True]

    world.edit({"kind": "VirtualService", "virtualHost": {"routes": [{"options": {"timeout": "-1s"}}]}})
    assert world.forwards() == [True]


def test_a_protected_route_follows_its_server() -> None:
    """It is closed when the Upstream of the server goes, and forwards again when that is back."""
    world = World({"extauth": {"extauthzServerRef": {"name": "guard", "namespace": NAMESPACE}}})
    guard = {"metadata": {"name": "guard"}, "kind": "Upstream"}
    world.edit({"kind": "VirtualService", "virtualHost": {"routes": [{"options": CUSTOM}]}})
    assert world.forwards() == [False]

    world.put(*(one for one in fill_frame([guard]) if one["metadata"]["name"] == "guard"))
    assert world.forwards() == [True]


def test_destinations_of_an_upstream_group_are_protected_as_well() -> None:
    """What is only a warning on a route elsewhere closes it here."""
    world = World(SERVER)
    upstream = {"name": "echo", "namespace": NAMESPACE}
    group = {"name": "both", "namespace": NAMESPACE}
    route = {"routeAction": {"upstreamGroup": group}}
    destination = {"destination": {"upstream": upstream}, "weight": 1}
    world.put({"kind": "UpstreamGroup", "metadata": group, "destinations": [{**destination, "options": CUSTOM}]})
    world.edit({"kind": "VirtualService", "virtualHost": {"routes": [route]}})
    assert world.forwards() == [True]

    world.put({"kind": "UpstreamGroup", "metadata": group, "destinations": [{**destination, "options": CONFIG}]})
    assert world.forwards() == [False]
