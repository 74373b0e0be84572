"""The documents of one YAML text."""

import re
from typing import Final

_MARK: Final = re.compile(rb"^(?:---(?=\s|$)|\.\.\.(?=\s*$))", re.MULTILINE)
_NOTHING: Final = re.compile(rb"\s*(?:[#%][^\n]*\s*)*\Z")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def split_documents(text: bytes) -> list[bytes]:
    """The documents between the marks ``---`` and ``...``.

    Each stands behind as many line breaks as it had before it, so that line numbers in messages are those of the file.
    A mark in the first column is one wherever it stands, also inside a block of text (chapter 9.1.2 of the YAML
    specification). Documents of comments only are left out; a text without any document gives one empty document.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    documents: list[bytes] = []
    start = 0
    for mark in [*_MARK.finditer(text), None]:
        piece = text[start : mark.start() if mark else len(text)]
        if not _NOTHING.match(piece):
            documents.append(b"\n" * text.count(b"\n", 0, start) + piece)
        start = mark.end() if mark else start
    return documents or [b""]
