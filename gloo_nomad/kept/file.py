"""Files of what is kept: written whole or not at all, readable by the owner only, and read only if all is well.

Layout: a mark of eight bytes, the SHA-256 of everything behind it, the length of the header in four bytes, the header
(JSON), and the content.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from gloo_nomad import __version__

FORMAT: Final = 1
"""Another number is refused: to be raised whenever older content would be misunderstood."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""A larger file is neither written nor read."""
_MARK: Final = b"GLOOKEPT"
_SUM_END: Final = len(_MARK) + hashlib.sha256().digest_size
_LENGTH_BYTES: Final = 4
_START: Final = _SUM_END + _LENGTH_BYTES
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class KeptError(Exception):
    """A file cannot be used, or content is no content; the text says why."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file before its content is looked at."""

    part: str
    place: dict[str, str]
    """Whose content it is: where objects are read from. Content of another place is foreign."""
    written: float
    """Seconds since the epoch."""
    sealed: bool = False
    """Whether the content is encrypted."""
    format: int = FORMAT
    program: str = __version__


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file whose checksum is right and that is about us; ``header_bytes`` is the header as it stands in it."""

    header: Header
    header_bytes: bytes
    content: bytes


def encode_header(header: Header) -> bytes:
    """The header as it stands in a file."""
    return msgspec.json.encode(header)


def write_file(path: Path, header: bytes, content: bytes) -> None:
    """Puts a file in the place of the one that is there, durably: at every moment one of the two is there in full.

    Raises:
        KeptError: the content is too large.
        OSError: the disk is full, the folder cannot be written, and the like; the file that is there stays.
    """
    size = _START + len(header) + len(content)
    if size > MAX_BYTES:
        raise KeptError(f"would have {size} bytes, more than {MAX_BYTES}")
    rest = len(header).to_bytes(_LENGTH_BYTES) + header
    checksum = hashlib.sha256(rest)
    checksum.update(content)
    _put(path, (_MARK, checksum.digest(), rest, content))


def write_text(path: Path, text: str) -> None:
    """Puts a text into a file, as ``write_file`` does. Raises ``OSError``."""
    _put(path, (text.encode(),))


def read_text(path: Path) -> str | None:
    """What ``write_text`` wrote; None if there is no file. Raises ``KeptError`` and ``OSError``."""
    try:
        return _read(path).decode(errors="replace")
    except FileNotFoundError:
        return None


def _put(path: Path, pieces: tuple[bytes, ...]) -> None:
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    try:
        _write_durably(beside, pieces)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _write_durably(path: Path, pieces: tuple[bytes, ...]) -> None:
    path.unlink(missing_ok=True)  # what a killed process left: it may be a link, or have another mode
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with open(opened, "wb") as file:  # noqa: PTH123  # a descriptor
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_file(path: Path, part: str, place: Mapping[str, str]) -> KeptFile | None:
    """The file if it is whole and about this part of this place; None if there is none.

    Raises:
        KeptError: it is not, or cannot be read.
    """
    try:
        content = _read(path)
    except FileNotFoundError:
        return None
    except OSError as failure:
        raise KeptError(f"cannot be read: {failure.strerror or failure}") from failure
    if not content.startswith(_MARK) or len(content) < _START:
        raise KeptError("is no file of this program")
    if hashlib.sha256(content[_SUM_END:]).digest() != content[len(_MARK) : _SUM_END]:
        raise KeptError("is damaged: its checksum is another one")
    end = _START + int.from_bytes(content[_SUM_END:_START])
    header_bytes = content[_START:end]
    return KeptFile(_read_header(header_bytes, part, place), header_bytes, content[end:])


def _read(path: Path) -> bytes:
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(opened, "rb") as file:  # noqa: PTH123  # a descriptor
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise KeptError("is no regular file")
        if found.st_mode & _OTHERS_WRITE:
            raise KeptError("may be written by other users, so it is not trusted; delete it")
        if found.st_size > MAX_BYTES:
            raise KeptError(f"has {found.st_size} bytes, more than {MAX_BYTES}")
        return file.read(MAX_BYTES + 1)


def _read_header(header: bytes, part: str, place: Mapping[str, str]) -> Header:
    try:
        number = msgspec.json.decode(header, type=dict[str, object]).get("format")
        if number != FORMAT:
            raise KeptError(f"has format {number}, and this version reads format {FORMAT}")
        found = msgspec.json.decode(header, type=Header)
    except msgspec.MsgspecError as failure:
        raise KeptError(f"has a header that cannot be read: {failure}") from failure
    if found.part != part:
        raise KeptError(f"holds the part {found.part}, not {part}")
    if found.place != place:
        told = [f"{name} {found.place.get(name)!r} and not {place[name]!r}" for name in place]
        differing = [text for name, text in zip(place, told, strict=True) if found.place.get(name) != place[name]]
        raise KeptError(f"is of another installation: {', '.join(differing) or 'other names'}")
    return found
