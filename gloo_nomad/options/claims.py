"""Warns of every field that an object sets and nothing makes work: nothing is dropped in silence."""

from collections.abc import Iterator, Mapping
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
    yield from _walk(message, _Known(claims, reasons), "")


def _walk(message: Any, said: _Known, path: str) -> Iterator[Finding]:
    name = message.DESCRIPTOR.full_name
    known = said.claims.get(name, _NONE if name in OPTION_MESSAGES else None)
    if known is None:
        return
    for descriptor, value in message.ListFields():
        here = f"{path}.{descriptor.camelcase_name}" if path else descriptor.camelcase_name
        if descriptor.name not in known and known != _ALL:
            yield warning(here, _told(said.reasons.get((name, descriptor.name), "")))
        elif descriptor.message_type is not None and descriptor.message_type.full_name == EXTENSIONS_MESSAGE:
            for key in sorted(set(value.configs) - said.claims.get(extension_claims(name), _NONE)):
                yield warning(f"{here}.configs[{key}]", "is no extension that is known here; it has no effect")
        elif descriptor.message_type is not None:
            yield from _walk_value(descriptor, value, said, here)


def _told(why: str) -> str:
    return f"is not supported{': ' + why if why else ''}; the rest of the object is served without it"


def _walk_value(descriptor: Any, value: Any, said: _Known, path: str) -> Iterator[Finding]:
    if descriptor.message_type.GetOptions().map_entry:
        if descriptor.message_type.fields_by_name["value"].message_type is not None:
            for key in sorted(value):
                yield from _walk(value[key], said, f"{path}[{key}]")
    elif descriptor.is_repeated:
        for index, item in enumerate(value):
            yield from _walk(item, said, f"{path}[{index}]")
    else:
        yield from _walk(value, said, path)
