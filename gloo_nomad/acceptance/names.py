"""Names of hosts and servers."""

import ipaddress
import re
from functools import lru_cache
from typing import Final

from gloo_nomad.acceptance.quoting import quote

MAX_HOST_NAME: Final = 253
MAX_SERVER_NAME_BYTES: Final = 255
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?\Z")


@lru_cache(maxsize=4096)
def is_ip_address(text: str) -> bool:
    """Whether *text* is an IP address that Envoy can connect to; an IPv6 zone means nothing to it."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def address_fault(text: str) -> str:
    """Why *text* is neither an IP address nor a host name, or ""."""
    if not text:
        return "is required: an IP address or a host name"
    if is_ip_address(text) or (len(text) <= MAX_HOST_NAME and _HOST_NAME.match(text)):
        return ""
    return f"{text[:80]!r} is neither an IP address nor a host name"


def range_fault(address: str, length: int) -> str:
    """Why *address* with a prefix of so many bits is no range of IP addresses, or ""."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"{quote(address)} is no IP address"
    if "%" in address:
        return f"{quote(address)} has a zone, which means nothing to Envoy"
    return "" if length <= parsed.max_prefixlen else f"a prefix of {length} bits is too long for {address}"


def server_name_fault(text: str) -> str:
    """Why a TLS handshake cannot send *text* as the name of the server, or ""; nothing is no name."""
    if len(text.encode()) > MAX_SERVER_NAME_BYTES:
        return f"must not be longer than {MAX_SERVER_NAME_BYTES} bytes"
    if not text.isprintable() or " " in text:
        return f"{text[:80]!r} is no name of a server"
    return ""
