"""Stored objects as people read them: one line each, with what matters of its kind."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from rich.text import Text

from gloo_nomad.api.kinds import GATEWAY, KINDS, ROUTE_TABLE, UPSTREAM, UPSTREAM_GROUP, VIRTUAL_SERVICE, Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.cli.output import count, print_table, styled_state
from gloo_nomad.cli.place import Place, cannot, opened
from gloo_nomad.cli.standing import INVALID, NO_STATUS, PENDING, Standing, standing_of
from gloo_nomad.frontdoor.answers import describe_stored
from gloo_nomad.frontdoor.objects import NOT_STORED, ObjectsError, Stored
from gloo_nomad.reports import Problem
from gloo_nomad.settings import DEFAULT_NAMESPACE
from gloo_nomad.upstreams import nomad

_SHOWN: Final = 4
"""So many domains, hosts or destinations stand in a line; of the rest only the number."""
_REASON: Final = 300


def storable_kinds() -> tuple[Kind, ...]:
    """All kinds that are kept with the configuration."""
    return tuple(kind for kind in KINDS.values() if kind not in NOT_STORED)


async def fetch(place: Place, kinds: Sequence[Kind], namespace: str = "", name: str = "") -> tuple[Stored, ...]:
    """All objects of these kinds, or the one of that name.

    Raises:
        CommandError: the place cannot be read.
    """
    try:
        async with opened(place) as store:
            if name:
                one = await store.get_object(kinds[0], Ref(namespace or DEFAULT_NAMESPACE, name))
                return (one,) if one else ()
            return tuple([stored for kind in kinds for stored in await store.list_objects(kind, namespace)])
    except ObjectsError as failure:
        raise cannot(failure, place) from failure


def describe(found: Iterable[Stored]) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects as documents, and a line for each value that is none."""
    described = [describe_stored(stored) for stored in found]
    documents = [document for document in described if not isinstance(document, Problem)]
    return documents, [f"{problem.ref}: {problem}" for problem in described if isinstance(problem, Problem)]


def print_objects(found: Sequence[Stored], *, with_kind: bool, with_status: bool) -> None:
    """Prints the table; without *with_status* (nobody writes statuses there) only what is wrong stands at the end."""
    if not found:
        print("no objects")
        return
    detail = "DETAILS" if with_kind else _COLUMNS.get(found[0].kind.name, "")
    columns = [*(["KIND"] if with_kind else []), "NAMESPACE", "NAME", *([detail] if detail else []), "STATUS"]
    rows = [_row(stored, with_kind=with_kind, with_detail=bool(detail)) for stored in found]
    if not with_status:
        known = [standing_of(stored).state not in {PENDING, NO_STATUS} for stored in found]
        rows = [row if states else [*row[:-1], ""] for row, states in zip(rows, known, strict=True)]
        if not any(known):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_table(columns, rows)


def _row(stored: Stored, *, with_kind: bool, with_detail: bool) -> list[str | Text]:
    row: list[str | Text] = [stored.kind.name] if with_kind else []
    row += [stored.ref.namespace, stored.ref.name]
    if with_detail:
        row.append(_details(stored))
    return [*row, _status(stored)]


def _status(stored: Stored) -> Text:
    standing: Standing = standing_of(stored)
    state = styled_state(standing.state)
    if not standing.reason:
        return state
    style = "bold red" if standing.state == INVALID else state.style
    return Text.assemble((standing.state, style), "\n", standing.reason[:_REASON])


def _details(stored: Stored) -> str:
    message: Any = stored.decode().message
    describe_kind = _DETAILS.get(stored.kind.name)
    return describe_kind(message) if message is not None and describe_kind is not None else ""


def _shortened(items: Iterable[str]) -> str:
    listed = list(items)
    more = len(listed) - _SHOWN
    return "\n".join([*listed[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _of_virtual_service(message: Any) -> str:
    return _shortened(message.virtual_host.domains or ["*"])


def _of_gateway(message: Any) -> str:
    gateway_type = message.WhichOneof("GatewayType") or ""
    secure = " TLS" if message.ssl else ""
    return f"{message.bind_address or '::'} {message.bind_port} {gateway_type.removesuffix('_gateway')}{secure}"


def _of_upstream(message: Any) -> str:
    which = message.WhichOneof("upstream_type") or "no type"
    if which == "static":
        return _shortened([f"static {host.addr}:{host.port}" for host in message.static.hosts] or ["static"])
    if which == "consul":
        return f"{nomad.NOMAD if nomad.is_meant(message) else which} {message.consul.service_name}"
    return str(which)


def _of_upstream_group(message: Any) -> str:
    return _shortened(
        f"{held.weight.value}  {held.destination.upstream.namespace}.{held.destination.upstream.name}"
        for held in message.destinations
    )


def _of_route_table(message: Any) -> str:
    return count(len(message.routes), "route")


_COLUMNS: Final[Mapping[str, str]] = {
    VIRTUAL_SERVICE.name: "DOMAINS",
    GATEWAY.name: "LISTENER",
    UPSTREAM.name: "TYPE",
    UPSTREAM_GROUP.name: "WEIGHTS",
    ROUTE_TABLE.name: "ROUTES",
}
_DETAILS: Final[Mapping[str, Callable[[Any], str]]] = {
    VIRTUAL_SERVICE.name: _of_virtual_service,
    GATEWAY.name: _of_gateway,
    UPSTREAM.name: _of_upstream,
    UPSTREAM_GROUP.name: _of_upstream_group,
    ROUTE_TABLE.name: _of_route_table,
}
