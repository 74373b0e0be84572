"""One discovery stream: a task that reads requests and one that writes responses."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio

from gloo_nomad.xds.access import Authorize, allow_all
from gloo_nomad.xds.cache import XdsCache
from gloo_nomad.xds.clients import Client, Node
from gloo_nomad.xds.ledger import Answer, Nack
from gloo_nomad.xds.metrics import XdsMetrics, short_type
from gloo_nomad.xds.session import Lane, ProtocolViolationError, Session
from gloo_nomad.xds.view import RoleView
from gloo_nomad.xds.wire import Outgoing

FIRST_REQUEST_SECONDS: Final = 30.0
"""How long a stream may stay without saying who it is."""

MOST_PAUSE: Final = 0.02
"""Seconds between the ends of two streams of a server that stops."""

LEAVING_SECONDS: Final = 0.1
"""How long the status of a stream waits that the client has closed. A client that closed its side is still there for
it; that a client has vanished is heard within this time, and no status is tried then."""

LONGEST_ROLE: Final = 512
_LOG: Final = structlog.get_logger(__name__)

NackCallback = Callable[[str, str, str, tuple[str, ...], str], None]
"""Called with role, node id, type URL, resource names and the client's words."""

RecoveryCallback = Callable[[str, str, str, tuple[str, ...]], None]
"""Called with role, node id, type URL and the resource names that were rejected before and are accepted now."""


def ignore_nack(role: str, node_id: str, type_url: str, names: tuple[str, ...], message: str) -> None:
    """Leaves a rejection to the log."""


def ignore_recovery(role: str, node_id: str, type_url: str, names: tuple[str, ...]) -> None:
    """Leaves a recovery to the log."""


class StreamServices:
    """What all streams of a server share."""

    def __init__(
        self,
        cache: XdsCache,
        metrics: XdsMetrics,
        on_nack: NackCallback = ignore_nack,
        on_recovery: RecoveryCallback = ignore_recovery,
        most_bytes: int = 64 * 1024 * 1024,
        *,
        authorize: Authorize = allow_all,
    ) -> None:
        self.cache = cache
        self.metrics = metrics
        self.on_nack = on_nack
        self.on_recovery = on_recovery
        self.most_bytes = most_bytes
        """A larger response is reported like a rejected one instead of being sent: gRPC would end the stream."""
        self.authorize = authorize
        self.stopping = False
        self._open: set[Stream] = set()

    def admit(self, context: Any, node: Node) -> None:
        """Raises StreamEndedError for a client that may not have the role that it names."""
        refused = self.authorize(context, node.role)
        if refused:
            peer = str(context.peer())
            _LOG.warning("xds role refused", node=node.node_id, role=node.role, peer=peer, reason=refused)
            self.metrics.refusals.inc()
            raise StreamEndedError(grpc.StatusCode.PERMISSION_DENIED, refused)

    @contextmanager
    def opened(self, stream: "Stream") -> Iterator[None]:
        """Counts a stream as open while it is served."""
        self._open.add(stream)
        if self.stopping:
            stream.end()
        try:
            yield
        finally:
            self._open.discard(stream)

    async def stop(self, seconds: float = 0.0) -> None:
        """Ends every stream as soon as it has sent what is under way, one after the other within *seconds*."""
        self.stopping = True
        streams = tuple(self._open)
        for stream in streams:
            stream.end()
            await asyncio.sleep(min(seconds / len(streams), MOST_PAUSE))


@dataclass(frozen=True, slots=True)
class Protocol:
    """One of the two protocols: how a request is read and what decides on the responses."""

    name: str
    delta: bool
    request: Any
    make_session: Callable[..., Session[Any]]


class StreamEndedError(Exception):
    """Ends the stream with a status that the client sees."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


def parse_node(node: Any) -> Node:
    """Who a client is, from the node of its first request; texts are cut to a sensible length."""
    role = node.metadata.fields["role"].string_value if "role" in node.metadata.fields else ""
    version = node.user_agent_build_version.version
    numbers = f"{version.major_number}.{version.minor_number}.{version.patch}" if version.ByteSize() else ""
    software = numbers or node.user_agent_version
    return Node(*(text[:LONGEST_ROLE] for text in (node.id, node.cluster, role, software)))


def parse_request(message: Any, payload: bytes, only_type: str) -> Any:
    """A request of the given message class; on a stream for one type, its type URL may be left out.

    Raises StreamEndedError if it is not one, or is for another type.
    """
    try:
        request = message.FromString(payload)
    except DecodeError:
        raise StreamEndedError(grpc.StatusCode.INVALID_ARGUMENT, "the request is not a discovery request") from None
    if only_type and request.type_url not in {"", only_type}:
        raise StreamEndedError(grpc.StatusCode.INVALID_ARGUMENT, f"this stream serves {only_type} only")
    request.type_url = only_type or request.type_url
    return request


class Stream:
    """One open stream."""

    def __init__(self, services: StreamServices, protocol: Protocol, context: Any, only_type: str) -> None:
        self._services = services
        self._protocol = protocol
        self._context = context
        self._only_type = only_type
        self._awake = asyncio.Event()
        self._connected_since = time.time()
        self._number = 0
        self._node = Node("", "", "", "")
        self._session: Session[Lane] | None = None
        self._ending = False
        self._closed = False
        """Whether the client has closed its side. A response that is under way is finished then: gRPC could not send
        the status of a call whose first response was given up halfway, and the client would wait for it for ever."""

    async def run(self) -> None:
        """Serves the stream until the client leaves, breaks the protocol, or the server stops.

        Raises CancelledError, without a status, when the client has vanished.
        """
        ended: StreamEndedError | None = None
        try:
            await _finish(asyncio.create_task(self._serve(), name="xds-stream"))
        except* StreamEndedError as group:
            ended = next(error for error in _leaves(group) if isinstance(error, StreamEndedError))
        if ended is None:
            await asyncio.sleep(LEAVING_SECONDS)
            return
        _LOG.info("xds stream ended", node=self._node.node_id, role=self._node.role, reason=ended.details)
        await self._context.abort(ended.code, ended.details)

    async def _serve(self) -> None:
        first = await self._first_request()
        if first is None:
            return
        self._node = parse_node(first.node)
        self._services.admit(self._context, self._node)
        cache, gauge = self._services.cache, self._services.metrics.streams.labels(self._protocol.name)
        view = cache.view(self._node.role, delta=self._protocol.delta)
        session = self._session = self._protocol.make_session(view, node_id=self._node.node_id)
        self._number = cache.registry.add(self)
        view.attach(self)
        gauge.inc()
        _LOG.info("xds stream opened", node=self._node.node_id, role=view.role, protocol=self._protocol.name)
        try:
            self._recall_rejections(view)
            with self._services.opened(self):
                await self._exchange(session, view, first)
        finally:
            gauge.dec()
            view.detach(self)
            cache.registry.remove(self._number)
            cache.release(view)

    async def _exchange(self, session: Session[Lane], view: RoleView, first: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(session, view), name=f"xds-writer-{self._number}")
            self._receive(session, first)
            while (request := await self._read()) is not None:
                self._receive(session, request)
            self._closed = True
            self._awake.set()

    async def _first_request(self) -> Any:
        try:
            async with asyncio.timeout(FIRST_REQUEST_SECONDS):
                return await self._read()
        except TimeoutError:
            raise StreamEndedError(grpc.StatusCode.DEADLINE_EXCEEDED, "no discovery request came") from None

    async def _read(self) -> Any:
        """The next request; None when the client has closed its side."""
        payload = await self._context.read()
        if payload is aio.EOF:  # type: ignore[attr-defined]
            return None
        return parse_request(self._protocol.request, payload, self._only_type)

    def _receive(self, session: Session[Lane], request: Any) -> None:
        try:
            answer = session.receive(request, time.monotonic())
        except ProtocolViolationError as error:
            raise StreamEndedError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        if answer is not None:
            self._report(answer)
        self._awake.set()

    def _report(self, answer: Answer) -> None:
        metrics, label = self._services.metrics, short_type(answer.type_url)
        if answer.nack is not None:
            metrics.nacks.labels(label).inc()
            self._report_nack(answer.type_url, answer.nack)
            return
        metrics.acks.labels(label).inc()
        if answer.recovered:
            node = self._node
            _LOG.info("xds resources accepted again", node=node.node_id, role=node.role, names=answer.recovered)
            self._services.on_recovery(node.role, node.node_id, answer.type_url, answer.recovered)

    def _recall_rejections(self, view: RoleView) -> None:
        """What the node rejected on an earlier stream it is not sent again, so it does not say it again."""
        node = self._node
        for type_url, name, nacks in view.standbys.rejections(node.node_id):
            wire = view.wires(type_url).get(name)
            if wire is not None and wire.version in nacks:
                self._services.on_nack(node.role, node.node_id, type_url, (name,), nacks[wire.version].message)

    def _report_nack(self, type_url: str, nack: Nack) -> None:
        node = self._node
        _LOG.warning(
            "xds resources rejected",
            node=node.node_id,
            role=node.role,
            type=short_type(type_url),
            names=nack.names[:20],
            message=nack.message,
        )
        self._services.on_nack(node.role, node.node_id, type_url, nack.names, nack.message)

    async def _write(self, session: Session[Lane], view: RoleView) -> None:
        """Writes what the session has to send until the client vanishes, which then ends the reader as well."""
        with suppress(aio.InternalError):
            await self._write_on(session, view)

    async def _write_on(self, session: Session[Lane], view: RoleView) -> None:
        while not self._closed:
            self._awake.clear()
            await self._write_all(session, view)
            if self._ending:
                raise StreamEndedError(grpc.StatusCode.UNAVAILABLE, "this server is stopping, connect to another one")
            await self._sleep(session)

    async def _write_all(self, session: Session[Lane], view: RoleView) -> None:
        metrics, protocol = self._services.metrics, self._protocol.name
        while (outgoing := session.next_response(time.monotonic())) is not None:
            frame = view.encoder.encode(outgoing)
            if len(frame.payload) > self._services.most_bytes:
                self._report_too_large(outgoing, len(frame.payload))
                continue
            label = short_type(outgoing.type_url)
            metrics.responses.labels(protocol, label).inc()
            metrics.response_bytes.labels(label).inc(len(frame.payload))
            metrics.resources.labels(label).inc(len(outgoing.wires))
            await self._context.write(frame.payload)

    def _report_too_large(self, outgoing: Outgoing, size: int) -> None:
        names = tuple(wire.name for wire in outgoing.wires)
        message = f"not sent: the response has {size} bytes, more than the limit of {self._services.most_bytes}"
        self._report_nack(outgoing.type_url, Nack(outgoing.version, names, message, time.monotonic()))

    async def _sleep(self, session: Session[Lane]) -> None:
        """Waits for a change, a request, the server's end or the session's own deadline."""
        now = time.monotonic()
        deadline = session.wake_at(now)
        with suppress(TimeoutError):
            async with asyncio.timeout(None if deadline is None else deadline - now):
                await self._awake.wait()

    def resources_changed(self, type_url: str, names: Collection[str]) -> None:
        """Tells the session what a publication changed."""
        if self._session is not None:
            self._session.resources_changed(type_url, names)

    def end(self) -> None:
        """Ends the stream, with what is under way sent."""
        self._ending = True
        self.wake()

    def wake(self) -> None:
        """Lets the writer look for something to send."""
        self._awake.set()

    def describe(self) -> Client:
        """The stream as a record."""
        types = self._session.states() if self._session is not None else ()
        peer = str(self._context.peer())
        return Client(self._number, self._node, peer, self._protocol.name, self._connected_since, types)


async def _finish(serving: "asyncio.Task[None]") -> None:
    """Returns when *serving* is over, also if gRPC cancels the call meanwhile, because the client has vanished.

    Reads and writes of such a call end by themselves. Cancelled before that, they would never be freed
    (https://github.com/grpc/grpc/issues/43360).
    """
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        await serving
        raise


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
