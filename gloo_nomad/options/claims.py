"""Warns of every field that an object sets and nothing makes work: nothing is dropped in silence."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.message import Message

from gloo_nomad.options.hooks import EVERY, EXTENSIONS_MESSAGE, extension_claims
from gloo_nomad.reports import Finding, warning

_ALL: Final = frozenset(EVERY)
_NONE: Final[frozenset[str]] = frozenset()
OPTION_MESSAGES: Final = frozenset(
    f"gloo.solo.io.{name}Options"
    for name in ("HttpListener", "Listener", "Route", "TcpListener", "VirtualHost", "WeightedDestination")
)
"""What holds options: every field in them needs an owner, also while nobody claims any."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What modules say: which fields they claim, and why others have no effect."""

    claims: Mapping[str, frozenset[str]]
    reasons: Mapping[tuple[str, str], str]


def unclaimed(
    message: Message,
    claims: Mapping[str, frozenset[str]],
    reasons: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> Iterator[Finding]:
    """A warning for each field that is set in *message*, at any depth, and that no module claims, with its reason.

    A message type that nobody mentions counts as read by whoever claims the field that holds it, unless it is one of
    ``OPTION_MESSAGES``.
    """
    yield from _walk(message, _Known(claims, reasons))


def _walk(message: Any, said: _Known) -> list[Finding]:
    """Paths are put together only where there is something to tell: every object is walked through at a start."""
    name = message.DESCRIPTOR.full_name
    known = said.claims.get(name, _NONE if name in OPTION_MESSAGES else None)
    if known is None:
        return []
    found: list[Finding] = []
    for descriptor, value in message.ListFields():
        if descriptor.name not in known and known != _ALL:
            reason = said.reasons.get((name, descriptor.name), "")
            found.append(warning(descriptor.camelcase_name, _told(reason)))
        elif descriptor.message_type is None:
            continue
        elif descriptor.message_type.full_name == EXTENSIONS_MESSAGE:
            found += _unknown_extensions(descriptor, value, said.claims.get(extension_claims(name), _NONE))
        elif below := _walk_value(descriptor, value, said):
            found += (finding.under(descriptor.camelcase_name) for finding in below)
    return found


def _told(why: str) -> str:
    return f"is not supported{': ' + why if why else ''}; the rest of the object is served without it"


def _unknown_extensions(descriptor: Any, value: Any, known: frozenset[str]) -> Iterator[Finding]:
    for key in sorted(set(value.configs) - known):
        path = f"{descriptor.camelcase_name}.configs[{key}]"
        yield warning(path, "is no extension that is known here; it has no effect")


def _walk_value(descriptor: Any, value: Any, said: _Known) -> list[Finding]:
    if not descriptor.is_repeated:
        return _walk(value, said)
    entries: Iterable[tuple[Any, Any]]
    if not descriptor.message_type.GetOptions().map_entry:
        entries = enumerate(value)
    elif descriptor.message_type.fields_by_name["value"].message_type is not None:
        entries = ((key, value[key]) for key in sorted(value))
    else:
        return []
    return [finding.under(f"[{key}]") for key, item in entries for finding in _walk(item, said)]
