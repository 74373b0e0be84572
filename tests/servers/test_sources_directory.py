"""Objects in a folder: real files, real notifications."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from gloo_nomad.api.kinds import CONFIG_KINDS, SECRET, UPSTREAM, VIRTUAL_SERVICE, Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.sources.directory import DirectorySource
from gloo_nomad.sources.files import MAX_FILE
from tests.source_listener import Listener

A = Ref("ns", "a")
B = Ref("ns", "b")


def upstream(ref: Ref, port: int = 80) -> str:
    """A static upstream in YAML."""
    metadata = f"metadata: {{name: {ref.name}, namespace: {ref.namespace}}}\n"
    return f"{metadata}static: {{hosts: [{{addr: a, port: {port}}}]}}\n"


def write(folder: Path, path: str, text: str | bytes) -> Path:
    """A file below a folder."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def port_of(listener: Listener, ref: Ref) -> int:
    """The port of the served upstream, 0 if it is not served."""
    found = listener.value(UPSTREAM, ref)
    return int(found.static.hosts[0].port) if found is not None else 0


@asynccontextmanager
async def listening(folder: Path, kinds: tuple[Kind, ...] = (UPSTREAM,), **options: Any) -> AsyncIterator[Listener]:
    """A listener on a source of its own that has listed."""
    async with Listener(DirectorySource(folder, kinds, **options)) as listener:
        await listener.listed()
        yield listener


def test_both_layouts(tmp_path: Path) -> None:
    """Objects are found by plural and in the key tree; other files are not looked at, and a kind may be missing."""
    write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 1))
    write(tmp_path, "gloo/gloo.solo.io/v1/Upstream/ns/b.yml", upstream(B, 2))
    write(tmp_path, "upstreams/ns/readme.md", "a: [")
    write(tmp_path, "upstreams/ns/.b.yaml.swp", "a: [")
    write(tmp_path, "upstreams/ns/.hidden.yaml", "a: [")
    write(tmp_path, "upstreams/loose.yaml", "a: [")
    write(tmp_path, "upstreams/ns/sub/deep.yaml", "a: [")
    write(tmp_path, "unknown/ns/a.yaml", "a: [")

    async def run() -> None:
        async with listening(tmp_path, CONFIG_KINDS) as listener:
            assert set(listener.store.entries(UPSTREAM.name)) == {A, B}
            assert (port_of(listener, A), port_of(listener, B)) == (1, 2)
            assert sorted(change.kind for change in listener.changes) == sorted(kind.name for kind in CONFIG_KINDS)
            assert all(change.complete for change in listener.changes)

    asyncio.run(run())


def test_files_that_are_not_read_are_told(tmp_path: Path) -> None:
    """A file that looks like an object and is where none is read is in the log, once, until others are."""
    write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 1))
    write(tmp_path, "loose.yaml", upstream(B, 1))

    def told(logged: list[Any]) -> list[Any]:
        return [entry["files"] for entry in logged if entry["event"] == "files_not_read"]

    async def run() -> None:
        with capture_logs() as logged:
            async with listening(tmp_path, CONFIG_KINDS) as listener:
                assert told(logged) == [["loose.yaml"]]
                write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 2))
                await listener.until(lambda: port_of(listener, A) == 2)
                assert told(logged) == [["loose.yaml"]]
                for number in range(6):
                    write(tmp_path, f"upstreams/{number}.yaml", upstream(B, 1))
                write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 3))
                await listener.until(lambda: port_of(listener, A) == 3)
                assert told(logged)[-1][-1] == "and 2 more"

    asyncio.run(run())


def test_create_edit_delete(tmp_path: Path) -> None:
    """Files are followed, also in folders made later; only what differs is said."""

    async def run() -> None:
        async with listening(tmp_path, (UPSTREAM, VIRTUAL_SERVICE)) as listener:
            file = write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 1))
            await listener.until(lambda: port_of(listener, A) == 1)
            write(tmp_path, "upstreams/ns/b.yaml", upstream(B, 1))
            await listener.until(lambda: port_of(listener, B) == 1)

            before = len(listener.changes)
            write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 2))
            await listener.until(lambda: port_of(listener, A) == 2)
            assert [set(change.puts) for change in listener.changes[before:]] == [{A}]

            file.unlink()
            await listener.until(lambda: port_of(listener, A) == 0)
            shutil.rmtree(tmp_path / "upstreams")
            await listener.until(lambda: port_of(listener, B) == 0)

    asyncio.run(run())


def test_change_is_quick(tmp_path: Path) -> None:
    """A written file is served within a third of a second, and an idle source takes next to no processor time."""
    write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 1))
    for i in range(500):
        write(tmp_path, f"upstreams/ns/u{i}.yaml", upstream(Ref("ns", f"u{i}")))

    async def run() -> None:
        async with listening(tmp_path) as listener:
            times = []
            for port in range(2, 7):
                began = time.perf_counter()
                write(tmp_path, "upstreams/ns/a.yaml", upstream(A, port))
                await listener.until(lambda port=port: port_of(listener, A) == port)  # type: ignore[misc]
                times.append(time.perf_counter() - began)
            assert sorted(times)[2] < 0.33

            process = psutil.Process()
            before = process.cpu_times()
            await asyncio.sleep(2)
            after = process.cpu_times()
            assert after.user + after.system - before.user - before.system < 0.1

    asyncio.run(run())


def test_half_written_files_are_not_read(tmp_path: Path) -> None:
    """A file that is written piece by piece, or emptied and written again, is taken over once, in full."""
    routes = "".join(
        f"  - matchers: [{{prefix: /{i}}}]\n    directResponseAction: {{status: 200}}\n" for i in range(50)
    )
    text = f"metadata: {{name: a, namespace: ns}}\nvirtualHost:\n  domains: [a]\n  routes:\n{routes}".encode()
    file = write(tmp_path, "virtualservices/ns/a.yaml", text)

    async def run() -> None:
        async with listening(tmp_path, (VIRTUAL_SERVICE,)) as listener:
            before = len(listener.changes)
            with file.open("wb") as out:
                for start in range(0, len(text), 500):
                    out.write(text[start : start + 500])
                    out.flush()
                    await asyncio.sleep(0.02)
                out.write(b"# end")
            await listener.quiet(1)
            for change in listener.changes[before:]:
                (entry,) = change.puts.values()
                assert entry.rejection is None
                assert len(entry.value.virtual_host.routes) == 50

    asyncio.run(run())


def test_editors_and_atomic_renames(tmp_path: Path) -> None:
    """A file that is replaced by renaming, or moved aside and written anew, changes once and is never gone."""
    file = write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 1))

    async def run() -> None:
        async with listening(tmp_path) as listener:
            before = len(listener.changes)
            replacement = write(tmp_path, "a.tmp", upstream(A, 2))
            replacement.rename(file)
            await listener.until(lambda: port_of(listener, A) == 2)

            file.rename(file.with_suffix(".yaml~"))
            await asyncio.sleep(0.04)
            write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 3))
            await listener.until(lambda: port_of(listener, A) == 3)
            assert not any(change.deletes for change in listener.changes[before:])

    asyncio.run(run())


def test_bad_file_spoils_only_itself(tmp_path: Path) -> None:
    """A file that is no object is rejected with its name; what it held stays served, and others are changeable."""
    bad = {
        "yaml": b"a: [",
        "empty": b"",
        "binary": bytes(range(256)),
        "huge": b"a: " + b"x" * 600_000,
        "unknown": b"metadata: {name: unknown, namespace: ns}\nbogus: 1\n",
    }
    for name in bad:
        write(tmp_path, f"upstreams/ns/{name}.yaml", upstream(Ref("ns", name), 1))
    os.mkfifo(tmp_path / "upstreams/ns/pipe.yaml")
    (tmp_path / "upstreams/ns/nowhere.yaml").symlink_to("/nonexistent")

    async def run() -> None:
        async with listening(tmp_path) as listener:
            for name, value in bad.items():
                write(tmp_path, f"upstreams/ns/{name}.yaml", value)
            for name in bad:
                await listener.until(lambda name=name: listener.rejection(UPSTREAM, Ref("ns", name)))  # type: ignore[misc]
                assert f"upstreams/ns/{name}.yaml" in listener.rejection(UPSTREAM, Ref("ns", name))
                assert port_of(listener, Ref("ns", name)) == 1
            write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 2))
            await listener.until(lambda: port_of(listener, A) == 2)
            assert set(listener.store.entries(UPSTREAM.name)) == {A, *(Ref("ns", name) for name in bad)}

        async with listening(tmp_path) as restarted:
            assert port_of(restarted, A) == 2
            assert all(restarted.rejection(UPSTREAM, Ref("ns", name)) for name in bad)

    asyncio.run(run())


def test_name_is_the_metadata(tmp_path: Path) -> None:
    """An object is named by what its file says, whatever the file is called; problems too."""
    write(tmp_path, "upstreams/anywhere/anything.yaml", upstream(A, 1))
    write(tmp_path, "upstreams/anywhere/wrong.yaml", f"{upstream(B)}bogus: 1\n")

    async def run() -> None:
        async with listening(tmp_path) as listener:
            assert port_of(listener, A) == 1
            assert "unknown field" in listener.rejection(UPSTREAM, B)

            write(tmp_path, "upstreams/anywhere/anything.yaml", "a: [")
            await listener.until(lambda: listener.rejection(UPSTREAM, A))
            write(tmp_path, "upstreams/anywhere/anything.yaml", b"#" * (MAX_FILE + 1))
            await listener.until(lambda: "split it" in listener.rejection(UPSTREAM, A))
            assert set(listener.store.entries(UPSTREAM.name)) == {A, B}
            assert port_of(listener, A) == 1

    asyncio.run(run())


def test_several_documents(tmp_path: Path) -> None:
    """A file may hold several objects; a broken one does not take the others along, and lines are the file's."""
    both = f"{upstream(A, 1)}---\n{upstream(B, 1)}"
    write(tmp_path, "upstreams/ns/all.yaml", both)

    async def run() -> None:
        async with listening(tmp_path) as listener:
            assert (port_of(listener, A), port_of(listener, B)) == (1, 1)

            write(tmp_path, "upstreams/ns/all.yaml", f"{upstream(A, 2)}---\n{upstream(B, 2)}bogus: 1\n")
            await listener.until(lambda: port_of(listener, A) == 2)
            assert port_of(listener, B) == 1
            assert "(line 6)" in listener.rejection(UPSTREAM, B)
            assert "document 2 of upstreams/ns/all.yaml" in listener.rejection(UPSTREAM, B)

            write(tmp_path, "upstreams/ns/all.yaml", f"{upstream(A, 3)}---\nnothing at all: [\n")
            await listener.until(lambda: port_of(listener, A) == 3)
            assert port_of(listener, B) == 1
            assert listener.rejection(UPSTREAM, B)

            write(tmp_path, "upstreams/ns/all.yaml", f"{upstream(A, 4)}---\n{upstream(A, 5)}")
            await listener.until(lambda: "stands twice" in listener.rejection(UPSTREAM, A))

    asyncio.run(run())


def test_two_files_with_one_object(tmp_path: Path) -> None:
    """An object that two files define is rejected, naming both, and accepted again when one is gone."""
    write(tmp_path, "upstreams/ns/a.yaml", upstream(A, 1))

    async def run() -> None:
        async with listening(tmp_path) as listener:
            other = write(tmp_path, "gloo/gloo.solo.io/v1/Upstream/ns/other.yaml", upstream(A, 2))
            await listener.until(lambda: listener.rejection(UPSTREAM, A))
            for path in ("upstreams/ns/a.yaml", "gloo/gloo.solo.io/v1/Upstream/ns/other.yaml"):
                assert path in listener.rejection(UPSTREAM, A)
            assert port_of(listener, A) == 1
            other.unlink()
            await listener.until(lambda: not listener.rejection(UPSTREAM, A))

    asyncio.run(run())


def test_folder_appears_vanishes_and_is_exchanged(tmp_path: Path) -> None:
    """A missing folder is a clear error that keeps what was known; it is taken over whenever it comes."""
    folder = tmp_path / "not" / "yet"
    prepared = tmp_path / "prepared"
    write(prepared, "upstreams/ns/b.yaml", upstream(B, 1))

    async def run() -> None:
        async with Listener(DirectorySource(folder, (UPSTREAM,))) as listener:
            state = listener.source.state
            await listener.until(lambda: f"{folder}: no such folder" in state.last_error)
            assert listener.changes == []

            write(folder, "upstreams/ns/a.yaml", upstream(A, 1))
            await listener.until(lambda: port_of(listener, A) == 1)
            assert state.last_error == ""

            shutil.rmtree(tmp_path / "not")
            await listener.until(lambda: state.last_error)
            await listener.quiet()
            assert port_of(listener, A) == 1

            folder.parent.mkdir()
            prepared.rename(folder)
            await listener.until(lambda: port_of(listener, B) == 1 and port_of(listener, A) == 0)

            folder.rename(prepared)
            write(folder, "upstreams/ns/b.yaml", upstream(B, 2))
            await listener.until(lambda: port_of(listener, B) == 2)

    asyncio.run(run())


def test_folder_behind_a_link(tmp_path: Path) -> None:
    """A link that is turned to another folder, as releases and mounted volumes do it, is followed."""
    for version in (1, 2):
        write(tmp_path / f"v{version}", "upstreams/ns/a.yaml", upstream(A, version))
    link = tmp_path / "current"
    link.symlink_to("v1")

    async def run() -> None:
        async with listening(link) as listener:
            assert port_of(listener, A) == 1
            following = tmp_path / "next"
            following.symlink_to("v2")
            following.rename(link)
            await listener.until(lambda: port_of(listener, A) == 2)

    asyncio.run(run())


def test_namespaces_are_exact(tmp_path: Path) -> None:
    """Only objects of watched namespaces are read, by their metadata."""
    for namespace in ("x", "x2"):
        write(tmp_path, f"upstreams/{namespace}/a.yaml", upstream(Ref(namespace, "a")))

    async def run() -> None:
        async with listening(tmp_path, namespaces=("x",)) as listener:
            assert set(listener.store.entries(UPSTREAM.name)) == {Ref("x", "a")}

    asyncio.run(run())


@pytest.mark.parametrize("bare", [False, True], ids=["directorySecretSource", "secretOptions"])
def test_secrets(tmp_path: Path, bare: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Secrets are read from secrets/<ns> or, for secretOptions, right from <ns>; their content shows nowhere."""
    canary = "canary-c7d1"
    place = "ns" if bare else "secrets/ns"
    secret = {"metadata": {"name": "a", "namespace": "ns"}, "tls": {"certChain": canary, "privateKey": canary}}
    write(tmp_path, f"{place}/a.yaml", json.dumps(secret))
    write(tmp_path, f"{place}/b.yaml", f"metadata: {{name: b, namespace: ns}}\ntls: {{privateKey: [{canary}]}}\n")
    write(tmp_path, f"{place}/c.yaml", f"metadata: {{name: c, namespace: ns}}\ntls: {{privateKey: '{canary}}}\n")

    async def run() -> None:
        async with listening(tmp_path, (SECRET,), bare=bare) as listener:
            assert listener.value(SECRET, A).tls.private_key == canary
            for name in ("b", "c"):
                rejection = listener.rejection(SECRET, Ref("ns", name))
                assert rejection
                assert canary not in rejection

    asyncio.run(run())
    shown = capsys.readouterr()
    assert canary not in shown.out + shown.err
