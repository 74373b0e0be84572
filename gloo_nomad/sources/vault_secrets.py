"""Secrets in Vault's KV engine: ``<path prefix>/data/<root>/gloo.solo.io/v1/Secret/<namespace>/<name>``.

Vault cannot push. What is looked at again and again are the lists of names and each secret's version; a secret itself
is read when its version is another one. OpenBao gives the versions with the list, one request for each namespace; of
Vault they are asked one by one. The first version of the engine has none: there every secret is read.

A Vault that is sealed, slow or forbids is not an empty one: as long as it cannot be read nothing is said, and what was
known stays in service. Nor is one that is empty after it could not be read, unless its engine is still the same one.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from gloo_nomad.api import codec
from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.kinds import SECRET
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.blocking import retry_for_ever
from gloo_nomad.clients.http import BadAnswerError, ForbiddenError
from gloo_nomad.clients.vault import KvEngine, VaultClient
from gloo_nomad.sources.source import SourceState, cancel, raise_defects
from gloo_nomad.store.change import Change, Entry

REFRESH: Final = 3.0
_PART: Final = "secrets"
_CONCURRENCY: Final = 4
_UNASKED: Final = KvEngine(2)


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """Where secrets are: the engine's mount (``pathPrefix``) and the folder in it (``rootKey``)."""

    mount: str = "secret"
    root_key: str = "gloo"
    engine: int = 0
    """The version of the KV engine; 0 to ask for it."""

    @property
    def folder(self) -> str:
        """The folder of all namespaces."""
        return f"{self.root_key}/{SECRET.prefix}".strip("/")


@dataclass(slots=True)
class SecretsReader:
    """The secrets as they were last read."""

    client: VaultClient
    place: VaultPlace
    namespaces: frozenset[str]
    engine: KvEngine = _UNASKED
    """What is read from."""
    lists_versions: bool = True
    """Whether the server gives versions with a list; taken as true until it is known better."""
    known: dict[Ref, Entry] = field(default_factory=dict)
    """The secrets of the last reading."""
    _known_in: str = ""
    """The UUID of the engine that they were read from; empty if nobody knows."""
    _trusted: bool = False

    async def read(self) -> dict[Ref, Entry]:
        """All secrets as they are now. Raises ``WorldError``.

        After a failure all are read anew, whatever their versions: it may be another Vault, or a restored one. If all
        are gone then, that is believed of the same engine only.
        """
        trusted, self._trusted = self._trusted, False
        if not trusted:
            self.engine = await self._find_engine()
            self.lists_versions = self.engine.version == 2
        versions = await self._list()
        before, found = self.known, dict[Ref, Entry]()
        same = trusted or (self.engine.uuid != "" and self.engine.uuid == self._known_in)
        if before and not versions and not same:
            raise BadAnswerError(
                f"Vault at {self.client.options.address} has no secret below {self.place.mount}/{self.place.folder}, "
                f"where there were {len(before)} before it failed; they stay in service until there is one again"
            )
        pending = sorted(versions, reverse=True)

        async def work() -> None:
            while pending:
                ref = pending.pop()
                entry = await self._read(ref, before.get(ref) if trusted else None, versions[ref], before.get(ref))
                if entry is not None:
                    found[ref] = entry

        await _all_or_first_failure(work() for _ in range(min(_CONCURRENCY, len(pending))))
        self.known = dict(sorted(found.items()))
        self._known_in, self._trusted = self.engine.uuid, True
        return self.known

    async def _find_engine(self) -> KvEngine:
        """Vault is not asked where the settings say the version: its policies may forbid the question."""
        if self.place.engine:
            return KvEngine(self.place.engine)
        return await self.client.kv_engine(self.place.mount)

    async def _list(self) -> dict[Ref, int | None]:
        """The names of all secrets in the watched namespaces, with their versions if those come with the list."""
        names = await self.client.list_names(self.place.mount, self.place.folder, self.engine.version)
        found: dict[Ref, int | None] = {
            Ref("", name): None for name in names if not name.endswith("/") and not self.namespaces
        }
        for namespace in (name.rstrip("/") for name in names if name.endswith("/")):
            if not self.namespaces or namespace in self.namespaces:
                for name, version in (await self._list_namespace(namespace)).items():
                    found[Ref(namespace, name)] = version
        return found

    async def _list_namespace(self, namespace: str) -> Mapping[str, int | None]:
        path = f"{self.place.folder}/{namespace}"
        if self.lists_versions:
            versions = await self.client.list_versions(self.place.mount, path)
            if versions is not None:
                return versions
        names = await self.client.list_names(self.place.mount, path, self.engine.version)
        self.lists_versions = self.lists_versions and not names
        return {name: None for name in names if not name.endswith("/")}

    async def _read(self, ref: Ref, known: Entry | None, version: int | None, last: Entry | None) -> Entry | None:
        """The secret of that name; None if there is none. One that may not be read is rejected, alone.

        *known* is returned if its version is still the present one; *last* if the secret may not be read any more.
        """
        path = "/".join(part for part in (self.place.folder, ref.namespace, ref.name) if part)
        try:
            if version is None and self.engine.version == 2 and known is not None and known.version:
                version = await self._version(path)
            if version == 0:
                return None
            if known is not None and version == known.version and not _is_forbidden(known):
                return known
            stored = await self.client.read_secret(self.place.mount, path, self.engine.version)
        except ForbiddenError:
            message = f"Vault forbids to read {self.place.mount}/{path}; grant read on it in the policy of the token"
            return last if last and last.value is not None else Entry(None, Rejection("", message))
        return None if stored is None else _decode(ref, path, stored.data, stored.version)

    async def _version(self, path: str) -> int | None:
        """The secret's version; None where the token may not read that."""
        try:
            return await self.client.current_version(self.place.mount, path)
        except ForbiddenError:
            return None


def _is_forbidden(entry: Entry) -> bool:
    """Whether the secret could not be read last time: its entry has no version."""
    return not entry.version


class VaultSecretsSource:
    """Watches the secrets of some namespaces."""

    def __init__(
        self,
        client: VaultClient,
        place: VaultPlace | None = None,
        namespaces: Iterable[str] = (),
        *,
        refresh: float = REFRESH,
        known: Mapping[Ref, Entry] | None = None,
        name: str = "vault",
    ) -> None:
        """Only exactly these *namespaces* are read, all if there are none; *refresh* is in seconds.

        *known* is what is in service from a time before; it is not taken away by a Vault that has nothing.
        """
        self.name = name
        self.state = SourceState(name, {_PART})
        self._client = client
        self._reader = SecretsReader(client, place or VaultPlace(), frozenset(namespaces), known=dict(known or {}))
        self._refresh = refresh

    async def watch_changes(self) -> AsyncGenerator[Change, None]:
        """Yields all secrets first, then what is different; keeps the token alive meanwhile."""
        keeper = asyncio.create_task(self._client.keep_token(self.state.reporter("token")), name=f"{self.name}/token")
        sent: Mapping[Ref, Entry] | None = None
        try:
            async with aclosing(self._poll()) as readings:
                async for entries in readings:
                    change = self._compare(sent, entries)
                    sent = entries
                    if change is not None:
                        yield change
                        self.state.sent(_PART)
                    raise_defects([keeper])
        finally:
            await cancel([keeper])

    def _compare(self, before: Mapping[Ref, Entry] | None, now: Mapping[Ref, Entry]) -> Change | None:
        if before is None:
            return Change(self.name, SECRET.name, now, complete=True)
        puts = {ref: entry for ref, entry in now.items() if before.get(ref) != entry}
        deletes = frozenset(before.keys() - now.keys())
        return Change(self.name, SECRET.name, puts, deletes) if puts or deletes else None

    async def _poll(self) -> AsyncGenerator[Mapping[Ref, Entry], None]:
        """Yields each successful reading; rests at least as long as the reading took, but not as long as an outage."""
        report = self.state.reporter(_PART)
        retrying = retry_for_ever(report)
        while True:
            reading: tuple[Mapping[Ref, Entry], float] = await retrying(self._read_timed)
            report(None)
            entries, took = reading
            yield entries
            await asyncio.sleep(max(self._refresh - took, took))

    async def _read_timed(self) -> tuple[Mapping[Ref, Entry], float]:
        """One reading, and the seconds that it took."""
        began = time.monotonic()
        entries = await self._reader.read()
        return entries, time.monotonic() - began


def _decode(ref: Ref, path: str, data: Mapping[str, Any], version: int) -> Entry:
    if not ref.namespace:
        message = f"the secret {path} is not in the folder of a namespace; store it at .../<namespace>/<name>"
        return Entry(None, Rejection("", message), version=version)
    decoded = codec.decode(SECRET, json.dumps(data).encode(), ref)
    return Entry(decoded.message, decoded.rejection, decoded.status, version)


async def _all_or_first_failure(workers: Iterable[Any]) -> None:
    """Runs workers side by side; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(worker) for worker in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel(tasks)
