"""How the codec says what is wrong with a text: the place as the user wrote it, and a remedy. Never leaves ``api``.

Values of a user are only repeated where a secret cannot stand (durations, enums, numbers), short, and on one line.
"""

import json
from typing import Any, Final, NamedTuple

_SHOWN: Final = 60
_NAMES: Final[dict[type, str]] = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


class DocumentError(ValueError):
    """The text as a whole is no object: not YAML, too large, too deep."""


class MapKey(NamedTuple):
    """The key of a map in a trail: shown in brackets, because it may hold dots."""

    key: str


Segment = str | int | MapKey


class FieldError(ValueError):
    """One field is wrong. Whoever passes it on says where, from the inside out."""

    def __init__(self, message: str, *, names_line: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.names_line = names_line
        """Whether the message says itself in which line it is."""
        self.trail: list[Segment] = []

    def within(self, segment: Segment) -> None:
        """Puts the place in front: a field's name as written, an index, or a map's key."""
        self.trail.insert(0, segment)

    @property
    def path(self) -> str:
        """The place in one word: ``virtualHost.routes[0].options.timeout``."""
        path = ""
        for segment in self.trail:
            if isinstance(segment, str):
                path += f".{plain(segment)}" if path else plain(segment)
            else:
                path += f"[{plain(segment.key) if isinstance(segment, MapKey) else segment}]"
        return path


def plain(text: str) -> str:
    """A user's key as it may stand in a path: short, one line, printable."""
    if len(text) > _SHOWN:
        text = text[:_SHOWN] + "…"
    return text if text.isprintable() else json.dumps(text)[1:-1]


def quoted(value: Any) -> str:
    """A user's value as it may stand in a message."""
    if isinstance(value, str):
        return f'"{plain(value)}"'
    return plain(str(value))


def type_of(value: Any) -> str:
    """What a value is, in the words of somebody who writes YAML."""
    return _NAMES.get(type(value), "something else")


def mismatch(expected: str, value: Any) -> FieldError:
    """The error for a value of the wrong shape."""
    return FieldError(f"expected {expected}, found {type_of(value)}")
