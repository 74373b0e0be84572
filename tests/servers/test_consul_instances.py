"""Which instances of Consul's services count, and where they are: from a real agent, as the source says them."""

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.dns import find_addresses
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.sources.consul_services import Choice
from gloo_nomad.sources.host_names import HostNames
from gloo_nomad.store.change import Change
from gloo_nomad.store.services import Place
from tests.consul_services import instances_of, listening, new_service, ports_of
from tests.faults import Proxy
from tests.source_listener import Listener, until

pytestmark = pytest.mark.consul


@pytest.fixture
def service(consul: ConsulAgent) -> Iterator[str]:
    """A name of a service that no other test has."""
    with new_service(consul) as name:
        yield name


@pytest.mark.parametrize("degraded", [False, True], ids=["weighted", "degraded"])
def test_warnings_on_request(consul: ConsulAgent, service: str, degraded: bool) -> None:
    """With a setting an instance with a warning stays, with Consul's weight for that; a critical one still goes."""
    check = {"CheckID": f"{service}-check", "TTL": "600s", "Status": "passing"}
    consul.register(service, 8001, Check=check, Weights={"Passing": 9, "Warning": 2})
    choice = Choice(with_warning=True, degrade_warning=degraded)

    async def run() -> None:
        async with listening(consul.port, choice=choice) as (source, listener):
            source.want(frozenset({("", service)}))
            for state, weights in (
                ("pass", [(9, False)]),
                ("warn", [(2, degraded)]),
                ("fail", []),
                ("pass", [(9, False)]),
            ):
                await asyncio.to_thread(consul.request, "PUT", f"agent/check/{state}/{service}-check")
                await listener.until(lambda weights=weights: weights_of(listener, service) == weights)  # type: ignore[misc]

    asyncio.run(run())


def weights_of(listener: Listener, name: str) -> list[tuple[int, bool]]:
    """Weight of each instance, and whether it is degraded."""
    return [(instance.weight, instance.degraded) for instance in instances_of(listener, name) or ()]


@pytest.mark.parametrize("few", [True, False], ids=["query", "sweep"])
def test_maintenance_of_an_instance_and_of_the_node(new_consul: Callable[..., ConsulAgent], few: bool) -> None:
    """Maintenance mode of one instance takes it away, that of the node all that are on it; both come back."""
    agent = new_consul()
    agent.register("web", 8001)
    agent.register("web", 8002)

    async def run() -> None:
        async with listening(agent.port, max_queries=9 if few else 0) as (source, listener):
            source.want(frozenset({("", "web")}))
            await listener.until(lambda: ports_of(listener, "web") == [8001, 8002])
            for path, ports in (
                ("agent/service/maintenance/web-8001?enable=true", [8002]),
                ("agent/maintenance?enable=true", []),
                ("agent/service/maintenance/web-8001?enable=false", []),
                ("agent/maintenance?enable=false", [8001, 8002]),
            ):
                await asyncio.to_thread(agent.request, "PUT", path)
                await listener.until(lambda ports=ports: ports_of(listener, "web") == ports)  # type: ignore[misc]

    asyncio.run(run())


def test_several_ports(consul: ConsulAgent, service: str) -> None:
    """An instance with several ports has its default one, and all of them by their names."""
    ports = [{"Name": "http", "Port": 8001, "Default": True}, {"Name": "admin", "Port": 8002}]
    body = {"ID": f"{service}-1", "Name": service, "Address": "127.0.0.1", "Ports": ports}
    consul.request("PUT", "agent/service/register", json.dumps(body).encode())

    async def run() -> None:
        async with listening(consul.port) as (source, listener):
            source.want(frozenset({("", service)}))
            await listener.until(lambda: ports_of(listener, service) == [8001])
            (found,) = instances_of(listener, service) or ()
            assert found.ports == (("admin", 8002), ("http", 8001))

    asyncio.run(run())


def test_only_what_changed_is_read_again(new_consul: Callable[..., ConsulAgent]) -> None:
    """Of 300 services without a query of their own, one that changes is read again, and no other."""
    agent = new_consul()
    names = [f"many-{number:03d}" for number in range(300)]
    register_many(agent, names)
    check = {"CheckID": "flaps", "TTL": "600s", "Status": "passing"}
    agent.register("many-000", 8001, Check=check)

    async def run(proxy: Proxy) -> None:
        async with listening(proxy.port, max_queries=30) as (source, listener):
            source.want(frozenset(("", name) for name in names))
            await listener.until(lambda: all(ports_of(listener, name) for name in names), 60)
            await asyncio.sleep(1)
            for change, about, expected in (
                (partial(agent.register, "many-299", 8001), "many-299", [8001, 9299]),
                (partial(agent.deregister, "many-299-8001"), "many-299", [9299]),
                (partial(agent.register, "many-298", 8001, Tags=["new"]), "many-298", [8001, 9298]),
            ):
                proxy.forget()
                await asyncio.to_thread(change)
                await listener.until(lambda a=about, e=expected: ports_of(listener, a) == e)  # type: ignore[misc]
                await asyncio.sleep(0.5)
                assert read_services(proxy) == [about]
            assert proxy.most_waiting <= 30 + 8

    with Proxy(agent.port) as proxy:
        asyncio.run(run(proxy))


def register_many(agent: ConsulAgent, names: list[str]) -> None:
    """One instance of each of these services on a node of their own."""
    node = {"Node": "crowd", "Address": "127.0.0.1"}
    agent.request("PUT", "catalog/register", json.dumps({**node, "SkipNodeUpdate": False}).encode())
    numbered = list(enumerate(names, 9000))
    for start in range(0, len(numbered), 60):
        operations = [
            {"Service": {"Verb": "set", "Node": "crowd", "Service": {"ID": name, "Service": name, "Port": port}}}
            for port, name in numbered[start : start + 60]
        ]
        agent.request("PUT", "txn", json.dumps(operations).encode())


def read_services(proxy: Proxy) -> list[str]:
    """The services that were read one by one, without a blocking query."""
    found = [path.partition("?") for path in proxy.asked if path.startswith("/v1/health/service/")]
    return [path.removeprefix("/v1/health/service/") for path, _, query in found if "index=" not in query]


def test_questions_wait_as_long_as_they_are_told(consul: ConsulAgent, service: str) -> None:
    """Consul is asked to hold a question back for the time that the settings give."""

    async def run(proxy: Proxy) -> None:
        async with listening(proxy.port, wait=7.0) as (source, listener):
            source.want(frozenset({("", service)}))
            await listener.until(lambda: proxy.count(f"/v1/health/service/{service}.*index=.*wait=7000ms"))

    with Proxy(consul.port) as proxy:
        asyncio.run(run(proxy))


def test_names_of_consul_enterprise_are_passed_on(consul: ConsulAgent, service: str) -> None:
    """Namespace and partition go with the question; an agent that has neither refuses, and that is shown."""

    async def run(proxy: Proxy) -> None:
        place = str(Place("", "team", "east"))
        async with listening(proxy.port) as (source, listener):
            source.want(frozenset({(place, service)}))
            await listener.until(lambda: source.state.last_error)
            assert "400" in source.state.last_error
            assert instances_of(listener, service, place) is None
        assert proxy.count(f"/v1/health/service/{service}.*ns=team&partition=east")

    with Proxy(consul.port) as proxy:
        asyncio.run(run(proxy))


def test_host_names_are_found_by_dns(new_consul: Callable[..., ConsulAgent]) -> None:
    """A host name is its addresses as Consul's DNS server knows them; the last ones stay when it knows none."""
    agent = new_consul()
    put_node(agent, "127.0.0.2")
    agent.register("web", 8001, Address="box.node.consul")

    async def run() -> None:
        said: list[Change] = []

        async def send(change: Change) -> None:
            said.append(change)

        def addresses() -> list[tuple[str, str]]:
            entries = [change.puts[Ref("", "web")] for change in said if Ref("", "web") in change.puts]
            return [(found.address, found.host_name) for found in entries[-1].value.instances] if entries else []

        async def serves(*expected: str) -> None:
            async def holds() -> bool:
                return addresses() == [(address, "box.node.consul") for address in expected]

            await until(holds)

        find = partial(find_addresses, parse_address(f"127.0.0.1:{agent.dns_port}", 8600))
        async with listening(agent.port) as (source, listener), HostNames(find, send, source.state, 0.2) as names:
            source.want(frozenset({("", "web")}))
            await listener.until(lambda: listener.changes)
            for change in listener.changes:
                await names.put(change)
            await serves("127.0.0.2")
            await asyncio.to_thread(put_node, agent, "127.0.0.3")
            await serves("127.0.0.3")
            gone = json.dumps({"Node": "box"}).encode()
            await asyncio.to_thread(agent.request, "PUT", "catalog/deregister", gone)
            await listener.until(lambda: "box.node.consul" in source.state.last_error)
            assert addresses() == [("127.0.0.3", "box.node.consul")]

    asyncio.run(run())


def put_node(agent: ConsulAgent, address: str) -> None:
    """A node ``box`` with this address."""
    agent.request("PUT", "catalog/register", json.dumps({"Node": "box", "Address": address}).encode())
