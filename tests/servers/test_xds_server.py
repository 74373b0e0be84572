"""The server around the streams: binding, health, reflection, TLS, metrics, stopping, many and slow clients."""

import asyncio
import gc
import socket
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.resources import CLUSTER, ENDPOINTS, ROUTES
from gloo_nomad.xds.server import ServerLimits, XdsBindError, parse_address
from tests.xds_client import DeltaClient, SotwClient
from tests.xds_world import connected, in_loop, names, open_world, resources

_ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"


@in_loop
async def test_a_taken_port_is_one_clear_line() -> None:
    """The error names the address, the reason and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(XdsBindError) as raised:
            async with open_world(address):
                pass
    text = str(raised.value)
    assert address in text
    assert "in use" in text
    assert "gloo.xdsBindAddr" in text
    assert "\n" not in text


@in_loop
async def test_two_servers_do_not_share_a_port() -> None:
    """GRPC would let them by SO_REUSEPORT, and half of the Envoys would go to either."""
    async with open_world() as world:
        with pytest.raises(XdsBindError):
            async with open_world(world.address):
                pass


@pytest.mark.parametrize("address", ["", "9977", "host:", "host:port", "host:70000", "host:-1"])
def test_an_address_that_is_none_is_one_clear_line(address: str) -> None:
    """The error says what an address looks like."""
    with pytest.raises(XdsBindError, match=r"not host:port.*gloo\.xdsBindAddr"):
        parse_address(address)


@pytest.mark.parametrize(
    ("address", "expected"), [("0.0.0.0:9977", ("0.0.0.0", 9977)), ("[::1]:0", ("::1", 0)), (":80", ("0.0.0.0", 80))]
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    """Host and port are told apart, brackets of IPv6 are taken off, no host means all."""
    assert parse_address(address) == expected


@in_loop
async def test_health() -> None:
    """The gRPC health service answers for the server and for each discovery service."""
    async with open_world() as world, aio.insecure_channel(world.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", _ADS):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await world.server.set_serving(serving=False)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=_ADS))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


@in_loop
async def test_reflection_lists_the_services() -> None:
    """Tools find the discovery services without proto files."""
    async with open_world() as world, aio.insecure_channel(world.address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        found = {service.name for service in answer.list_services_response.service}
        call.cancel()
        assert {_ADS, "envoy.service.secret.v3.SecretDiscoveryService", "grpc.health.v1.Health"} <= found


@in_loop
async def test_stopping_tells_the_clients() -> None:
    """Streams end at once with a status on which a client tries elsewhere."""
    async with connected(clusters=resources("a")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        began = time.monotonic()
        await world.server.stop(5.0)
        assert await client.ending() == grpc.StatusCode.UNAVAILABLE
        assert "stopping" in await client.ending_text()
        assert time.monotonic() - began < 2.0
        assert world.cache.clients() == ()


@in_loop
async def test_stopping_leaves_nothing() -> None:
    """Many streams end one after the other, nobody can come back, and no task is left."""
    async with AsyncExitStack() as stack, open_world() as world:
        world.publish(clusters=resources("a"))
        clients = [await stack.enter_async_context(DeltaClient(world.address, node_id=f"{i}")) for i in range(20)]
        for client in clients:
            await client.subscribe(CLUSTER)
            await client.accept()
        stopping, left = asyncio.create_task(world.server.stop(5.0)), set()
        while not stopping.done():
            left.add(len(world.cache.clients()))
            await asyncio.sleep(0.002)
        assert len(left) > 5
        assert {await client.ending() for client in clients} == {grpc.StatusCode.UNAVAILABLE}
        assert {task.get_name() for task in asyncio.all_tasks() if "xds" in task.get_name()} == set()
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", world.server.port)


@in_loop
async def test_metrics() -> None:
    """Streams, responses, resources, bytes, ACKs and NACKs are counted by type."""
    async with connected(clusters=resources("a", "b")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        world.publish(clusters=resources("a", "b", a="changed"))
        await client.nack(await client.receive())
        await world.until(lambda: bool(world.nacks))
        assert world.metric("gloo_nomad_xds_streams", protocol="delta") == 1
        assert world.metric("gloo_nomad_xds_responses_total", protocol="delta", type="Cluster") == 2
        assert world.metric("gloo_nomad_xds_resources_total", type="Cluster") == 3
        assert world.metric("gloo_nomad_xds_response_bytes_total", type="Cluster") > 100
        assert world.metric("gloo_nomad_xds_acks_total", type="Cluster") == 1
        assert world.metric("gloo_nomad_xds_nacks_total", type="Cluster") == 1
    assert world.metric("gloo_nomad_xds_streams", protocol="delta") == 0


@in_loop
async def test_unknown_types_share_one_metric_label() -> None:
    """A client cannot make time series by asking for types that do not exist."""
    async with connected() as (world, client):
        for number in range(3):
            await client.subscribe(f"type.googleapis.com/envoy.Invented{number}", "a")
            await client.accept()
        assert world.metric("gloo_nomad_xds_responses_total", protocol="delta", type="other") == 3


@in_loop
async def test_clients_are_described() -> None:
    """The record of a stream says who it is, what it asks for, and what it has accepted."""
    async with (
        connected(clusters=resources("a")) as (world, client),
        SotwClient(world.address, node_id="second") as two,
    ):
        await client.subscribe(CLUSTER)
        response = await client.accept()
        await two.subscribe(ROUTES, "r", "s")
        await world.until(lambda: len(world.cache.clients()) == 2)
        await world.until(lambda: world.cache.clients()[0].types[0].acked_version != "")
        first, second = world.cache.clients()
        assert (first.node.node_id, first.protocol, first.types[0].wildcard) == ("test-node", "delta", True)
        assert first.types[0].acked_version == response.system_version_info
        assert first.types[0].is_current
        assert first.peer.startswith("ipv4:127.0.0.1:")
        assert abs(first.connected_since - time.time()) < 60
        assert (second.node.node_id, second.protocol, second.types[0].subscribed) == ("second", "sotw", 2)


@in_loop
async def test_a_client_that_vanishes_is_forgotten() -> None:
    """A cancelled stream leaves no record, no watcher and no task."""
    async with open_world() as world:
        before = len(asyncio.all_tasks())
        for _ in range(5):
            async with DeltaClient(world.address, "never~published") as client:
                await client.subscribe(CLUSTER)
                await world.until(lambda: len(world.cache.clients()) == 1)
            await world.until(lambda: not world.cache.clients())
        await world.until(lambda: len(asyncio.all_tasks()) <= before)
        assert not world.cache._views


@in_loop
async def test_a_request_larger_than_the_limit_ends_the_stream() -> None:
    """The size of what a client may send is bounded."""
    async with open_world(limits=ServerLimits(receive_bytes=100_000)) as world, DeltaClient(world.address) as client:
        await client.send_bytes(b"\0" * 200_000)
        assert await client.ending() == grpc.StatusCode.RESOURCE_EXHAUSTED


@in_loop
async def test_a_response_larger_than_the_limit_is_reported_and_not_sent() -> None:
    """It would end the stream; so the Envoy keeps what it has, and everything else goes on."""
    async with open_world(limits=ServerLimits(send_bytes=100_000)) as world, DeltaClient(world.address) as client:
        world.publish(routes=resources("big", "small", big="x" * 4_000_000), clusters=resources("a"))
        await client.subscribe(ROUTES, "big")
        await world.until(lambda: bool(world.nacks))
        assert world.nacks[0][2:4] == (ROUTES, ("big",))
        assert "100000" in world.nacks[0][4]
        await client.subscribe(CLUSTER)
        assert names(await client.accept()) == ["a"]


@in_loop
async def test_clients_that_vanish_during_a_response_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Streams that break while megabytes are written end without an error in the log, a task or a record."""
    big = {f"r{number}": "x" * 2_000_000 for number in range(10)}
    async with open_world() as world:
        world.publish(routes=resources(*big, **big))
        before = len(asyncio.all_tasks())
        for number in range(30):
            async with DeltaClient(world.address) as client:
                await client.subscribe(ROUTES)
                await asyncio.sleep(number / 1_000)
        await world.until(lambda: not world.cache.clients())
        await world.until(lambda: len(asyncio.all_tasks()) <= before)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@in_loop
async def test_tls() -> None:
    """With credentials the server speaks TLS, and plain text is refused."""
    authority = Authority()
    pair = authority.issue("localhost", "127.0.0.1")
    credentials = grpc.ssl_server_credentials([(pair.private_key.encode(), pair.certificates.encode())])
    trust = grpc.ssl_channel_credentials(authority.certificate.encode())
    async with open_world(credentials=credentials) as world:
        world.publish(clusters=resources("a"))
        async with DeltaClient(world.address, credentials=trust) as client:
            await client.subscribe(CLUSTER)
            assert names(await client.accept()) == ["a"]
        async with DeltaClient(world.address) as plain:
            with pytest.raises(aio.AioRpcError):
                await plain.receive()


@in_loop
async def test_a_reader_that_does_not_read_delays_nobody() -> None:
    """A client that takes nothing off its connection holds up neither the publication nor the others."""
    big = {f"r{number}": "x" * 4_000_000 for number in range(6)}
    async with connected(routes=resources(*big, **big)) as (world, client):
        stuck = DeltaClient(world.address, node_id="stuck")
        stuck._channel = aio.insecure_channel(world.address, options=[("grpc.use_local_subchannel_pool", 1)])
        call: Any = stuck._channel.stream_stream(stuck.method)
        stuck._call = call()
        await stuck.subscribe(ROUTES)
        await world.until(lambda: len(world.cache.clients()) == 1)
        await client.subscribe(ROUTES)
        assert len(await client.settle()) == 6
        for number in range(5):
            world.publish(routes=resources(*big, **{**big, "r0": f"{number}"}))
            assert names(await client.accept()) == ["r0"]
        stuck._call.cancel()
        await stuck._channel.close()


@in_loop
async def test_many_streams_get_a_change() -> None:
    """200 streams of one role all get one change, and then are quiet."""
    async with open_world() as world:
        world.publish(endpoints=resources("a", "b"))
        clients = [DeltaClient(world.address, node_id=f"node-{number}") for number in range(200)]
        for client in clients:
            await client.__aenter__()
        await asyncio.gather(*(client.subscribe(ENDPOINTS, "a") for client in clients))
        await asyncio.gather(*(client.accept(30.0) for client in clients))
        world.publish(endpoints=resources("a", "b", a="moved"))
        responses = await asyncio.gather(*(client.accept(30.0) for client in clients))
        assert {response.resources[0].resource.value for response in responses} == {b"moved"}
        assert len(world.cache.clients()) == 200
        await asyncio.gather(*(client.__aexit__(None, None, None) for client in clients))
        await world.until(lambda: not world.cache.clients())


@in_loop
async def test_encoded_responses_are_not_kept() -> None:
    """The bytes of a response live only while they are sent."""
    async with connected(clusters=resources("a")) as (world, client):
        await client.subscribe(CLUSTER)
        await client.accept()
        gc.collect()
        assert len(world.cache.view("gloo-system~gateway-proxy").encoder) == 0
