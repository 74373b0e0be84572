"""Names and values of HTTP headers, as RFC 9110 writes them."""

import re
from typing import Final

from gloo_nomad.acceptance.quoting import quote

_NAME: Final = re.compile(r"[0-9A-Za-z!#$%&'*+\-.^_`|~]+")
_PSEUDO: Final = re.compile(r":?[0-9A-Za-z!#$%&'*+\-.^_`|~]+")
_NOT_IN_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
MAX_BYTES: Final = 16_384
"""Envoy's limit for the name and for the value of a header that it adds."""


def name_fault(name: str, *, pseudo: bool = False) -> str:
    """Why *name* cannot be a header, or ""; *pseudo* also lets ``:path`` and its like through."""
    if not name:
        return "the name of the header is empty"
    if len(name) > MAX_BYTES:
        return f"the name of the header is longer than {MAX_BYTES} bytes"
    if not (_PSEUDO if pseudo else _NAME).fullmatch(name):
        return f"{quote(name)} is no name of a header"
    return ""


def change_fault(name: str) -> str:
    """Why Envoy does not let a route add or remove the header *name*, or "".

    Pseudo headers and ``host`` are not to be changed this way; Envoy refuses a configuration that tries.
    """
    if name.startswith(":") or name.lower() == "host":
        return f"{name} cannot be changed by headerManipulation; hostRewrite and prefixRewrite are made for that"
    return name_fault(name)


def value_fault(value: str) -> str:
    """Why *value* cannot be a header's value, or ""."""
    if len(value.encode()) > MAX_BYTES:
        return f"the value of the header is longer than {MAX_BYTES} bytes"
    if _NOT_IN_VALUE.search(value):
        return "the value of the header has a control character"
    return ""
