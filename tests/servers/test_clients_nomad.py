"""The Nomad client against a real agent."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.http import RefusedError, UnreachableError
from gloo_nomad.clients.nomad import NomadClient, NomadOptions
from gloo_nomad.demo.nomad import NomadAgent
from tests.source_listener import until

pytestmark = pytest.mark.nomad

NAME = "clients-nomad"


@pytest.fixture
def job(nomad: NomadAgent) -> Iterator[None]:
    """A job whose service is registered with Nomad itself."""
    service = {"Name": NAME, "Provider": "nomad", "PortLabel": "http", "Tags": ["b", "a"]}
    task = {"Name": "sleep", "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["600"]}}
    task |= {"Resources": {"CPU": 20, "MemoryMB": 16}}
    group = {"Name": "g", "Count": 2, "Tasks": [task], "Services": [service]}
    group |= {"Networks": [{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}]}
    nomad.request("PUT", "jobs", {"Job": {"ID": NAME, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]}})
    yield
    nomad.request("DELETE", f"job/{NAME}?purge=true")


def _run(address: str, scenario: Callable[[NomadClient], Awaitable[None]]) -> None:
    async def run() -> None:
        client = NomadClient(NomadOptions(parse_address(address, 4646)))
        try:
            await scenario(client)
        finally:
            await client.close()

    asyncio.run(run())


@pytest.mark.usefixtures("job")
def test_services(nomad: NomadAgent) -> None:
    """Names with tags, and instances with address and port, are read; a blocking query waits for its time."""

    async def scenario(client: NomadClient) -> None:
        async def both_run() -> bool:
            return len((await client.read_service(NAME)).instances) == 2

        await until(both_run, seconds=60)
        answer = await client.read_service(NAME)
        assert len({instance.port for instance in answer.instances}) == 2
        for instance in answer.instances:
            assert (instance.service_name, instance.namespace, set(instance.tags or ())) == (
                NAME,
                "default",
                {"a", "b"},
            )
            assert instance.address

        names = await client.list_services()
        assert names.names["default"][NAME] == ("a", "b")
        waited = await client.read_service(NAME, index=answer.index, wait=1.0)
        assert waited.index >= answer.index

        missing = await client.read_service("no-such-service")
        assert missing.instances == ()
        assert missing.index > 0

    _run(nomad.address, scenario)


def test_failures(nomad: NomadAgent) -> None:
    """A refused connection and a refused request are told apart, in a line."""

    async def gone(client: NomadClient) -> None:
        with pytest.raises(UnreachableError, match="refused"):
            await client.list_services()

    async def refused(client: NomadClient) -> None:
        with pytest.raises(RefusedError):
            await client.list_services("a b\n")

    _run("http://127.0.0.1:1", gone)
    _run(f"{nomad.address}/nowhere", refused)
