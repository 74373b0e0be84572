"""Which RouteConfigurations have their virtual hosts as resources of their own, and what is served then."""

import pytest
from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.resources import ROUTES, VIRTUAL_HOST
from gloo_nomad.settings.own import own_findings
from gloo_nomad.splitting import Splitting
from tests.pipeline.envoy_world import GATEWAY, ROLE, TO_UP, World, make_world, managers, upstream, virtual_service

SPLIT = "listener-::-8080-routes-vhds"


def settings(**own: object) -> settings_pb2.Settings:
    """Settings with these of our own."""
    return json_format.ParseDict({"extensions": {"configs": {"gloo-nomad": own}}}, settings_pb2.Settings())


def world(count: int) -> World:
    """A gateway with so many virtual hosts."""
    hosts = [virtual_service(TO_UP, name=f"vs{number}", domains=f"[a{number}.com]") for number in range(count)]
    return make_world(GATEWAY, upstream(), *hosts)


@pytest.mark.parametrize(
    ("counts", "own", "expected"),
    [
        ((3, 4, 3, 2, 1, 3), {"virtualHostDiscoveryFrom": 4}, "no yes yes yes no no"),
        ((1, 3), {"virtualHostDiscovery": "always", "virtualHostDiscoveryFrom": 100}, "yes yes"),
        ((3, 3), {"virtualHostDiscovery": "never", "virtualHostDiscoveryFrom": 1}, "no no"),
        ((1, 3), {}, "no no"),
    ],
)
def test_from_how_many_on(counts: tuple[int, ...], own: dict[str, object], expected: str) -> None:
    """From the threshold on, and then down to half of it."""
    splitting, found = Splitting(), []
    for count in counts:
        (proxy,) = world(count).translation.proxies
        chosen = splitting.choose(proxy, settings(**own))
        assert chosen <= {"listener-::-8080-routes"}
        found.append("yes" if chosen else "no")
    assert found == expected.split()


def test_a_proxy_that_is_gone_is_forgotten() -> None:
    """What comes back is like new."""
    splitting = Splitting()
    for count in (4, 3):
        (proxy,) = world(count).translation.proxies
        assert splitting.choose(proxy, settings(virtualHostDiscoveryFrom=4))
    splitting.sweep(set())
    assert not splitting.choose(proxy, settings(virtualHostDiscoveryFrom=4))


def test_what_is_served() -> None:
    """The listener names the split RouteConfiguration, which is whole for the state of the world."""
    found = world(2)
    found.settings = settings(virtualHostDiscovery="always")
    snapshot = found.translate().snapshot()
    delta = snapshot.for_delta()

    assert managers(found.listener())[0].rds.route_config_name == SPLIT
    assert list(delta.of(VIRTUAL_HOST)) == [f"{SPLIT}/gloo-system_vs0", f"{SPLIT}/gloo-system_vs1"]
    assert len(delta.of(ROUTES)[SPLIT].body) < 200
    assert [host.name for host in found.route_config(SPLIT).virtual_hosts] == ["gloo-system_vs0", "gloo-system_vs1"]
    assert snapshot.of(VIRTUAL_HOST) == {}


def test_a_change_is_one_virtual_host() -> None:
    """All others, and the RouteConfiguration of delta streams, are the same objects."""
    found = world(100)
    found.settings = settings(virtualHostDiscovery="always")
    before = found.translate().snapshot().for_delta()
    found.put(virtual_service(TO_UP, name="vs7", domains="[a7.com, b7.com]"))
    after = found.snapshot().for_delta()

    changed = [name for name, host in after.of(VIRTUAL_HOST).items() if before.of(VIRTUAL_HOST)[name] is not host]
    assert changed == [f"{SPLIT}/gloo-system_vs7"]
    assert after.of(ROUTES)[SPLIT] is before.of(ROUTES)[SPLIT]


def test_the_last_good_virtual_host() -> None:
    """An edit with an error changes nothing that is served, in this form as well."""
    found = world(3)
    found.settings = settings(virtualHostDiscovery="always")
    before = found.translate().snapshot().for_delta()
    found.put(virtual_service(TO_UP, name="vs1", domains="['']"))

    assert found.said("VirtualService", "vs1")[0].startswith("error ")
    assert dict(found.snapshot().for_delta().of(VIRTUAL_HOST)) == dict(before.of(VIRTUAL_HOST))


def test_nothing_to_split() -> None:
    """Envoy would wait in vain for the virtual hosts of a RouteConfiguration that has none."""
    found = make_world(GATEWAY, virtual_service(TO_UP, domains="['']"))
    found.settings = settings(virtualHostDiscovery="always")
    assert found.translate().snapshot().delta == {}


def test_two_of_one_name() -> None:
    """They are not one: such a RouteConfiguration stays whole."""
    found = World(json_format.ParseDict({"gateway": {"readGatewaysFromAllNamespaces": True}}, settings_pb2.Settings()))
    one = virtual_service(TO_UP, name="b.c", domains="[one.com]").replace("gloo-system", "a")
    two = virtual_service(TO_UP, name="c", domains="[two.com]").replace("gloo-system", "a.b")
    found.put(GATEWAY, one, two)
    found.settings.CopyFrom(settings(virtualHostDiscovery="always"))
    names = [host.name for host in found.translate().route_config().virtual_hosts]

    assert len(names) == 2
    assert len(set(names)) == 1
    assert found.snapshot().delta == {}


def test_a_mode_that_is_none() -> None:
    """It is said what it may be."""
    (finding,) = own_findings(settings(virtualHostDiscovery="sometimes"))
    assert finding.message == "is to be one of auto, always, never, scoped"
    assert list(own_findings(settings(virtualHostDiscovery="never"))) == []


def test_a_role_that_nobody_serves_has_no_virtual_hosts() -> None:
    """Whole snapshots are the same for both protocols."""
    found = world(1)
    snapshot = found.snapshot(ROLE)
    assert snapshot.for_delta() is snapshot
