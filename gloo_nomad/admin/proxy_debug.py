"""The proxy debug service: ``gloo.solo.io.ProxyEndpointService/GetProxies`` on port 9966, as the reference has it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from grpc import aio
from grpc_reflection.v1alpha import reflection

from gloo_nomad.admin.label_text import parse_requirements
from gloo_nomad.admin.proxy_messages import LABELS, build_proxy
from gloo_nomad.api.gen import proxy_debug_pb2, proxy_debug_pb2_grpc
from gloo_nomad.gateway.labels import Requirement, admits
from gloo_nomad.proxies import Proxy
from gloo_nomad.serving import ServingError, bind, shown

MAX_ANSWER: Final = 256 * 1024 * 1024
"""Bytes; a proxy of ten thousand virtual services is about 50 MiB."""


class ProxyDebug(proxy_debug_pb2_grpc.ProxyEndpointServiceServicer):
    """Answers from what is in memory."""

    def __init__(self, proxies: Callable[[], Sequence[Proxy]]) -> None:
        self._proxies = proxies

    async def GetProxies(  # noqa: N802  # the contract's name
        self, request: proxy_debug_pb2.ProxyEndpointRequest, context: aio.ServicerContext[Any, Any]
    ) -> proxy_debug_pb2.ProxyEndpointResponse:
        """The proxies that fit the request, sorted by namespace and name."""
        if request.name and not request.namespace:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a name needs its namespace")
        try:
            requirements = parse_requirements(request.expression_selector)
        except ValueError as reason:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"expression_selector: {reason}")
        if not requirements:
            requirements = tuple(Requirement(*pair) for pair in _equalities(request.selector))
        chosen = select_proxies(self._proxies(), request.namespace, request.name, requirements)
        if request.name and not chosen:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no proxy {request.namespace}.{request.name}")
        return await asyncio.to_thread(_build_answer, chosen)


def _equalities(selector: Mapping[str, str]) -> Iterator[tuple[str, str, frozenset[str]]]:
    return ((key, "Equals", frozenset({value})) for key, value in sorted(selector.items()))


def _build_answer(proxies: Iterable[Proxy]) -> proxy_debug_pb2.ProxyEndpointResponse:
    """In a thread: thousands of virtual services are copied, and Envoys must not wait meanwhile."""
    return proxy_debug_pb2.ProxyEndpointResponse(proxies=[build_proxy(proxy) for proxy in proxies])


def select_proxies(
    proxies: Iterable[Proxy], namespace: str, name: str, requirements: Iterable[Requirement] = ()
) -> list[Proxy]:
    """Proxies of a namespace, of a name, or with labels; every computed proxy has the same labels."""
    fits = admits(requirements, LABELS)
    return sorted(
        (
            proxy
            for proxy in proxies
            if namespace in {"", proxy.ref.namespace} and (proxy.ref.name == name if name else fits)
        ),
        key=lambda proxy: proxy.ref,
    )


@asynccontextmanager
async def serving_proxies(host: str, port: int, proxies: Callable[[], Sequence[Proxy]]) -> AsyncIterator[int]:
    """Serves inside the block, and yields the port.

    Raises:
        ServingError: the address is taken.
    """
    bind(host, port, "the proxy debug server", "gloo.proxyDebugBindAddr").close()
    server = aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", MAX_ANSWER)])
    proxy_debug_pb2_grpc.add_ProxyEndpointServiceServicer_to_server(ProxyDebug(proxies), server)
    service = proxy_debug_pb2.DESCRIPTOR.services_by_name["ProxyEndpointService"].full_name
    reflection.enable_server_reflection((service, reflection.SERVICE_NAME), server)
    try:
        bound = server.add_insecure_port(shown(host, port))
    except RuntimeError as failure:
        raise ServingError(f"the proxy debug server cannot listen on {shown(host, port)}") from failure
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(1.0)
