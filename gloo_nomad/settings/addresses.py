"""Addresses as settings write them, and the error of settings that cannot be used."""

import re
from typing import Final

_PORT: Final = re.compile(r"[0-9]{1,5}")


class SettingsError(Exception):
    """The settings cannot be used; the text names the file and field, and what to do."""


def parse_address(address: str, field_name: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 host stands in brackets.

    Raises:
        SettingsError: it is something else.
    """
    host, separator, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    readable = separator and _PORT.fullmatch(port) and (bracketed or not set(":[]") & set(host))
    if not readable or int(port) > 65535:
        raise SettingsError(f'{field_name}: "{address}" is not host:port; write for example 127.0.0.1:9977')
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)
