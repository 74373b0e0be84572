"""A RouteConfiguration for each host name: what is served, what a change costs, and what cannot be a scope."""

import pytest
from envoy.config.route.v3 import route_pb2, scoped_route_pb2

from gloo_nomad.envoy import scoped_routes
from gloo_nomad.envoy.scoped_routes import Scoping
from gloo_nomad.resources import ROUTES, SCOPED_ROUTES, VIRTUAL_HOST
from gloo_nomad.splitting import Splitting
from tests.pipeline.envoy_world import GATEWAY, ROLE, TO_UP, World, make_world, managers, upstream, virtual_service
from tests.unit.test_splitting import settings

WHOLE = "listener-::-8080-routes"


def world(*domains: str) -> World:
    """A gateway with a virtual service for each of these lists of domains."""
    hosts = [virtual_service(TO_UP, name=f"vs{number}", domains=each) for number, each in enumerate(domains)]
    found = make_world(GATEWAY, upstream(), *hosts)
    found.settings = settings(virtualHostDiscovery="scoped")
    return found.translate()


def hosts_of(found: World, name: str) -> list[str]:
    """The virtual hosts of a RouteConfiguration."""
    config = route_pb2.RouteConfiguration.FromString(found.snapshot().of(ROUTES)[name].body)
    assert config.name == name
    return [host.name for host in config.virtual_hosts]


def test_what_is_served() -> None:
    """One RouteConfiguration for each host name, with all that have it, and one scope that leads to it."""
    found = world("[A.test, 'b.test:81', '[::1]']", "['a.test:81', 'c.test:*']", "['[::2]:81']")
    manager = managers(found.listener())[0]
    scopes = found.snapshot().of(SCOPED_ROUTES)

    assert not manager.HasField("rds")
    assert found.names(ROUTES) == list(scopes) == [f"{WHOLE}/{host}" for host in ("[", "a.test", "b.test", "c.test")]
    assert hosts_of(found, f"{WHOLE}/a.test") == ["gloo-system_vs0", "gloo-system_vs1"]
    assert hosts_of(found, f"{WHOLE}/b.test") == ["gloo-system_vs0"]
    assert hosts_of(found, f"{WHOLE}/[") == ["gloo-system_vs0", "gloo-system_vs2"]
    scope = scoped_route_pb2.ScopedRouteConfiguration.FromString(scopes[f"{WHOLE}/a.test"].body)
    assert scope.route_configuration_name == scope.name == f"{WHOLE}/a.test"
    assert scope.key.fragments[1].string_key == "a.test"
    assert found.problems() == []


def test_a_change_is_one_route_configuration() -> None:
    """All others, and all scopes, are the same objects, in the same mapping."""
    found = world(*(f"[a{number}.test]" for number in range(100)))
    before = found.snapshot()
    found.put(virtual_service(TO_UP, TO_UP, name="vs7", domains="[a7.test]"))
    after = found.snapshot()

    changed = [name for name, config in after.of(ROUTES).items() if before.of(ROUTES)[name] is not config]
    assert changed == [f"{WHOLE}/a7.test"]
    assert after.of(SCOPED_ROUTES) is before.of(SCOPED_ROUTES)
    found.put(virtual_service(TO_UP, TO_UP, name="vs7", domains="[b7.test]"))
    gone = before.of(SCOPED_ROUTES).keys() - found.snapshot().of(SCOPED_ROUTES).keys()
    assert gone == {f"{WHOLE}/a7.test"}


@pytest.mark.parametrize("domain", ["*", "'*.test'", "'test.*'", "'*:81'", f"{'x' * 254}"])
def test_what_cannot_be_a_scope(domain: str) -> None:
    """It is said to the virtual service, and the gateway goes on as without scopes; what can be is ready."""
    found = world("[a.test]", f"['{domain.strip(chr(39))}']")
    found.settings = settings(virtualHostDiscovery="scoped", virtualHostDiscoveryFrom=2)
    found.translate()

    (said,) = found.said("VirtualService", "vs1")
    assert said.startswith(f"warning virtualHost.domains: {domain.strip(chr(39))[:80]} is no host name that a scope")
    assert "Gateway gloo-system.gw goes on as with auto" in said
    assert managers(found.listener())[0].rds.route_config_name == f"{WHOLE}-vhds"
    assert len(found.snapshot().for_delta().of(VIRTUAL_HOST)) == 2
    assert list(found.snapshot().of(SCOPED_ROUTES)) == [f"{WHOLE}/a.test"]
    assert set(found.snapshot().for_delta().of(ROUTES)) == {f"{WHOLE}-vhds", f"{WHOLE}/a.test"}
    found.remove("VirtualService", "vs1")
    assert managers(found.listener())[0].HasField("scoped_routes")


def test_too_many_host_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a stream may ask for is not asked for."""
    monkeypatch.setattr(scoped_routes, "MOST_HOSTS", 2)
    found = world("[a.test, b.test, c.test]")

    assert found.said("Gateway", "gw")[0].startswith("warning httpGateway: has more than ")
    assert managers(found.listener())[0].rds.route_config_name == WHOLE


def test_nothing_to_find() -> None:
    """Without a virtual host there is no scope, and nobody is warned."""
    found = world()
    assert found.snapshot().of(SCOPED_ROUTES) == {}
    assert found.problems() == []


def test_scopes_stay_for_connections_that_began_with_them() -> None:
    """The setting is taken back: listeners do without, and the scopes stay up to date."""
    found = world("[a.test]")
    found.settings = settings()
    found.put(virtual_service(TO_UP, name="new", domains="[new.test]"))

    assert managers(found.listener())[0].rds.route_config_name == WHOLE
    assert list(found.snapshot().of(SCOPED_ROUTES)) == [f"{WHOLE}/a.test", f"{WHOLE}/new.test"]
    assert found.names(ROUTES) == [WHOLE, f"{WHOLE}/a.test", f"{WHOLE}/new.test"]


def test_a_proxy_that_never_had_scopes_has_none() -> None:
    """And one that is gone is forgotten."""
    (proxy,) = world("[a.test]").translation.proxies
    splitting, scoped = Splitting(), settings(virtualHostDiscovery="scoped")
    assert splitting.scoping(proxy, settings()) is Scoping.NONE
    assert splitting.scoping(proxy, scoped) is Scoping.USED
    splitting.sweep({ROLE})
    assert splitting.scoping(proxy, settings()) is Scoping.KEPT
    splitting.sweep(set())
    assert splitting.scoping(proxy, settings()) is Scoping.NONE


def test_the_last_good_virtual_host() -> None:
    """An edit with an error changes nothing that is served, in this form as well."""
    found = world("[a.test]", "[b.test]")
    before = found.snapshot()
    found.put(virtual_service(TO_UP, name="vs1", domains="['']"))

    assert found.said("VirtualService", "vs1")[0].startswith("error ")
    assert dict(found.snapshot().of(ROUTES)) == dict(before.of(ROUTES))
    assert dict(found.snapshot().of(SCOPED_ROUTES)) == dict(before.of(SCOPED_ROUTES))
