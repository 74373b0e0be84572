"""Objects in the files of a folder, watched.

Whatever happens below the folder, the answer is the same: look at all files, read those that were written since. A file
that is being written is left alone until it does not change any more, so that half of it is never taken for all of it.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from gloo_nomad.api.codec import Decoded, Rejection
from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.sources.files import RULE, Layout, Stamp, list_files, read_objects, stray_files
from gloo_nomad.sources.folder_watch import identity, watch_folder, watch_for_folder
from gloo_nomad.sources.source import SourceState
from gloo_nomad.store.change import Change, Entry

log = structlog.get_logger(__name__)

SETTLE: Final = 0.04
"""Seconds without a write after which a file counts as written."""
_MAX_SETTLE: Final = 50
"""How often to wait that long for a file that is written all the time."""
_SHOWN: Final = 5
"""So many files that are not read are named."""
_RETRY: Final = 2.0
"""Seconds between attempts at a folder that exists and cannot be read."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was last read."""

    stamp: Stamp
    objects: dict[Ref, Decoded]


@dataclass(slots=True)
class FolderReader:
    """What the files of a folder hold. ``read`` is to be called in a thread, one call at a time."""

    source: str
    folder: Path
    layout: Layout
    namespaces: frozenset[str] = frozenset()
    _files: dict[str, _File] = field(default_factory=dict)
    _sent: dict[str, dict[Ref, Entry]] = field(default_factory=dict)

    def look(self) -> dict[str, Stamp]:
        """The files as they are now; raises ``OSError``."""
        return list_files(self.folder, self.layout)

    def unsettled(self, stamps: dict[str, Stamp]) -> dict[str, Stamp | None]:
        """Those that were written since they were last read, or are gone: an editor may be about to put them back."""
        gone: dict[str, Stamp | None] = dict.fromkeys(self._files.keys() - stamps.keys())
        return gone | {path: stamp for path, stamp in stamps.items() if self._stamp(path) != stamp}

    def read(self, stamps: dict[str, Stamp]) -> list[Change]:
        """Reads what was written, and says what is different; all of each kind the first time."""
        before, self._files = self._files, {}
        for path, stamp in stamps.items():
            known = before.get(path)
            if known is None or known.stamp != stamp:
                known = _File(stamp, read_objects(self.folder, path, stamp, known.objects if known else {}))
            self._files[path] = known
        changes = (self._compare(kind) for kind in self.layout.kinds)
        return [change for change in changes if change is not None]

    def _stamp(self, path: str) -> Stamp | None:
        file = self._files.get(path)
        return file.stamp if file else None

    def _compare(self, kind: Kind) -> Change | None:
        before = self._sent.get(kind.name)
        now = self._entries(kind)
        self._sent[kind.name] = now
        if before is None:
            return Change(self.source, kind.name, now, complete=True)
        puts = {ref: entry for ref, entry in now.items() if _differs(before.get(ref), entry)}
        deletes = frozenset(before.keys() - now.keys())
        return Change(self.source, kind.name, puts, deletes) if puts or deletes else None

    def _entries(self, kind: Kind) -> dict[Ref, Entry]:
        """The objects of a kind. One that two files define is rejected, naming both."""
        owners: dict[Ref, str] = {}
        entries: dict[Ref, Entry] = {}
        for path, file in self._files.items():
            if file.stamp.kind is not kind:
                continue
            for ref, found in file.objects.items():
                if self.namespaces and ref.namespace not in self.namespaces:
                    continue
                entries[ref] = _entry(found, file.stamp)
                if ref in owners:
                    message = f"{ref} is defined in two files, {owners[ref]} and {path}; remove one"
                    entries[ref] = Entry(
                        None, Rejection("metadata", message), {}, file.stamp.modified, file.stamp.modified
                    )
                owners[ref] = path
        return entries


def _entry(found: Decoded, stamp: Stamp) -> Entry:
    """Of two files the one that was written first is the older one, until the store knows better."""
    return Entry(found.message, found.rejection, found.status, stamp.modified, stamp.modified)


def _differs(before: Entry | None, now: Entry) -> bool:
    """Whether anything but the place in the order of files is different."""
    return before is None or replace(before, created=now.created) != now


class DirectorySource:
    """Watches the kinds of objects below a folder. The folder may appear, vanish and be exchanged at any time."""

    def __init__(
        self,
        folder: Path,
        kinds: Iterable[Kind],
        namespaces: Iterable[str] = (),
        *,
        root_key: str = "gloo",
        bare: bool = False,
        name: str = "directory",
    ) -> None:
        """*bare* is for one kind whose files are at ``<folder>/<namespace>/<name>.yaml``."""
        self.name = name
        self.folder = folder
        self._layout = Layout(tuple(kinds), root_key, bare)
        self._namespaces = frozenset(namespaces)
        self.state = SourceState(name, {kind.name for kind in self._layout.kinds})
        self._strays: tuple[str, ...] = ()

    async def watch_changes(self) -> AsyncGenerator[Change, None]:
        """Yields all objects of each kind first, then what is different.

        As long as the folder is missing or unreadable nothing is said: what was known of it stays in service.
        """
        reader = FolderReader(self.name, self.folder, self._layout, self._namespaces)
        while True:
            with self._failures_reported(), watch_folder(self.folder) as wake:
                watched = identity(self.folder)
                while watched is not None and watched == identity(self.folder):
                    for change in await self._look(reader):
                        yield change
                        self.state.sent(change.kind)
                    await wake.wait()
                    wake.clear()
            await self._wait_for_folder()

    @contextmanager
    def _failures_reported(self) -> Iterator[None]:
        """A folder that cannot be watched or read is reported, and then tried again."""
        try:
            yield
        except OSError as failure:
            self._fail(failure)

    async def _look(self, reader: FolderReader) -> list[Change]:
        """What is different once nothing is being written any more."""
        stamps = await asyncio.to_thread(reader.look)
        for _ in range(_MAX_SETTLE if self.state.listed else 0):
            written = reader.unsettled(stamps)
            if not written:
                break
            await asyncio.sleep(SETTLE)
            stamps = await asyncio.to_thread(reader.look)
            if reader.unsettled(stamps) == written:
                break
        changes = await asyncio.to_thread(reader.read, stamps)
        self.state.succeed("folder")
        await asyncio.to_thread(self._tell_strays)
        return changes

    def _tell_strays(self) -> None:
        """Logs which files are not read, when they are others. A folder of one kind leaves that to the one of all."""
        strays = stray_files(self.folder, self._layout) if len(self._layout.kinds) > 1 else ()
        if strays and strays != self._strays:
            shown = [*strays[:_SHOWN], *([f"and {len(strays) - _SHOWN} more"] if len(strays) > _SHOWN else [])]
            log.warning("files_not_read", folder=str(self.folder), files=shown, reason=RULE)
        self._strays = strays

    async def _wait_for_folder(self) -> None:
        """Returns when it is worth looking again: at once if the folder is there."""
        if identity(self.folder) is not None:
            await asyncio.sleep(_RETRY if self.state.last_error else 0)
            return
        self._fail(FileNotFoundError(2, "no such folder; create it, or correct the path in the settings"))
        try:
            with watch_for_folder(self.folder) as wake:
                if identity(self.folder) is None:
                    await wake.wait()
        except OSError:
            await asyncio.sleep(_RETRY)

    def _fail(self, failure: OSError) -> None:
        self.state.fail("folder", f"{self.folder}: {failure.strerror or failure}")
