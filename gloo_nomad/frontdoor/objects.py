"""Stored objects, wherever they are: read, written by compare-and-set, deleted.

A write keeps the statuses of what it replaces: they belong to the daemon, not to the writer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from google.protobuf.message import Message

from gloo_nomad.api import codec
from gloo_nomad.api.codec import MAX_BYTES
from gloo_nomad.api.kinds import ENDPOINT, SECRET, Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.frontdoor.naming import check_name

ATTEMPTS: Final = 8
"""Tries of a write that names no version: the daemon writes statuses to the same object meanwhile."""
ABSENT: Final = "0"
"""The version of what does not exist."""
NOT_STORED: Final = frozenset({SECRET, ENDPOINT})


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored object."""

    kind: Kind
    ref: Ref
    """The name that its key or file gives it."""
    version: str
    """Changes with every write; never ``ABSENT``."""
    text: bytes = field(repr=False)
    unreadable: str = ""
    """Why the text is not known: the file may not be read, or is too long."""

    def decode(self) -> codec.Decoded:
        """The object, or why it is none."""
        if self.unreadable:
            return codec.Decoded(self.kind.object_ref(self.ref), None, codec.Rejection("", self.unreadable))
        return codec.decode(self.kind, self.text, self.ref)


class ObjectsError(Exception):
    """The store did not do it; the text says why, for people."""


class ConflictError(ObjectsError):
    """The object has another version than the writer thinks; ``version`` is the one it has."""

    def __init__(self, kind: Kind, ref: Ref, version: str) -> None:
        state = "does not exist" if version == ABSENT else f"has version {version}"
        super().__init__(f"{kind.name} {ref} {state}; read it again and repeat the change")
        self.version = version


class UnavailableError(ObjectsError):
    """The store cannot be reached."""


class DeniedError(ObjectsError):
    """The caller may not read or write that."""


class RefusedError(ObjectsError):
    """The object cannot be stored there, whatever its version; ``path`` is the field that is in the way."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ObjectStore(Protocol):
    """Where objects are kept. Every method may raise ``UnavailableError``."""

    async def list_objects(self, kind: Kind, namespace: str = "") -> tuple[Stored, ...]:
        """All objects of a kind, of one namespace or of all, sorted by name."""

    async def get_object(self, kind: Kind, ref: Ref) -> Stored | None:
        """The object of that name, if there is one."""

    async def put_object(self, kind: Kind, ref: Ref, text: bytes, expected: str) -> str:
        """Writes if the stored version is the expected one; the new version.

        Raises:
            ConflictError: it is another one.
            RefusedError: it cannot be stored there.
        """

    async def delete_object(self, kind: Kind, ref: Ref, expected: str) -> None:
        """Deletes if the stored version is the expected one.

        Raises:
            ConflictError: it is another one.
        """


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write."""

    version: str
    created: bool
    changed: bool
    """False if the object was the same already: then nothing was written."""


async def write_object(
    store: ObjectStore, kind: Kind, message: Message, expected: str | None = None, *, dry_run: bool = False
) -> Written:
    """Writes an object and keeps the statuses of the stored one; with no expected version it replaces any.

    Raises:
        ConflictError: the stored version is not the expected one, or changes faster than this can follow.
        RefusedError: the name is none, the object is too large, or its kind is not stored there.
    """
    ref = Ref(message.metadata.namespace, message.metadata.name)  # type: ignore[attr-defined]
    _refuse_bad(kind, ref)
    for attempt in range(ATTEMPTS):
        stored = await store.get_object(kind, ref)
        version = stored.version if stored else ABSENT
        if expected is not None and version != expected:
            raise ConflictError(kind, ref, version)
        before = stored.decode() if stored else None
        if before is not None and before.message == message:
            return Written(version, created=False, changed=False)
        text = build_text(kind, message, before.status if before else {})
        if dry_run:
            return Written(version, created=stored is None, changed=True)
        try:
            written = await store.put_object(kind, ref, text, version)
        except ConflictError:
            if expected is not None or attempt == ATTEMPTS - 1:
                raise
        else:
            return Written(written, created=stored is None, changed=True)
    raise AssertionError("the last attempt returns or raises")


async def remove_object(store: ObjectStore, kind: Kind, ref: Ref, expected: str | None = None) -> bool:
    """Deletes an object, of the expected version or of any; False if there was none.

    Raises:
        ConflictError: the stored version is not the expected one, or changes faster than this can follow.
    """
    for attempt in range(ATTEMPTS):
        stored = await store.get_object(kind, ref)
        if stored is None:
            return False
        if expected is not None and stored.version != expected:
            raise ConflictError(kind, ref, stored.version)
        try:
            await store.delete_object(kind, ref, stored.version)
        except ConflictError:
            if expected is not None or attempt == ATTEMPTS - 1:
                raise
        else:
            return True
    raise AssertionError("the last attempt returns or raises")


def _refuse_bad(kind: Kind, ref: Ref) -> None:
    bad = check_name(ref)
    if bad is not None:
        raise RefusedError(bad.message, bad.path)
    if kind in NOT_STORED:
        raise RefusedError(f"a {kind.name} is not kept with the configuration; {_instead(kind, ref)}")


def _instead(kind: Kind, ref: Ref) -> str:
    if kind is SECRET:
        return f"write it to Vault: vault kv put secret/{kind.key('gloo', ref)} @secret.json"
    return "it is found by service discovery"


def name_first(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as people write it: its metadata, and then the rest."""
    return {
        "metadata": document.get("metadata", {}),
        **{name: document[name] for name in document if name != "metadata"},
    }


def build_text(kind: Kind, message: Message, status: Mapping[str, Any]) -> bytes:
    """The object as it is stored, with these statuses.

    Raises:
        RefusedError: it is larger than one value may be.
    """
    text = codec.to_yaml(name_first(codec.encode(message, status, kind=kind))).encode()
    if len(text) > MAX_BYTES:
        raise RefusedError(f"the object has {len(text)} bytes; at most {MAX_BYTES} can be stored; split it")
    return text
