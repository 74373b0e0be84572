"""The front door for people with Consul tokens: Consul's ACL decides, as each read and write is made with theirs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.clients.http import ForbiddenError, WorldError
from gloo_nomad.clients.token import Token
from gloo_nomad.frontdoor.access import NO_TOKEN, NOT_ACCEPTED, NotLetInError
from gloo_nomad.frontdoor.kv_objects import KvObjects
from gloo_nomad.frontdoor.objects import ObjectStore, UnavailableError

_CONNECTIONS: Final = 16
"""Requests at once: Consul counts connections by address, and those of the daemon come first."""
_LONGEST: Final = 256


class ConsulGuard:
    """Lets holders of a Consul token in, with the rights that it has on the keys below *root*."""

    def __init__(self, options: ConsulOptions, root: str) -> None:
        self._options = options
        self._root = root
        self._slots = asyncio.Semaphore(_CONNECTIONS)

    async def check(self, token: str, action: str, namespace: str) -> None:  # Consul checks the keys
        """Asks Consul whether it knows the token; what it may do shows at its keys."""
        if not token:
            raise NotLetInError(NO_TOKEN)
        if len(token) > _LONGEST or not token.isascii() or not token.isprintable():
            raise NotLetInError(NOT_ACCEPTED)
        try:
            async with self._client(token) as client:
                known = await client.knows_token()
        except ForbiddenError as failure:
            raise NotLetInError(NOT_ACCEPTED) from failure
        except WorldError as failure:
            raise UnavailableError(str(failure)) from failure
        if not known:
            raise UnavailableError("Consul's ACLs are off, so that its tokens say nothing; switch them on")

    @asynccontextmanager
    async def opened(self, token: str, store: ObjectStore) -> AsyncIterator[ObjectStore]:  # a new one
        """Consul KV with the caller's token."""
        async with self._client(token) as client:
            yield KvObjects(client, self._root, of_caller=True)

    @asynccontextmanager
    async def _client(self, token: str) -> AsyncIterator[ConsulClient]:
        async with self._slots:
            client = ConsulClient(replace(self._options, token=Token(token), max_connections=1))
            try:
                yield client
            finally:
                await client.close()
