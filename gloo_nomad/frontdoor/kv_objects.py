"""Objects in Consul KV; the version is the key's ModifyIndex."""

from collections.abc import Awaitable
from typing import TypeVar

from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_answers import KvPair
from gloo_nomad.clients.http import ForbiddenError, WorldError
from gloo_nomad.frontdoor.objects import ABSENT, ConflictError, DeniedError, RefusedError, Stored, UnavailableError

T = TypeVar("T")


class KvObjects:
    """An ``ObjectStore`` on Consul KV."""

    def __init__(self, client: ConsulClient, root: str, *, of_caller: bool = False) -> None:
        """With *of_caller* the client's token is that of whoever asks, so that a missing right is theirs."""
        self._client = client
        self._root = root
        self._of_caller = of_caller

    async def list_objects(self, kind: Kind, namespace: str = "") -> tuple[Stored, ...]:
        """All objects of a kind; a key that has no namespace and name is not one."""
        prefix = f"{self._root}/{kind.prefix}"
        answer = await self._tried(self._client.kv_list(f"{prefix}{namespace}/" if namespace else prefix))
        found = [
            _stored(kind, ref, pair)
            for pair in answer.pairs
            if (ref := _ref(pair.key.removeprefix(prefix))) is not None
        ]
        return tuple(sorted(found, key=lambda stored: stored.ref))

    async def get_object(self, kind: Kind, ref: Ref) -> Stored | None:
        """The object under the key of that name."""
        answer = await self._tried(self._client.kv_get(kind.key(self._root, ref)))
        return _stored(kind, ref, answer.pairs[0]) if answer.pairs else None

    async def put_object(self, kind: Kind, ref: Ref, text: bytes, expected: str) -> str:
        """Writes by compare-and-set."""
        key = kind.key(self._root, ref)
        if not await self._tried(self._client.kv_put(key, text, cas=_index(kind, expected))):
            raise ConflictError(kind, ref, await self._version(kind, ref))
        return await self._version(kind, ref)

    async def delete_object(self, kind: Kind, ref: Ref, expected: str) -> None:
        """Deletes by compare-and-set."""
        if not await self._tried(self._client.kv_delete(kind.key(self._root, ref), cas=_index(kind, expected))):
            raise ConflictError(kind, ref, await self._version(kind, ref))

    async def _version(self, kind: Kind, ref: Ref) -> str:
        stored = await self.get_object(kind, ref)
        return stored.version if stored else ABSENT

    async def _tried(self, request: Awaitable[T]) -> T:
        try:
            return await request
        except ForbiddenError as failure:
            if self._of_caller:
                raise DeniedError("Consul does not let this token do that") from failure
            raise UnavailableError(str(failure)) from failure
        except WorldError as failure:
            raise UnavailableError(str(failure)) from failure
        except ValueError as failure:  # a name that no key can have
            raise RefusedError(str(failure), "metadata.name") from failure


def _stored(kind: Kind, ref: Ref, pair: KvPair) -> Stored:
    return Stored(kind, ref, str(pair.modify_index), pair.text())


def _ref(rest: str) -> Ref | None:
    namespace, separator, name = rest.partition("/")
    return Ref(namespace, name) if separator and namespace and name and "/" not in name else None


def _index(kind: Kind, expected: str) -> int:
    if not expected.isdigit() or len(expected) > 18:
        raise RefusedError(f'"{expected[:40]}" is no version of a {kind.name} in Consul KV, which are numbers')
    return int(expected)
