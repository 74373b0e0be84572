"""Names of services that are registered with Nomad, from a real agent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.nomad import NomadClient, NomadOptions
from gloo_nomad.clients.token import Token
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.sources.nomad_catalog import Names, NomadCatalog
from tests.nomad_jobs import crash, echo_job, run_job, stop_job

pytestmark = pytest.mark.nomad

PATIENCE = 60.0


@asynccontextmanager
async def following(
    agent: NomadAgent, token: Token, *namespaces: str
) -> AsyncIterator[tuple[NomadCatalog, list[Names]]]:
    """A catalog, and all that it said."""
    client = NomadClient(NomadOptions(parse_address(agent.address, 4646), token))
    catalog = NomadCatalog(client, namespaces, wait=2.0)
    said: list[Names] = []

    async def listen() -> None:
        async for names in catalog.watch_names():
            said.append(names)  # noqa: PERF401  # as they come, not at the end

    task = asyncio.create_task(listen())
    try:
        yield catalog, said
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def until(condition: Callable[[], object]) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # a list has no events
            await asyncio.sleep(0.05)


def test_rights_and_namespaces(new_nomad: Callable[..., NomadAgent]) -> None:
    """All namespaces that the token may read, or those that are named; without any it is an error, and no change."""
    agent = new_nomad(token=str(uuid4()))
    agent.request("PUT", "namespace/shop", {"Name": "shop"})
    rules = 'namespace "shop" { capabilities = ["read-job"] }'
    agent.request("PUT", "acl/policy/shop", {"Name": "shop", "Rules": rules})
    policies = {"Name": "gloo", "Type": "client", "Policies": ["shop"]}
    limited = agent.request("PUT", "acl/token", policies)["SecretID"]
    run_job(agent, echo_job("web", tags=("b", "a")))
    run_job(agent, echo_job("cart", namespace="shop"))
    everything = {"default": {"web": ("a", "b")}, "shop": {"cart": ()}}

    async def run() -> None:
        async with following(agent, Token(agent.token)) as (_, said):
            await until(lambda: said and said[-1] == everything)
        async with following(agent, Token(agent.token), "default") as (_, said):
            await until(lambda: said and said[-1] == {"default": {"web": ("a", "b")}})
        async with following(agent, Token(limited)) as (catalog, said):
            await until(lambda: said and said[-1] == {"shop": {"cart": ()}})
            await asyncio.to_thread(agent.request, "DELETE", "acl/policy/shop")
            await until(lambda: "read-job" in catalog.state.last_error)
            assert len(said) == 1
        async with following(agent, Token(agent.token)) as (_, said):
            await asyncio.to_thread(stop_job, agent, "cart", "shop")
            await until(lambda: said and said[-1] == {"default": {"web": ("a", "b")}})

    asyncio.run(run())


def test_a_nomad_that_lost_its_data(new_nomad: Callable[..., NomadAgent]) -> None:
    """Nothing is said while nothing is there; what comes back counts."""
    first = new_nomad()
    for name in ("web", "cart", "shop"):
        run_job(first, echo_job(name))

    async def run() -> None:
        async with following(first, Token()) as (catalog, said):
            await until(lambda: said and len(said[-1].get("default", {})) == 3)
            before = len(said)
            await asyncio.to_thread(crash, first)
            second = await asyncio.to_thread(lambda: new_nomad(port=first.port))
            await until(lambda: "began anew" in catalog.state.last_error)
            await asyncio.sleep(3)
            assert "began anew" in catalog.state.last_error
            assert len(said) == before
            await asyncio.to_thread(run_job, second, echo_job("web"))
            await until(lambda: said[-1] == {"default": {"web": ()}})
            await until(lambda: catalog.state.last_error == "")

    asyncio.run(run())
