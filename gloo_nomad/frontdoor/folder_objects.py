"""Objects in a folder, in the plural layout or as a tree of Consul keys (see ``tree``).

The version is the hash of the file, so that an edit by hand counts as a change like any other. A file is replaced in
one step; between the comparison and the replacement other processes are not kept out, a folder has no lock for that.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gloo_nomad.api.kinds import KINDS, SETTINGS, Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.frontdoor.documents import Document, parse_documents
from gloo_nomad.frontdoor.objects import ABSENT, ConflictError, RefusedError, Stored, UnavailableError
from gloo_nomad.frontdoor.tree import MAX_FILE_BYTES, SUFFIXES, named_by_key


class FolderObjects:
    """An ``ObjectStore`` on a folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def list_objects(self, kind: Kind, namespace: str = "") -> tuple[Stored, ...]:
        """All objects of a kind, sorted by name; a file that holds no object is there under its own name."""
        return await asyncio.to_thread(self._list, kind, namespace)

    async def get_object(self, kind: Kind, ref: Ref) -> Stored | None:
        """The object of that name, in whichever file of its namespace it is."""
        found = await asyncio.to_thread(self._find, kind, ref)
        return found[1] if found else None

    async def put_object(self, kind: Kind, ref: Ref, text: bytes, expected: str) -> str:
        """Writes the object's file, or a new one named after it."""
        return await asyncio.to_thread(self._put, kind, ref, text, expected)

    async def delete_object(self, kind: Kind, ref: Ref, expected: str) -> None:
        """Removes the object's file."""
        await asyncio.to_thread(self._delete, kind, ref, expected)

    def _list(self, kind: Kind, namespace: str) -> tuple[Stored, ...]:
        if not self._directory.is_dir():
            raise UnavailableError(f"the folder {self._directory} does not exist")
        found = (stored for path in self._files(kind, namespace) for stored in _read(kind, path))
        return tuple(sorted(found, key=lambda stored: stored.ref))

    def _tops(self, kind: Kind) -> list[Path]:
        """The folders that hold the namespaces of a kind; the first one takes new objects."""
        trees = [root / kind.prefix for root in (self._directory, *_folders(self._directory))]
        group = Path(kind.prefix).parts[0]
        in_tree = [tree for tree in trees if tree.parents[1].name == group and tree.parents[1].is_dir()]
        plural = self._directory if kind is SETTINGS else self._directory / kind.plural
        return [*in_tree, plural] if in_tree else [plural]

    def _files(self, kind: Kind, namespace: str) -> list[Path]:
        if namespace and Path(namespace).name != namespace:
            return []
        plurals = {known.plural for known in KINDS.values()} if kind is SETTINGS else set()
        folders = [
            folder
            for top in self._tops(kind)
            for folder in ([top / namespace] if namespace else _folders(top))
            if folder.name not in plurals
        ]
        found = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
        return sorted(path for path in found if path.suffix in SUFFIXES and path.is_file())

    def _find(self, kind: Kind, ref: Ref) -> tuple[Path, Stored] | None:
        for path in self._files(kind, ref.namespace):
            for stored in _read(kind, path):
                if stored.ref == ref:
                    return path, stored
        return None

    def _put(self, kind: Kind, ref: Ref, text: bytes, expected: str) -> str:
        found = self._compare(kind, ref, expected)
        path = found or self._tops(kind)[0] / ref.namespace / f"{ref.name}.yaml"
        if found is None and path.exists():
            raise RefusedError(f"{path} exists and holds another object; move that one first")
        try:
            _replace(path, text)
        except OSError as failure:
            raise UnavailableError(f"{path} cannot be written: {failure.strerror}") from failure
        return _version(text)

    def _delete(self, kind: Kind, ref: Ref, expected: str) -> None:
        path = self._compare(kind, ref, expected)
        if path is None:
            return
        try:
            path.unlink()
        except OSError as failure:
            raise UnavailableError(f"{path} cannot be deleted: {failure.strerror}") from failure

    def _compare(self, kind: Kind, ref: Ref, expected: str) -> Path | None:
        """The object's file, if its version is the expected one."""
        found = self._find(kind, ref)
        if found and found[1].unreadable:
            raise UnavailableError(f"{kind.name} {ref} {found[1].unreadable}")
        version = found[1].version if found else ABSENT
        if version != expected:
            raise ConflictError(kind, ref, version)
        if found and len(parse_documents(found[0].read_bytes(), found[0].name, kind)) > 1:
            raise RefusedError(f"{found[0]} holds several objects; edit that file, or give each object its own")
        return found[0] if found else None


def _folders(path: Path) -> list[Path]:
    return sorted(found for found in path.iterdir() if found.is_dir()) if path.is_dir() else []


def _read(kind: Kind, path: Path) -> Iterator[Stored]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            yield _unreadable(kind, path, f"is larger than {MAX_FILE_BYTES} bytes; split the file")
            return
        text = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as failure:
        yield _unreadable(kind, path, f"cannot be read: {failure.strerror}")
        return
    keyed = named_by_key(path.absolute())
    for document in parse_documents(text, path.name, kind, keyed[1] if keyed else None):
        yield Stored(kind, _name(document, path), _version(text), document.text or text)


def _unreadable(kind: Kind, path: Path, why: str) -> Stored:
    return Stored(kind, Ref(path.parent.name, path.stem), _version(b""), b"", f"{why} ({path})")


def _name(document: Document, path: Path) -> Ref:
    written = document.ref.ref
    return written if document.message is not None else Ref(path.parent.name, path.stem)


def _version(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _replace(path: Path, text: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
