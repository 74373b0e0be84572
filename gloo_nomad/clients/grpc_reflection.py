"""Asks a gRPC server for its services and their descriptors by server reflection, ``v1`` and before that ``v1alpha``.

The messages of both are the same on the wire: https://grpc.io/docs/guides/reflection/. The server is a stranger: how
many services, files and bytes it may name is bounded, and so is the time.
"""

import asyncio
import graphlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2

from gloo_nomad.clients.address import Address, Tls
from gloo_nomad.clients.http import (
    BadAnswerError,
    ForbiddenError,
    NotFoundError,
    ServerError,
    TimedOutError,
    UnreachableError,
    WorldError,
    excerpt,
)

TIMEOUT: Final = 10.0
"""Seconds for everything."""
MAX_SERVICES: Final = 200
MAX_FILES: Final = 1000
MAX_BYTES: Final = 2 * 1024 * 1024
"""Of all descriptors together."""
INFRASTRUCTURE: Final = ("grpc.reflection.", "grpc.health.", "grpc.channelz.")
"""Services that are there for operators: clients have no use for them."""
_METHODS: Final = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")
)
_WELL_KNOWN: Final = "google/"
_ERRORS: Final[dict[grpc.StatusCode, type[WorldError]]] = {
    grpc.StatusCode.UNIMPLEMENTED: NotFoundError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAVAILABLE: UnreachableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOutError,
    grpc.StatusCode.UNAUTHENTICATED: ForbiddenError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: BadAnswerError,
}
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Reflected:
    """The services of a server, sorted, and a set of all descriptors that they need, imports first."""

    services: tuple[str, ...]
    descriptors: bytes


async def reflect(address: Address, tls: Tls) -> Reflected:
    """What the server at *address* says of itself.

    Raises:
        NotFoundError: it has no reflection.
        WorldError: it does not answer, or not what the protocol says.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            return await _reflect(address, tls)
    except TimeoutError:
        raise TimedOutError(f"reflection of {address}: no complete answer within {TIMEOUT:g} s") from None
    except grpc.aio.AioRpcError as failure:
        kind = _ERRORS.get(failure.code(), ServerError)
        raise kind(f"reflection of {address}: {failure.code().name} {excerpt(failure.details() or '')}") from None
    except OSError as failure:
        raise UnreachableError(f"reflection of {address}: {excerpt(str(failure))}") from None


async def _reflect(address: Address, tls: Tls) -> Reflected:
    async with _open(address, tls) as channel:
        for method in _METHODS[:-1]:
            try:
                return await _Conversation(channel, method).reflect()
            except grpc.aio.AioRpcError as failure:
                if failure.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
        return await _Conversation(channel, _METHODS[-1]).reflect()


def _open(address: Address, tls: Tls) -> grpc.aio.Channel:
    host = f"[{address.host}]" if ":" in address.host else address.host
    target = f"dns:///{host}:{address.port}"
    if address.scheme != "https":
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    roots = Path(tls.ca_file).read_bytes() if tls.ca_file else None
    named = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(roots), options=(*_OPTIONS, *named))


@dataclass(slots=True)
class _Conversation:
    """Questions and answers: each has a call of its own, which ends after the one question.

    A server may refuse a call before it reads a question. ``grpc.aio`` would then report a question that is written
    later as an internal error, and not what the server said.
    """

    channel: Any
    method: str
    files: dict[str, Any] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)
    """Files that others import and that were not looked for yet."""
    size: int = 0

    async def reflect(self) -> Reflected:
        answer = await self._ask(list_services="")
        names = {service.name for service in answer.list_services_response.service}
        services = sorted(name for name in names if not name.startswith(INFRASTRUCTURE))
        if len(services) > MAX_SERVICES:
            raise BadAnswerError(f"reflection names more than {MAX_SERVICES} services")
        for name in services:
            self._take(await self._ask(file_containing_symbol=name))
        await self._complete()
        return Reflected(tuple(services), _ordered(self.files))

    async def _ask(self, **question: str) -> Any:
        call = self.channel.unary_stream(
            self.method,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(reflection_pb2.ServerReflectionRequest(**question))
        try:
            answer = await call.read()
        finally:
            call.cancel()
        if not isinstance(answer, reflection_pb2.ServerReflectionResponse):
            raise BadAnswerError("reflection ended in the middle")
        return answer

    def _take(self, answer: Any) -> None:
        for data in answer.file_descriptor_response.file_descriptor_proto:
            try:
                file = descriptor_pb2.FileDescriptorProto.FromString(data)
            except DecodeError:
                raise BadAnswerError("reflection answered with what is no descriptor") from None
            if file.name in self.files:
                continue
            file.ClearField("source_code_info")
            self.files[file.name] = file
            self.imported.update(file.dependency)
            self.size += len(data)
            if len(self.files) > MAX_FILES or self.size > MAX_BYTES:
                raise BadAnswerError(f"reflection has more than {MAX_FILES} files or {MAX_BYTES} bytes")

    async def _complete(self) -> None:
        """Asks for imports until none is missing; those of Google are known here if the server does not have them."""
        while self.imported:
            name = self.imported.pop()
            if name in self.files:
                continue
            self._take(await self._ask(file_by_filename=name))
            if name not in self.files:
                self.files[name] = _well_known(name)
                self.imported.update(self.files[name].dependency)


def _well_known(name: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto()
    try:
        if name.startswith(_WELL_KNOWN):
            descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
            return file
    except KeyError:
        pass
    raise BadAnswerError(f"reflection lacks the file {excerpt(name)}, which others import")


def _ordered(files: dict[str, Any]) -> bytes:
    """All files as a set, each after those that it imports; the same files are the same bytes."""
    imports = {name: list(files[name].dependency) for name in sorted(files)}
    try:
        names = [*graphlib.TopologicalSorter(imports).static_order()]
    except graphlib.CycleError:
        raise BadAnswerError("reflection has files that import each other in a circle") from None
    built = descriptor_pb2.FileDescriptorSet(file=[files[name] for name in names])
    return built.SerializeToString(deterministic=True)
