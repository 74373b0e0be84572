"""Paths of requests, as RFC 3986 writes them and as normalisation leaves them."""

import re
from functools import lru_cache
from typing import Final

_PATH: Final = re.compile(r"(?:[A-Za-z0-9/:@._~!$&'()*+,;=-]|%[0-9a-fA-F]{2})*\Z")
_UNREACHABLE: Final = ("//", "/./", "/../", "%2f", "%2F", "#")
_UNREACHABLE_ENDS: Final = ("/..", "/.")
MAX_BYTES: Final = 8192
"""Far above what a request line may hold by default (60 KiB for all headers together)."""


@lru_cache(maxsize=8192)
def path_fault(path: str) -> str:
    """Why *path* is none that a request could have after normalisation, or "".

    A pattern or a rewrite with ``//`` or ``/../`` in it would never match, or would be taken apart by the next proxy.
    """
    if len(path) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    if not _PATH.match(path):
        return "may only have the characters that RFC 3986 allows in a path; write others as %XX"
    for part in _UNREACHABLE:
        if part in path:
            return f"must not contain {part}: no request has it after normalisation"
    if path.endswith(_UNREACHABLE_ENDS):
        return "must not end with /. or /..: no request does after normalisation"
    return ""
