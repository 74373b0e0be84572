"""Instances of services that are registered with Nomad, from a real agent."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.nomad import NomadClient, NomadOptions
from gloo_nomad.clients.token import Token
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.sources.nomad_services import NomadServicesSource
from gloo_nomad.store.services import NOMAD_SERVICE, Instance, ServiceInstances
from tests.faults import Fault, Garbage, Proxy, Reset, Slow, Status
from tests.nomad_jobs import SECOND, crash, echo_job, new_job, promote, registered, run_job, set_health, stop_job
from tests.source_listener import Listener, until

pytestmark = pytest.mark.nomad

PATIENCE = 60.0


@pytest.fixture
def service(nomad: NomadAgent) -> Iterator[str]:
    """A name of a job and its service that no other test has."""
    with new_job(nomad) as name:
        yield name


@asynccontextmanager
async def listening(
    agent: NomadAgent, *services: str, namespace: str = "default", token: Token | None = None, **options: Any
) -> AsyncIterator[tuple[NomadServicesSource, Listener]]:
    """A source of its own that watches these services, and a listener on it."""
    client = NomadClient(NomadOptions(parse_address(agent.address, 4646), token or Token(agent.token)))
    source = NomadServicesSource(client, **options)
    source.want(frozenset((namespace, name) for name in services))
    try:
        async with Listener(source) as listener:
            yield source, listener
    finally:
        await client.close()


def instances_of(listener: Listener, name: str, namespace: str = "default") -> tuple[Instance, ...] | None:
    """The served instances; None if nothing is known of the service."""
    found = listener.store.snapshot.of(NOMAD_SERVICE).get(Ref(namespace, name))
    return found.instances if isinstance(found, ServiceInstances) else None


def ports_of(listener: Listener, name: str, namespace: str = "default") -> set[int] | None:
    """The ports of the served instances."""
    found = instances_of(listener, name, namespace)
    return None if found is None else {instance.port for instance in found}


async def has(listener: Listener, name: str, count: int, namespace: str = "default") -> set[int]:
    """Waits for so many instances; their ports."""
    await listener.until(lambda: len(instances_of(listener, name, namespace) or ()) == count, PATIENCE)
    return ports_of(listener, name, namespace) or set()


@pytest.mark.parametrize("check", [True, False], ids=["with-check", "without-check"])
def test_instances_come_and_go(nomad: NomadAgent, service: str, check: bool) -> None:
    """A service that does not exist is empty; instances come when they are ready, with tags, and go with their job."""

    async def run() -> None:
        async with listening(nomad, service) as (source, listener):
            await listener.until(lambda: instances_of(listener, service) == ())
            assert source.state.listed

            await asyncio.to_thread(run_job, nomad, echo_job(service, count=2, tags=("b", "a"), check=check))
            ports = await has(listener, service, 2)
            assert ports == registered(nomad, service).keys()
            for instance in instances_of(listener, service) or ():
                assert (instance.address, instance.tags, instance.datacenter) == ("127.0.0.1", ("a", "b"), "dc1")

            await asyncio.to_thread(stop_job, nomad, service)
            await has(listener, service, 0)

    asyncio.run(run())


def test_only_ready_instances(nomad: NomadAgent, service: str) -> None:
    """An instance is not said before its check passes, leaves when it fails, and comes back when it passes."""

    async def run() -> None:
        async with listening(nomad, service) as (_, listener):
            await asyncio.to_thread(run_job, nomad, echo_job(service, count=2))
            first, second = sorted(await has(listener, service, 2))

            await asyncio.to_thread(set_health, first, "critical")
            await listener.until(lambda: ports_of(listener, service) == {second}, PATIENCE)
            assert first in registered(nomad, service)
            await asyncio.to_thread(set_health, first, "passing")
            await listener.until(lambda: ports_of(listener, service) == {first, second}, PATIENCE)

    asyncio.run(run())


def test_an_instance_that_never_becomes_ready(nomad: NomadAgent, service: str) -> None:
    """An instance whose check never passes is registered, and gets nothing."""
    job = echo_job(service)
    job["TaskGroups"][0]["Services"][0]["Checks"][0]["Path"] = "/echo?status=503"

    async def run() -> None:
        async with listening(nomad, service) as (_, listener):
            await asyncio.to_thread(run_job, nomad, job)
            await listener.until(lambda: registered(nomad, service), PATIENCE)
            await asyncio.sleep(3)
            assert instances_of(listener, service) == ()
            assert [change for change in listener.changes if change.puts[Ref("default", service)].value.instances] == []

    asyncio.run(run())


def test_canary_tags(nomad: NomadAgent, service: str) -> None:
    """A canary has its canary_tags in place of its tags until it is promoted."""
    update = {"Canary": 1, "MaxParallel": 1, "HealthCheck": "checks", "MinHealthyTime": SECOND // 2}

    def tags(listener: Listener) -> list[tuple[str, ...]]:
        return sorted(instance.tags for instance in instances_of(listener, service) or ())

    def job(instance: str) -> dict[str, Any]:
        return echo_job(service, instance=instance, tags=("live",), canary_tags=("canary",), update=update)

    async def run() -> None:
        async with listening(nomad, service) as (_, listener):
            await asyncio.to_thread(run_job, nomad, job("v1"))
            await listener.until(lambda: tags(listener) == [("live",)], PATIENCE)
            await asyncio.to_thread(run_job, nomad, job("v2"))
            await listener.until(lambda: tags(listener) == [("canary",), ("live",)], PATIENCE)

            await until(lambda: asyncio.to_thread(promote, nomad, service), PATIENCE)
            await listener.until(lambda: tags(listener) == [("live",)], PATIENCE)

    asyncio.run(run())


def test_unwanted_services_are_forgotten(nomad: NomadAgent, service: str) -> None:
    """A service that nobody wants any more is deleted and not asked for; wanted again it is read again."""
    run_job(nomad, echo_job(service))

    async def run() -> None:
        async with listening(nomad, service) as (source, listener):
            await has(listener, service, 1)
            source.want(frozenset())
            await listener.until(lambda: instances_of(listener, service) is None)
            assert not [task for task in asyncio.all_tasks() if service in task.get_name()]
            source.want(frozenset({("default", service)}))
            await has(listener, service, 1)

    asyncio.run(run())


def test_more_services_than_queries(nomad: NomadAgent, service: str) -> None:
    """With more wanted services than queries all are read, and changes of each are seen."""
    names = [f"{service}-none-{number}" for number in range(8)]

    async def run() -> None:
        async with listening(nomad, *names, service, max_queries=2) as (_, listener):
            await listener.until(lambda: all(instances_of(listener, name) == () for name in (*names, service)))
            await asyncio.to_thread(run_job, nomad, echo_job(service))
            await has(listener, service, 1)

    asyncio.run(run())


def test_instances_stay_while_nomad_is_away(new_nomad: Callable[..., NomadAgent]) -> None:
    """Without Nomad nothing is said; another Nomad, whose index is lower, is read anew."""
    first = new_nomad()
    run_job(first, echo_job("web"))

    async def run() -> None:
        async with listening(first, "web") as (source, listener):
            (before,) = await has(listener, "web", 1)
            await asyncio.to_thread(crash, first)
            await listener.until(lambda: source.state.last_error)
            await asyncio.sleep(1)
            assert ports_of(listener, "web") == {before}

            second = await asyncio.to_thread(lambda: new_nomad(port=first.port))
            await asyncio.to_thread(run_job, second, echo_job("web", tags=("second",)))
            await listener.until(
                lambda: [found.tags for found in instances_of(listener, "web") or ()] == [("second",)], PATIENCE
            )
            await listener.until(lambda: source.state.last_error == "", PATIENCE)

    asyncio.run(run())


@pytest.mark.parametrize("broken", [Status(403), Status(500), Reset(), Garbage(), Slow(20)], ids=repr)
def test_checks_that_cannot_be_read(nomad: NomadAgent, service: str, broken: Fault) -> None:
    """What is known of checks stays as it is, visibly; who may not read them gets what is registered."""
    run_job(nomad, echo_job(service, count=2))

    async def run() -> None:
        with Proxy(nomad.port) as proxy:
            through = replace(nomad, port=proxy.port)
            async with listening(through, service) as (source, listener):
                first, second = sorted(await has(listener, service, 2))
                with proxy.fault("/v1/client/", broken):
                    await listener.until(lambda: "checks" in source.state.errors, PATIENCE)
                    await asyncio.to_thread(set_health, first, "critical")
                    await asyncio.sleep(2)
                    assert ports_of(listener, service) == {first, second}
                await listener.until(lambda: ports_of(listener, service) == {second}, PATIENCE)
                await listener.until(lambda: source.state.last_error == "", PATIENCE)

            with proxy.fault("/v1/client/", Status(403)):
                async with listening(through, service) as (source, listener):
                    assert await has(listener, service, 2) == {first, second}
                    assert "403" in source.state.errors["checks"]

    asyncio.run(run())


@pytest.mark.parametrize("broken", [Status(500), Status(429), Reset(), Garbage(), Slow(20)], ids=repr)
def test_a_service_that_cannot_be_read(nomad: NomadAgent, service: str, broken: Fault) -> None:
    """One service of which Nomad answers wrongly, or not at all, keeps its instances; others are followed."""
    run_job(nomad, echo_job(service))

    async def run() -> None:
        with Proxy(nomad.port) as proxy:
            async with listening(replace(nomad, port=proxy.port), service, "other", wait=1.0) as (source, listener):
                ports = await has(listener, service, 1)
                with proxy.fault(f"/v1/service/{service}", broken):
                    await listener.until(lambda: source.state.errors.keys() == {f"{service}@default"}, PATIENCE)
                    await asyncio.to_thread(stop_job, nomad, service)
                    await asyncio.to_thread(run_job, nomad, {**echo_job("other"), "ID": service})
                    await has(listener, "other", 1)
                    assert ports_of(listener, service) == ports
                await listener.until(lambda: ports_of(listener, service) == set(), PATIENCE)
                await listener.until(lambda: source.state.last_error == "", PATIENCE)

    asyncio.run(run())


def test_a_revoked_token(new_nomad: Callable[..., NomadAgent], tmp_path: Path) -> None:
    """A revoked token leaves all as it is, visibly; a new one in its file is enough to go on."""
    agent = new_nomad(token=str(uuid4()))
    rules = 'namespace "shop" { capabilities = ["read-job"] }'
    agent.request("PUT", "namespace/shop", {"Name": "shop"})
    agent.request("PUT", "acl/policy/shop", {"Name": "shop", "Rules": rules})
    for namespace in ("shop", "default"):
        run_job(agent, echo_job("web", namespace=namespace))
    file = tmp_path / "token"

    def issue() -> str:
        made = agent.request("PUT", "acl/token", {"Name": "gloo", "Type": "client", "Policies": ["shop"]})
        file.write_text(made["SecretID"])
        accessor: str = made["AccessorID"]
        return accessor

    accessor = issue()

    async def run() -> None:
        options: dict[str, Any] = {"token": Token("", str(file)), "wait": 2.0}
        async with listening(agent, "web", namespace="shop", **options) as (source, listener):
            source.want(frozenset({("shop", "web"), ("default", "web")}))
            (port,) = await has(listener, "web", 1, "shop")
            assert instances_of(listener, "web") is None
            assert "403" in source.state.errors["web@default"]
            assert "web@shop" not in source.state.errors

            await asyncio.to_thread(agent.request, "DELETE", f"acl/token/{accessor}")
            await listener.until(lambda: "web@shop" in source.state.errors, PATIENCE)
            assert "403" in source.state.errors["web@shop"]
            assert ports_of(listener, "web", "shop") == {port}

            await asyncio.to_thread(issue)
            await listener.until(lambda: source.state.errors.keys() == {"web@default"}, PATIENCE)
            await asyncio.to_thread(set_health, port, "critical")
            await listener.until(lambda: ports_of(listener, "web", "shop") == set(), PATIENCE)

    asyncio.run(run())
