"""One look at one Upstream: its service is asked for a document, or for its services by reflection."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.clients.grpc_reflection import reflect
from gloo_nomad.clients.http import NotFoundError, WorldError
from gloo_nomad.discovery.functions import (
    Look,
    service_spec,
    usable_services,
    with_functions,
    with_services,
)
from gloo_nomad.discovery.openapi_lookup import FoundDocument, find_document, read_functions
from gloo_nomad.discovery.origins import Origin, own_path
from gloo_nomad.discovery.rest_functions import FoundFunctions


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look found out."""

    upstream: upstream_pb2.Upstream | None = None
    """The Upstream as it should be; None if nothing was found."""
    absent: bool = False
    """The service answered that it does not have what was looked for: not the same as not answering."""
    reason: str = ""
    """Why nothing was found, or what of it is left out."""


NO_ADDRESS: Final = Outcome(reason="no healthy instance, or no address")
Step = Callable[[upstream_pb2.Upstream, Origin], Awaitable[Outcome]]


async def look_up(
    upstream: upstream_pb2.Upstream, look: Look, origins: Sequence[Origin], switched_on: Iterable[Look]
) -> Outcome:
    """Asks the first address that answers. *switched_on* says which of OPENAPI and GRPC are looked for."""
    outcome = NO_ADDRESS
    if look is Look.DOCUMENT:
        return await _read_document(upstream, origins)
    for origin in origins:
        outcome = await _ask(upstream, origin, _steps(upstream, look, frozenset(switched_on)))
        if outcome.upstream is not None or outcome.absent:
            return _kept_url(upstream, outcome, origins)
    return outcome


def _steps(upstream: upstream_pb2.Upstream, look: Look, switched_on: frozenset[Look]) -> list[Step]:
    """What to ask for, one after the other; an Upstream with HTTP/2 is asked for gRPC first."""
    if look is Look.GRPC:
        return [_ask_reflection]
    if look is Look.OPENAPI:
        return [_ask_again]
    steps = [(Look.OPENAPI, _ask_document), (Look.GRPC, _ask_reflection)]
    chosen: list[Step] = [step for kind, step in steps if kind in switched_on]
    return chosen[::-1] if upstream.use_http2.value else chosen


async def _ask(upstream: upstream_pb2.Upstream, origin: Origin, steps: Sequence[Step]) -> Outcome:
    """The first step that finds something; it is absent if every step was answered."""
    reasons: list[str] = []
    absent = True
    for step in steps:
        try:
            outcome = await step(upstream, origin)
        except WorldError as failure:
            outcome = Outcome(reason=str(failure))
        if outcome.upstream is not None:
            return outcome
        absent = absent and outcome.absent
        reasons.append(outcome.reason)
    return Outcome(absent=absent, reason="; ".join(reasons))


async def _ask_document(upstream: upstream_pb2.Upstream, origin: Origin) -> Outcome:
    return _with_document(upstream, origin, await find_document(origin))


async def _ask_again(upstream: upstream_pb2.Upstream, origin: Origin) -> Outcome:
    """The document at the path where it was found."""
    path = own_path(service_spec(upstream).rest.swagger_info.url, (), anywhere=True)
    return _with_document(upstream, origin, await find_document(origin, (path,) if path else ()))


def _with_document(upstream: upstream_pb2.Upstream, origin: Origin, found: FoundDocument | str) -> Outcome:
    if isinstance(found, str):
        return Outcome(absent=True, reason=found)
    return Outcome(with_functions(upstream, found.functions, origin.url(found.path)), reason=_left_out(found.functions))


async def _ask_reflection(upstream: upstream_pb2.Upstream, origin: Origin) -> Outcome:
    try:
        found = await reflect(origin.address, origin.tls)
    except NotFoundError as failure:
        return Outcome(absent=True, reason=str(failure))
    services = await asyncio.to_thread(usable_services, found)
    if not services:
        return Outcome(absent=True, reason="reflection names no service that can be translated for")
    reason = f"left out: {', '.join(sorted({*found.services} - {*services}))}" if services != found.services else ""
    return Outcome(with_services(upstream, services, found.descriptors), reason=reason[:500])


async def _read_document(upstream: upstream_pb2.Upstream, origins: Sequence[Origin]) -> Outcome:
    """The document that the user named: it stands in the object, or at an address of the Upstream itself."""
    info = service_spec(upstream).rest.swagger_info
    if info.WhichOneof("swagger_spec") == "inline":
        return _with_named(upstream, await asyncio.to_thread(read_functions, info.inline.encode()))
    path = own_path(info.url, origins)
    if origins and not path:
        return Outcome(reason="swaggerInfo.url leads to no address of the Upstream itself; write its path, or inline")
    outcome = NO_ADDRESS
    for origin in origins:
        try:
            found = await find_document(origin, (path,))
        except WorldError as failure:
            outcome = Outcome(reason=str(failure))
            continue
        return _with_named(upstream, found if isinstance(found, str) else found.functions)
    return outcome


def _with_named(upstream: upstream_pb2.Upstream, found: FoundFunctions | str) -> Outcome:
    if isinstance(found, str):
        return Outcome(reason=f"swaggerInfo: {found}")
    return Outcome(with_functions(upstream, found), reason=_left_out(found))


def _kept_url(upstream: upstream_pb2.Upstream, outcome: Outcome, origins: Sequence[Origin]) -> Outcome:
    """The outcome with the URL that is stored, as long as it leads to an instance that there is."""
    stored, found = service_spec(upstream).rest.swagger_info.url, outcome.upstream
    if found is not None and stored and service_spec(found).HasField("rest") and own_path(stored, origins):
        service_spec(found).rest.swagger_info.url = stored
    return outcome


def _left_out(found: FoundFunctions) -> str:
    return f"left out: {', '.join(found.left_out[:5])}"[:500] if found.left_out else ""
