"""Mutual TLS of the xDS server: who may connect, which role each may have on every call, exchanged certificates."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gloo_nomad.demo.certificates import Authority, KeyPair
from gloo_nomad.resources import CLUSTER
from gloo_nomad.xds.access import parse_rules
from gloo_nomad.xds.keys import KeyFiles, KeyMistakeError, build_credentials
from gloo_nomad.xds.services import SERVICES
from tests.xds_client import ROLE, DeltaClient, SotwClient, build_node
from tests.xds_world import World, in_loop, names, open_world, resources

OTHER = "gloo-system~other"
_METHODS = [f"/{service.name}/{method}" for service in SERVICES for method in service.methods]


class Place:
    """The files of a server, and what a client needs."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        self.chain, self.key, self.roots = (folder / name for name in ("server.pem", "key.pem", "ca.pem"))
        self.roots.write_text(self.authority.certificate)
        self.write(self.authority.issue("127.0.0.1"))

    def write(self, pair: KeyPair) -> None:
        """Exchanges the server's certificate, each file at once, as tools do that renew certificates."""
        for file, text in ((self.key, pair.private_key), (self.chain, pair.certificates)):
            unfinished = file.with_suffix(".new")
            unfinished.write_text(text)
            unfinished.rename(file)

    def files(self) -> KeyFiles:
        """The server's view of them."""
        return KeyFiles(self.chain, self.key, self.roots)

    def trust(self, pair: KeyPair | None, authority: Authority | None = None) -> grpc.ChannelCredentials:
        """A client with a certificate, or without one."""
        roots = (authority or self.authority).certificate.encode()
        if pair is None:
            return grpc.ssl_channel_credentials(roots)
        return grpc.ssl_channel_credentials(roots, pair.private_key.encode(), pair.certificates.encode())


@asynccontextmanager
async def secured(folder: Path) -> AsyncIterator[tuple[World, Place]]:
    """A server with a snapshot, whose client ``proxy.test`` may have the tests' role."""
    place = Place(folder)
    rules = parse_rules({"proxy.test": ROLE})
    async with open_world(credentials=build_credentials(place.files().current), authorize=rules) as world:
        world.publish(clusters=resources("a"))
        yield world, place


async def is_refused(world: World, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether no stream can be opened, as the handshake fails."""
    async with DeltaClient(world.address, credentials=credentials) as client:
        with pytest.raises(aio.AioRpcError) as raised:
            await client.receive(20.0)
    assert not world.cache.clients()
    return raised.value.code() is grpc.StatusCode.UNAVAILABLE


@in_loop
async def test_a_client_with_a_certificate_gets_its_role(tmp_path: Path) -> None:
    """By delta, by the state of the world, and by a fetch."""
    async with secured(tmp_path) as (world, place):
        credentials = place.trust(place.authority.issue("proxy.test"))
        for kind in (DeltaClient, SotwClient):
            async with kind(world.address, credentials=credentials) as client:
                await client.subscribe(CLUSTER)
                assert (await client.accept(20.0)).type_url == CLUSTER
        async with aio.secure_channel(world.address, credentials) as channel:
            request = discovery_pb2.DiscoveryRequest(node=build_node(ROLE), type_url=CLUSTER)
            opened: Any = channel
            call = opened.unary_unary("/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters")
            answer = await call(request.SerializeToString())
            assert discovery_pb2.DiscoveryResponse.FromString(answer).type_url == CLUSTER


@pytest.mark.parametrize("method", _METHODS)
@in_loop
async def test_a_role_that_is_not_allowed_is_refused_by_every_call(tmp_path: Path, method: str) -> None:
    """The status is PERMISSION_DENIED, its text names role and certificate, and nothing is told."""
    async with secured(tmp_path) as (world, place):
        world.cache.publish({OTHER: world.cache.snapshots()[ROLE]})
        credentials = place.trust(place.authority.issue("proxy.test"))
        delta = "Delta" in method
        request: Any = discovery_pb2.DeltaDiscoveryRequest() if delta else discovery_pb2.DiscoveryRequest()
        request.node.CopyFrom(build_node(OTHER))
        async with aio.secure_channel(world.address, credentials) as channel:
            opened: Any = channel
            call = opened.unary_unary(method) if "/Fetch" in method else opened.stream_stream(method)
            running = call(request.SerializeToString()) if "/Fetch" in method else call()
            if "/Fetch" not in method:
                await running.write(request.SerializeToString())
            async with asyncio.timeout(20.0):
                assert await running.code() is grpc.StatusCode.PERMISSION_DENIED
            told = await running.details()
        assert told == f'the role "{OTHER}" is not allowed for the certificate of this client (proxy.test)'
        assert world.metric("gloo_nomad_xds_refusals_total") == 1
        assert world.metric("gloo_nomad_xds_responses_total", protocol="delta", type="Cluster") == 0


@in_loop
async def test_another_certificate_of_the_authority_has_no_role(tmp_path: Path) -> None:
    """To be signed by the same authority is not enough."""
    async with secured(tmp_path) as (world, place):
        credentials = place.trust(place.authority.issue("other.test"))
        async with DeltaClient(world.address, credentials=credentials) as client:
            await client.subscribe(CLUSTER)
            async with asyncio.timeout(20.0):
                assert await client.ending() is grpc.StatusCode.PERMISSION_DENIED


@in_loop
async def test_who_cannot_connect(tmp_path: Path) -> None:
    """Plain text, no certificate, one of another authority, one that has ended, one that signed itself."""
    async with secured(tmp_path) as (world, place):
        stranger = Authority()
        assert await is_refused(world, None)
        assert await is_refused(world, place.trust(None))
        assert await is_refused(world, place.trust(stranger.issue("proxy.test")))
        assert await is_refused(world, place.trust(place.authority.issue("proxy.test", days=-1)))
        assert await is_refused(world, place.trust(place.authority.issue("proxy.test"), stranger))


@in_loop
async def test_health_and_reflection_need_a_certificate_and_no_role(tmp_path: Path) -> None:
    """They say nothing about any role."""
    async with secured(tmp_path) as (world, place):
        credentials = place.trust(place.authority.issue("other.test"))
        async with aio.secure_channel(world.address, credentials) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            call = stub.ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            assert (await call.read()).list_services_response.service
            call.cancel()
        async with aio.secure_channel(world.address, place.trust(None)) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            with pytest.raises(aio.AioRpcError):
                await health.Check(health_pb2.HealthCheckRequest(), timeout=20.0)


@in_loop
async def test_an_exchanged_certificate_drops_no_stream(tmp_path: Path) -> None:
    """New connections get the new one, of another authority even, and open streams go on."""
    async with secured(tmp_path) as (world, place):
        pair = place.authority.issue("proxy.test")
        async with DeltaClient(world.address, credentials=place.trust(pair)) as before:
            await before.subscribe(CLUSTER)
            await before.accept(20.0)
            second = Authority()
            place.write(second.issue("127.0.0.1"))
            place.roots.write_text(place.authority.certificate + second.certificate)
            for mine in (pair, second.issue("proxy.test")):
                async with DeltaClient(world.address, credentials=place.trust(mine, second)) as after:
                    await after.subscribe(CLUSTER)
                    assert names(await after.accept(20.0)) == ["a"]
            world.publish(clusters=resources("a", "b"))
            assert names(await before.accept(20.0)) == ["b"]


@in_loop
async def test_a_broken_exchange_changes_nothing(tmp_path: Path) -> None:
    """A half-written file, or a key without its certificate: the last pair is served until there is a good one."""
    async with secured(tmp_path) as (world, place):
        credentials = place.trust(place.authority.issue("proxy.test"))
        good = place.key.read_text()
        for broken in ("", "-----BEGIN", place.authority.issue("127.0.0.1").private_key, good[: len(good) // 2]):
            place.key.write_text(broken)
            async with DeltaClient(world.address, credentials=credentials) as client:
                await client.subscribe(CLUSTER)
                assert names(await client.accept(20.0)) == ["a"]
        place.key.unlink()
        async with DeltaClient(world.address, credentials=credentials) as client:
            await client.subscribe(CLUSTER)
            assert names(await client.accept(20.0)) == ["a"]


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("key.pem", "nonsense", "the private key cannot be read: it is to be PEM without a password"),
        ("server.pem", "nonsense", "the certificate cannot be read"),
        ("ca.pem", "", "the certificate authority of the clients cannot be read"),
        ("key.pem", None, r"key\.pem cannot be read: No such file or directory"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, file: str, text: str | None, told: str) -> None:
    """One line says which and why, without what is in it."""
    place = Place(tmp_path)
    (tmp_path / file).unlink()
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(KeyMistakeError, match=told):
        place.files()


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    """It is told, and the key is in no text."""
    place = Place(tmp_path)
    other = place.authority.issue("127.0.0.1").private_key
    place.key.write_text(other)
    with pytest.raises(KeyMistakeError, match="the private key is of another certificate") as raised:
        place.files()
    assert other.splitlines()[1] not in str(raised.value)
