"""Who we are in the mesh, from a real agent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from cryptography import x509

from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.sources.consul_mesh import ConsulMeshSource
from gloo_nomad.sources.consul_mesh_services import ConsulMeshServicesSource
from gloo_nomad.store.mesh import MESH_IDENTITY, MESH_SERVICE, MeshIdentity
from tests import consul_services
from tests.source_listener import Listener, open_client

pytestmark = pytest.mark.consul
ports_of = partial(consul_services.ports_of, kind=MESH_SERVICE)


@asynccontextmanager
async def listening(agent: ConsulAgent) -> AsyncIterator[tuple[ConsulMeshSource, Listener]]:
    """A source of its own, and a listener on it."""
    client = open_client(agent)
    source = ConsulMeshSource(client)
    async with Listener(source) as listener:
        yield source, listener
    await client.close()


def identity_of(listener: Listener, service: str) -> MeshIdentity | None:
    """The identity as it is served."""
    found = listener.store.snapshot.of(MESH_IDENTITY).get(Ref("", service))
    return found if isinstance(found, MeshIdentity) else None


def sidecar(agent: ConsulAgent, service: str, port: int, **more: Any) -> str:
    """Registers a sidecar as somebody would who runs one; its id."""
    proxy = {"DestinationServiceName": service}
    return agent.register(f"{service}-proxy", port, Kind="connect-proxy", Proxy=proxy, **more)


def queries() -> list[str]:
    """The tasks that ask the agent."""
    return sorted(
        task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("consul-mesh-identity/")
    )


def test_wanted_and_not(consul: ConsulAgent) -> None:
    """Nothing is asked until somebody is wanted; another one replaces the one before; in the end nothing is left."""

    async def run() -> None:
        async with listening(consul) as (source, listener):
            source.want(frozenset())
            assert await listener.quiet() == []
            assert queries() == []
            assert source.state.listed

            source.want(frozenset({("", "mesh-one")}))
            await listener.until(lambda: identity_of(listener, "mesh-one"))
            assert queries() == ["consul-mesh-identity/certificate", "consul-mesh-identity/roots"]
            source.want(frozenset({("", "mesh-two")}))
            await listener.until(lambda: identity_of(listener, "mesh-two"))
            assert identity_of(listener, "mesh-one") is None
            assert len(queries()) == 2

            source.want(frozenset())
            await listener.until(lambda: identity_of(listener, "mesh-two") is None)
            assert queries() == []

    asyncio.run(run())


def test_what_it_is(consul: ConsulAgent) -> None:
    """The certificate is for the service, and one of the roots vouches for it."""

    async def run() -> None:
        async with listening(consul) as (source, listener):
            source.want(frozenset({("", "mesh-three")}))
            await listener.until(lambda: identity_of(listener, "mesh-three"))
            identity = identity_of(listener, "mesh-three")
            assert identity is not None
            leaf = x509.load_pem_x509_certificates(identity.secret.tls.cert_chain.encode())[0]
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.UniformResourceIdentifier) == [identity.place.spiffe("mesh-three")]
            leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(identity.secret.tls.root_ca.encode()))
            assert identity.place.datacenter == "dc1"

    asyncio.run(run())


def test_an_agent_that_goes(new_consul: Callable[..., ConsulAgent]) -> None:
    """While the agent is away the identity stays and the state says why; it is followed when the agent is back."""

    async def run() -> None:
        agent = await asyncio.to_thread(new_consul)
        async with listening(agent) as (source, listener):
            source.want(frozenset({("", "web")}))
            await listener.until(lambda: identity_of(listener, "web"))
            before = identity_of(listener, "web")
            await asyncio.to_thread(agent.stop)
            await listener.until(lambda: source.state.last_error)
            assert identity_of(listener, "web") is before

            await asyncio.to_thread(new_consul, port=agent.port)
            await listener.until(lambda: identity_of(listener, "web") != before, 60)
            assert identity_of(listener, "web") is not None
            await listener.until(lambda: source.state.last_error == "")

    asyncio.run(run())


def test_sidecars_follow_their_services(consul: ConsulAgent) -> None:
    """Only sidecars and native services are there, and a sidecar leaves while the check of its service fails."""
    check = {"CheckID": "mesh-web-check", "TTL": "600s", "Status": "passing"}
    registered = [consul.register("mesh-web", 8001, Check=check), consul.register("mesh-own", 8002)]
    registered += [sidecar(consul, "mesh-web", 21001, Check={"AliasService": "mesh-web-8001", "Name": "alias"})]
    registered += [consul.register("mesh-native", 8003, Connect={"Native": True})]

    async def run() -> None:
        client = open_client(consul)
        source = ConsulMeshServicesSource(client)
        async with Listener(source) as listener:
            source.want(frozenset({("", "mesh-web"), ("", "mesh-own"), ("", "mesh-native")}))
            await listener.until(lambda: ports_of(listener, "mesh-web") == [21001])
            await listener.until(lambda: ports_of(listener, "mesh-native") == [8003])
            assert ports_of(listener, "mesh-own") == []
            for state, ports in (("fail", []), ("pass", [21001])):
                await asyncio.to_thread(consul.request, "PUT", f"agent/check/{state}/mesh-web-check")
                await listener.until(lambda ports=ports: ports_of(listener, "mesh-web") == ports)  # type: ignore[misc]
        await client.close()

    asyncio.run(run())
    for instance in registered:
        consul.deregister(instance)


def test_more_services_than_queries(consul: ConsulAgent) -> None:
    """Services without a query of their own are read again when a sidecar comes or goes."""
    names = [f"mesh-many-{number}" for number in range(6)]
    registered = [sidecar(consul, name, 22000 + number) for number, name in enumerate(names)]

    async def run() -> None:
        client = open_client(consul)
        source = ConsulMeshServicesSource(client, max_queries=2)
        async with Listener(source) as listener:
            source.want(frozenset(("", name) for name in names))
            await listener.until(
                lambda: [ports_of(listener, name) for name in names] == [[p] for p in range(22000, 22006)]
            )
            second = await asyncio.to_thread(sidecar, consul, names[-1], 22100)
            await listener.until(lambda: ports_of(listener, names[-1]) == [22005, 22100], 30)
            await asyncio.to_thread(consul.deregister, second)
            await listener.until(lambda: ports_of(listener, names[-1]) == [22005], 30)
        await client.close()

    asyncio.run(run())
    for instance in registered:
        consul.deregister(instance)
