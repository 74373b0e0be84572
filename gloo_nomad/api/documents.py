"""The documents of one YAML text."""

import re
from itertools import chain
from typing import Final, NamedTuple

from gloo_nomad.api.mistakes import DocumentError

MAX_DOCUMENTS: Final = 10_000
"""Of one text."""
TOO_MANY: Final = f"more than {MAX_DOCUMENTS} documents; split them"
MAX_LINES: Final = 20_000
"""Below more lines than these a document's messages count from there."""
_MARK: Final = re.compile(rb"^(?:---(?=\s|$)|\.\.\.(?=[ \t\r]*$))", re.MULTILINE)
_NO_CONTENT: Final = (b"#", b"%")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Part(NamedTuple):
    """One document as it stands in its text, below so many lines."""

    text: bytes
    above: int = 0

    def in_place(self) -> bytes:
        """Behind as many line breaks as it has lines above it, so that messages name the lines of the whole text."""
        return b"\n" * min(self.above, MAX_LINES) + self.text


def split_documents(text: bytes) -> list[Part]:
    """The documents between the marks ``---`` and ``...``. Raises ``DocumentError`` for too many.

    A mark in the first column is one wherever it stands, also inside a block of text (chapter 9.1.2 of the YAML
    specification). Documents of comments only are left out; a text without any document gives one empty document.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    parts: list[Part] = []
    start = above = 0
    for mark in chain(_MARK.finditer(text), (None,)):
        part = Part(text[start : mark.start() if mark else len(text)], above)
        if _has_content(part.text):
            parts.append(part)
        if len(parts) > MAX_DOCUMENTS:
            raise DocumentError(TOO_MANY)
        above += part.text.count(b"\n")
        start = mark.end() if mark else start
    return parts or [Part(b"")]


def _has_content(text: bytes) -> bool:
    return any(line.strip() and not line.lstrip().startswith(_NO_CONTENT) for line in text.splitlines())
