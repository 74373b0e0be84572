"""Texts of users inside messages: recognisable, on one line, and never longer than a message should be."""

from typing import Final

MAX_CHARACTERS: Final = 60


def quote(text: str) -> str:
    """The text in quotes, control characters escaped, cut after 60 characters."""
    return repr(text) if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]!r}..."
