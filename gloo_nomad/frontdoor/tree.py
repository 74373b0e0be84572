"""Objects of files and folders, for everything that works without a server.

Three layouts are understood, also mixed below one folder:

- the key tree, as ``consul-kv-seed`` has it: ``<root>/gateway.solo.io/v1/VirtualService/<namespace>/<name>[.yaml]``;
- the plural layout of a directory source: ``virtualservices/<namespace>/<name>.yaml``;
- loose files, whose objects say their kind themselves.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gloo_nomad.api.codec import MAX_BYTES, Rejection
from gloo_nomad.api.kinds import KINDS, Kind
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.frontdoor.documents import UNKNOWN, Document, parse_documents

MAX_FILES: Final = 50_000
MAX_FILE_BYTES: Final = 16 * MAX_BYTES
SUFFIXES: Final = (".yaml", ".yml", ".json")
_PLURALS: Final = {kind.plural: kind for kind in KINDS.values()}


def read_paths(paths: Iterable[Path]) -> tuple[Document, ...]:
    """All objects of files and folders, in the order of their names; what cannot be read is among them, rejected."""
    found: list[Document] = []
    for path in paths:
        if path.is_dir():
            found.extend(_read_folder(path))
        else:
            found.extend(_read_file(path, path.absolute(), str(path)))
    return tuple(found)


def _read_folder(folder: Path) -> Iterator[Document]:
    for number, path in enumerate(sorted(_files(folder))):
        if number >= MAX_FILES:
            yield _unreadable(str(folder), f"more than {MAX_FILES} files; name a folder below it")
            return
        yield from _read_file(path, path.absolute(), str(path.relative_to(folder)))


def _files(folder: Path) -> Iterator[Path]:
    """The files that hold objects: known suffixes everywhere, any name inside the key tree."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        if path.suffix in SUFFIXES or named_by_key(path.absolute()) is not None:
            yield path


def _read_file(path: Path, absolute: Path, origin: str) -> tuple[Document, ...]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return (_unreadable(origin, f"larger than {MAX_FILE_BYTES} bytes; split the file"),)
        text = path.read_bytes()
    except OSError as failure:
        return (_unreadable(origin, f"cannot be read: {failure.strerror}"),)
    keyed = named_by_key(absolute)
    if keyed is not None:
        return parse_documents(text, origin, keyed[0], keyed[1])
    return parse_documents(text, origin, _in_plural_folder(absolute))


def named_by_key(path: Path) -> tuple[Kind, Ref] | None:
    """Kind and name that an absolute path in the key tree says; None for a path elsewhere."""
    parts = path.parts
    if len(parts) < 5 or (kind := KINDS.get(parts[-3])) is None:
        return None
    if parts[-5:-3] != (kind.group, kind.version):
        return None
    name = path.stem if path.suffix in SUFFIXES else path.name
    return kind, Ref(parts[-2], name)


def _in_plural_folder(path: Path) -> Kind | None:
    """The kind that a path in the plural layout says; an object's name is the one in its metadata."""
    return _PLURALS.get(path.parts[-3]) if len(path.parts) > 3 else None


def _unreadable(origin: str, message: str) -> Document:
    return Document(origin, ObjectRef(UNKNOWN, "", origin), None, Rejection("", message))
