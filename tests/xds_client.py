"""Raw discovery clients for tests and benchmarks: they answer only what they are told to."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from grpc import aio

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
DELTA_ADS = ADS + "DeltaAggregatedResources"
SOTW_ADS = ADS + "StreamAggregatedResources"
ROLE = "gloo-system~gateway-proxy"
_OPTIONS = [("grpc.max_receive_message_length", 256 * 1024 * 1024), ("grpc.use_local_subchannel_pool", 1)]

Response = TypeVar("Response")
Held = dict[str, dict[str, str]]


def build_node(role: str | None, node_id: str = "test-node") -> Any:
    """A node as Envoy introduces itself; without a role if it is None."""
    node = base_pb2.Node(id=node_id, cluster="tests")
    if role is not None:
        node.metadata.fields["role"].string_value = role
    return node


class StreamClient(Generic[Response]):
    """One stream; a background task collects the responses, so that waiting with a time-out is harmless."""

    method: str
    response_class: Any

    def __init__(
        self,
        target: str,
        role: str | None = ROLE,
        *,
        node_id: str = "test-node",
        method: str = "",
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._target = target
        self._node: Any = build_node(role, node_id)
        self._method = method or self.method
        self._credentials = credentials
        self._responses: asyncio.Queue[Response | Exception] = asyncio.Queue()
        self._peeked: deque[Response | Exception] = deque()

    async def __aenter__(self) -> Self:
        if self._credentials is None:
            self._channel: Any = aio.insecure_channel(self._target, options=_OPTIONS)
        else:
            self._channel = aio.secure_channel(self._target, self._credentials, options=_OPTIONS)
        self._call: Any = self._channel.stream_stream(self._method)()
        self._reader = asyncio.create_task(self._read(), name="test-client-reader")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._call.cancel()
        await self._channel.close()

    async def _read(self) -> None:
        try:
            while (payload := await self._call.read()) is not aio.EOF:  # type: ignore[attr-defined]
                self._responses.put_nowait(self.response_class.FromString(payload))
            self._responses.put_nowait(EOFError(str(await self._call.code())))
        except aio.AioRpcError as error:
            self._responses.put_nowait(error)

    async def send(self, request: Any) -> None:
        """Sends a request; the first one carries the node."""
        if self._node is not None:
            request.node.CopyFrom(self._node)
            self._node = None
        await self._call.write(request.SerializeToString())

    async def send_bytes(self, payload: bytes) -> None:
        """Sends anything."""
        await self._call.write(payload)

    async def done_writing(self) -> None:
        """Closes this side of the stream."""
        await self._call.done_writing()

    async def receive(self, within: float = 5.0) -> Response:
        """The next response; raises TimeoutError, or what ended the stream."""
        async with asyncio.timeout(within):
            response = self._peeked.popleft() if self._peeked else await self._responses.get()
        if isinstance(response, Exception):
            raise response
        return response

    async def is_quiet(self, seconds: float = 0.15) -> bool:
        """Whether no response comes within this time."""
        if not self._peeked:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    self._peeked.append(await self._responses.get())
        return not self._peeked

    async def ending(self) -> grpc.StatusCode:
        """The status with which the server ended the stream."""
        async with asyncio.timeout(5.0):
            code: grpc.StatusCode = await self._call.code()
        return code

    async def ending_text(self) -> str:
        """The text beside that status."""
        return str(await self._call.details())


class DeltaClient(StreamClient[Any]):
    """A delta stream; ``held`` is what the client has, by type and name, as versions."""

    method = DELTA_ADS
    response_class = discovery_pb2.DeltaDiscoveryResponse

    def __init__(self, target: str, role: str | None = ROLE, **options: Any) -> None:
        super().__init__(target, role, **options)
        self.held: Held = {}

    async def subscribe(self, type_url: str, *names: str, held: Mapping[str, str] | None = None) -> None:
        """Asks for names, or for everything without any in a first request; ``held`` is of an earlier stream."""
        self.held.setdefault(type_url, dict(held or {}))
        await self.send(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url, resource_names_subscribe=names, initial_resource_versions=dict(held or {})
            )
        )

    async def unsubscribe(self, type_url: str, *names: str) -> None:
        """Gives names up."""
        await self.send(discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_unsubscribe=names))

    async def send_names(self, response: Any, subscribe: Iterable[str] = (), unsubscribe: Iterable[str] = ()) -> None:
        """Answers a response and changes the subscription in the same request."""
        await self.send(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url,
                response_nonce=response.nonce,
                resource_names_subscribe=subscribe,
                resource_names_unsubscribe=unsubscribe,
            )
        )

    async def ack(self, response: Any) -> None:
        """Accepts a response and keeps what it brought."""
        held = self.held.setdefault(response.type_url, {})
        held.update({resource.name: resource.version for resource in response.resources})
        for name in response.removed_resources:
            held.pop(name, None)
        await self.send(discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce))

    async def nack(self, response: Any, message: str = "rejected") -> None:
        """Rejects a response."""
        await self.send(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url,
                response_nonce=response.nonce,
                error_detail=status_pb2.Status(code=3, message=message),
            )
        )

    async def accept(self, within: float = 5.0) -> Any:
        """The next response, accepted."""
        response = await self.receive(within)
        await self.ack(response)
        return response

    async def settle(self, quiet: float = 0.2) -> list[Any]:
        """Accepts responses until none comes any more."""
        responses = []
        while not await self.is_quiet(quiet):
            responses.append(await self.accept())
        return responses


class SotwClient(StreamClient[Any]):
    """A state-of-the-world stream; remembers the names of each type, as every request repeats them."""

    method = SOTW_ADS
    response_class = discovery_pb2.DiscoveryResponse

    def __init__(self, target: str, role: str | None = ROLE, **options: Any) -> None:
        super().__init__(target, role, **options)
        self._names: dict[str, tuple[str, ...]] = {}
        self._versions: dict[str, str] = {}
        self._nonces: dict[str, str] = {}

    def version(self, type_url: str) -> str:
        """The version that it accepted last."""
        return self._versions[type_url]

    async def subscribe(self, type_url: str, *names: str, version: str | None = None, nonce: str | None = None) -> None:
        """Asks for exactly these names; version and nonce are the last ones of the type unless given."""
        self._names[type_url] = names
        await self.send(
            discovery_pb2.DiscoveryRequest(
                type_url=type_url,
                resource_names=names,
                version_info=self._versions.get(type_url, "") if version is None else version,
                response_nonce=self._nonces.get(type_url, "") if nonce is None else nonce,
            )
        )

    async def ack(self, response: Any) -> None:
        """Accepts a response."""
        self._versions[response.type_url] = response.version_info
        self._nonces[response.type_url] = response.nonce
        await self.subscribe(response.type_url, *self._names.get(response.type_url, ()))

    async def nack(self, response: Any, message: str = "rejected") -> None:
        """Rejects a response: the version stays the one before."""
        self._nonces[response.type_url] = response.nonce
        await self.send(
            discovery_pb2.DiscoveryRequest(
                type_url=response.type_url,
                resource_names=self._names.get(response.type_url, ()),
                version_info=self._versions.get(response.type_url, ""),
                response_nonce=response.nonce,
                error_detail=status_pb2.Status(code=3, message=message),
            )
        )

    async def accept(self, within: float = 5.0) -> Any:
        """The next response, accepted."""
        response = await self.receive(within)
        await self.ack(response)
        return response
