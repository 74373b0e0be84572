"""Ports of this machine."""

import random
import socket
from typing import Final

from gloo_nomad.demo.processes import ServerError

_FIRST: Final = 10_000
_LAST: Final = 19_999
"""Below Nomad's dynamic ports (20000 to 32000) and the kernel's ephemeral ones (from 32768), so that nobody else
takes a port between the moment it is found free and the moment a server listens on it."""

_handed_out: set[int] = set()


def keep_to_part(part: int, parts: int) -> None:
    """Gives out only every *parts*-th port from now on, from *part*: processes side by side never get the same.

    A server that is started again on its port finds it as it was left.
    """
    _handed_out.update(port for port in range(_FIRST, _LAST + 1) if port % parts != part % parts)


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server could listen on *address* and *port* now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port nobody listens on, given out once per process. Raises ``ServerError`` when there is none."""
    candidates = list(range(_FIRST, _LAST + 1))
    random.SystemRandom().shuffle(candidates)
    for port in candidates:
        if port not in _handed_out and is_free(port, "0.0.0.0") and is_free(port):
            _handed_out.add(port)
            return port
    raise ServerError(f"no free port between {_FIRST} and {_LAST}")


def require_free(port: int, purpose: str, remedy: str) -> None:
    """Raises ``ServerError`` that names *purpose* and *remedy* if somebody listens on *port*."""
    if not is_free(port, "0.0.0.0"):
        raise ServerError(f"port {port} ({purpose}) is in use: {remedy}")
