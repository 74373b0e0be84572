"""Which files of a folder hold objects, and what they hold.

Two layouts are read: the reference's ``<plural>/<namespace>/<name>.yaml``, and the key tree of Consul KV as folders,
``<root>/<group>/<version>/<Kind>/<namespace>/<name>.yaml``. Only the ``.yaml`` and ``.yml`` files there are looked at,
none whose name begins with a dot (editors' swap files). The name of an object is the metadata inside the file.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from gloo_nomad.api import codec
from gloo_nomad.api.codec import Decoded, Rejection
from gloo_nomad.api.documents import split_documents
from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import Ref

MAX_FILE: Final = 16 * 1024 * 1024
"""Bytes of one file, which may hold many documents."""
_SUFFIXES: Final = (".yaml", ".yml")
_LIKELY: Final = (*_SUFFIXES, ".json")
RULE: Final = (
    "an object's file is <plural>/<namespace>/<name>.yaml, for example virtualservices/gloo-system/default.yaml"
)


class Stamp(NamedTuple):
    """A file that may hold objects, and what tells that it was written: inode, time (ns since the epoch), size."""

    kind: Kind
    namespace: str
    """The folder's name."""
    inode: int
    modified: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the objects of some kinds are, below a folder."""

    kinds: tuple[Kind, ...]
    root_key: str = "gloo"
    bare: bool = False
    """``<namespace>/<name>.yaml`` right in the folder, for a single kind."""

    def folders(self) -> Iterator[tuple[Kind, str]]:
        """Each kind with the folders in which it may be."""
        for kind in self.kinds:
            if self.bare:
                yield kind, ""
                continue
            yield kind, kind.plural
            yield kind, f"{self.root_key}/{kind.prefix}".rstrip("/")


def list_files(folder: Path, layout: Layout) -> dict[str, Stamp]:
    """All files that may hold objects, by their path below *folder*, in order.

    A folder of a kind that is missing has no objects. Raises ``OSError`` if *folder* itself cannot be read.
    """
    os.scandir(folder).close()
    found: dict[str, Stamp] = {}
    for kind, place in layout.folders():
        for namespace in _entries(folder / place):
            if namespace.is_dir():
                found.update(_stamps(folder, kind, Path(place, namespace.name)))
    return dict(sorted(found.items()))


def stray_files(folder: Path, layout: Layout) -> tuple[str, ...]:
    """Files that look like objects and are where none is read: loose ones, without a namespace, or JSON.

    ``gloo-nomad validate`` takes them all, so that it is easily thought that they are served.
    """
    places = ["", *(place for _, place in layout.folders() if place)]
    found = {str(Path(place, name)) for place in places for name in _files(folder / place, _LIKELY)}
    for _, place in layout.folders():
        for namespace in _entries(folder / place):
            inside = Path(place, namespace.name)
            found |= {str(inside / name) for name in _files(folder / inside, (".json",))}
    return tuple(sorted(found))


def _files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    """The names of files with these suffixes; hidden ones are none."""
    return (
        entry.name
        for entry in _entries(folder)
        if entry.name.endswith(suffixes) and not entry.name.startswith(".") and entry.is_file()
    )


def _stamps(folder: Path, kind: Kind, place: Path) -> Iterator[tuple[str, Stamp]]:
    for entry in _entries(folder / place):
        if entry.name.startswith(".") or not entry.name.endswith(_SUFFIXES):
            continue
        try:
            info = entry.stat()
        except OSError:  # gone since it was listed, or a link to nothing
            continue
        if stat.S_ISREG(info.st_mode):
            path = str(place / entry.name)
            yield path, Stamp(kind, place.name, info.st_ino, info.st_mtime_ns, info.st_size)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_objects(folder: Path, path: str, stamp: Stamp, before: Mapping[Ref, Decoded]) -> dict[Ref, Decoded]:
    """The objects in a file, by name. What cannot be read is rejected under the name it has, or had *before*.

    The names are those that the file held when it was last read: as long as a part of it is unreadable, none of them
    counts as deleted.
    """
    fallback = Ref(stamp.namespace, Path(path).stem)
    try:
        documents = split_documents(_read(folder / path))
    except (OSError, ValueError) as failure:
        reason = f"cannot be read: {failure.strerror}" if isinstance(failure, OSError) else str(failure)
        return {ref: _rejected(stamp.kind, ref, path, Rejection("", f"{reason}")) for ref in before or [fallback]}
    objects: dict[Ref, Decoded] = {}
    nameless: list[Rejection] = []
    for position, document in enumerate(documents, 1):
        place = path if len(documents) == 1 else f"document {position} of {path}"
        _add(objects, nameless, stamp.kind, place, document.in_place())
    return _name(objects, nameless, stamp.kind, path, [ref for ref in before if ref not in objects] or [fallback])


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(MAX_FILE + 1)
    if len(text) > MAX_FILE:
        raise ValueError(f"the file has more than {MAX_FILE} bytes; split it")
    return text


def _add(objects: dict[Ref, Decoded], nameless: list[Rejection], kind: Kind, place: str, text: bytes) -> None:
    """Puts a document's object among *objects*, or its rejection among *nameless*."""
    decoded = codec.decode(kind, text)
    ref = decoded.ref.ref if decoded.message is not None else _written_name(text)
    if decoded.rejection is not None:
        decoded = _rejected(kind, ref, place, decoded.rejection)
    if not ref.name or not ref.namespace:
        nameless.append(decoded.rejection or Rejection("", place))
    elif ref in objects:
        objects[ref] = _rejected(
            kind, ref, place, Rejection("metadata", f"{ref} stands twice in this file; remove one")
        )
    else:
        objects[ref] = decoded


def _name(
    objects: dict[Ref, Decoded], nameless: list[Rejection], kind: Kind, path: str, names: list[Ref]
) -> dict[Ref, Decoded]:
    """Gives what has no name the names that the file had and has no more, or the one that its path says."""
    if not nameless:
        return objects
    for ref in names:
        free = ref if ref not in objects else Ref(ref.namespace, f"{ref.name} in {path}")
        objects[free] = Decoded(kind.object_ref(free), None, nameless[0])
    return objects


def _written_name(text: bytes) -> Ref:
    """The name that a rejected document gives itself; empty where it does not."""
    try:
        metadata = codec.parse_document(text).get("metadata")
    except ValueError:
        return Ref("", "")
    fields = metadata if isinstance(metadata, dict) else {}
    namespace, name = fields.get("namespace"), fields.get("name")
    return Ref(namespace if isinstance(namespace, str) else "", name if isinstance(name, str) else "")


def _rejected(kind: Kind, ref: Ref, place: str, rejection: Rejection) -> Decoded:
    return Decoded(kind.object_ref(ref), None, Rejection(rejection.path, f"{rejection.message} ({place})"))
