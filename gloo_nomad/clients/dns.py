"""Host names to addresses, asked over TCP of one server such as Consul's own."""

import asyncio
import socket
from dataclasses import dataclass
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver

from gloo_nomad.clients.address import Address
from gloo_nomad.clients.http import BadAnswerError, UnreachableError

LIFETIME: Final = 5.0
"""Seconds for one name."""
MAX_ADDRESSES: Final = 256
"""Of one name."""


@dataclass(frozen=True, slots=True)
class Found:
    """The addresses of a name, sorted, and the seconds for which they hold."""

    addresses: tuple[str, ...]
    ttl: float


async def find_addresses(server: Address, name: str) -> Found:
    """The IPv4 addresses of a name, or its IPv6 ones if it has no others.

    Raises:
        UnreachableError: the server did not answer in time.
        BadAnswerError: there is no such name, or it has no address.
    """
    where = f"DNS at {server.host}:{server.port}, {name}"
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.port = server.port
    try:
        resolver.nameservers = [await _find_server(server)]
        answers = [await resolver.resolve(name, "A", tcp=True, lifetime=LIFETIME, raise_on_no_answer=False)]
        if answers[0].rrset is None:
            answers = [await resolver.resolve(name, "AAAA", tcp=True, lifetime=LIFETIME)]
    except (dns.resolver.LifetimeTimeout, OSError) as failure:
        raise UnreachableError(f"{where}: no answer ({type(failure).__name__})") from None
    except (dns.exception.DNSException, ValueError) as failure:
        raise BadAnswerError(f"{where}: {type(failure).__name__}") from None
    found = sorted({str(record.address) for answer in answers for record in answer})
    return Found(tuple(found[:MAX_ADDRESSES]), min(answer.rrset.ttl for answer in answers if answer.rrset))


async def _find_server(server: Address) -> str:
    """The server's own IP address."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    return str(found[0][4][0])
