"""Objects in a folder: where they are found, and what a write leaves behind."""

import asyncio
from pathlib import Path

import pytest

from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.kinds import SETTINGS, UPSTREAM, VIRTUAL_SERVICE
from gloo_nomad.api.refs import Ref
from gloo_nomad.frontdoor import folder_objects
from gloo_nomad.frontdoor.folder_objects import FolderObjects
from gloo_nomad.frontdoor.objects import ABSENT, ConflictError, RefusedError, Stored, UnavailableError

TEXT = b"metadata: {namespace: ns, name: a}\nvirtualHost: {}\n"
A = Ref("ns", "a")


def put(folder: Path, path: str, text: bytes = TEXT) -> Path:
    """Writes a file below the folder."""
    written = folder / path
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_bytes(text)
    return written


def get(folder: Path, ref: Ref = A) -> Stored | None:
    """The stored virtual service."""
    return asyncio.run(FolderObjects(folder).get_object(VIRTUAL_SERVICE, ref))


@pytest.mark.parametrize(
    "path",
    [
        "virtualservices/ns/a.yaml",
        "virtualservices/ns/other-file.yml",
        "gateway.solo.io/v1/VirtualService/ns/a.yaml",
        "any-root/gateway.solo.io/v1/VirtualService/ns/a.yaml",
    ],
)
def test_found(tmp_path: Path, path: str) -> None:
    """An object is found in the plural layout by its metadata, and in the key tree; it is replaced where it is."""
    file = put(tmp_path, path)
    stored = get(tmp_path)
    assert stored is not None
    assert stored.ref == A
    new = TEXT.replace(b"{}", b"{domains: [x]}")
    version = asyncio.run(FolderObjects(tmp_path).put_object(VIRTUAL_SERVICE, A, new, stored.version))
    assert file.read_bytes() == new
    changed = get(tmp_path)
    assert changed is not None
    assert changed.version == version != stored.version
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [file]


def test_key_tree_takes_new_objects(tmp_path: Path) -> None:
    """In a folder that has the key tree new objects go into it; otherwise into the plural layout."""
    put(tmp_path, "root/gateway.solo.io/v1/VirtualService/ns/a.yaml")
    store = FolderObjects(tmp_path)
    text = TEXT.replace(b"name: a", b"name: b")
    asyncio.run(store.put_object(VIRTUAL_SERVICE, Ref("ns", "b"), text, ABSENT))
    assert (tmp_path / "root/gateway.solo.io/v1/VirtualService/ns/b.yaml").is_file()
    asyncio.run(store.put_object(UPSTREAM, A, b"metadata: {namespace: ns, name: a}\nstatic: {}", ABSENT))
    assert (tmp_path / "upstreams/ns/a.yaml").is_file()


def test_settings(tmp_path: Path) -> None:
    """Settings lie directly below the folder, and the folders of other kinds are no namespaces."""
    put(tmp_path, "virtualservices/ns/a.yaml")
    put(tmp_path, "virtualservices/x.yaml")
    put(tmp_path, "ns/default.yaml", b"metadata: {namespace: ns, name: default}\ndiscoveryNamespace: ns")
    found = asyncio.run(FolderObjects(tmp_path).list_objects(SETTINGS))
    assert [stored.ref for stored in found] == [Ref("ns", "default")]


def test_versions(tmp_path: Path) -> None:
    """An edit by hand is a new version; a stale one changes nothing."""
    file = put(tmp_path, "virtualservices/ns/a.yaml")
    stored = get(tmp_path)
    assert stored is not None
    file.write_bytes(TEXT + b"displayName: by hand\n")
    store = FolderObjects(tmp_path)
    with pytest.raises(ConflictError):
        asyncio.run(store.put_object(VIRTUAL_SERVICE, A, TEXT, stored.version))
    with pytest.raises(ConflictError):
        asyncio.run(store.delete_object(VIRTUAL_SERVICE, A, stored.version))
    assert b"by hand" in file.read_bytes()


@pytest.mark.parametrize("namespace", ["..", ".", "../x", "ns/..", "/etc"])
def test_hostile_namespace(tmp_path: Path, namespace: str) -> None:
    """A namespace leads nowhere but below the folder."""
    put(tmp_path, "x/a.yaml")
    store = FolderObjects(tmp_path / "objects")
    put(tmp_path, "objects/virtualservices/ns/a.yaml")
    assert asyncio.run(store.list_objects(VIRTUAL_SERVICE, namespace)) == ()
    assert asyncio.run(store.get_object(VIRTUAL_SERVICE, Ref(namespace, "a"))) is None


def test_another_object_has_the_file(tmp_path: Path) -> None:
    """A file that is named like the object and holds another one is not overwritten."""
    file = put(tmp_path, "virtualservices/ns/a.yaml", TEXT.replace(b"name: a", b"name: b"))
    with pytest.raises(RefusedError) as failure:
        asyncio.run(FolderObjects(tmp_path).put_object(VIRTUAL_SERVICE, A, TEXT, ABSENT))
    assert str(failure.value) == f"{file} exists and holds another object; move that one first"
    assert b"name: b" in file.read_bytes()


def test_several_objects_in_a_file(tmp_path: Path) -> None:
    """A file with several objects is listed object by object, and written by hand only."""
    put(tmp_path, "virtualservices/ns/all.yaml", TEXT + b"---\n" + TEXT.replace(b"name: a", b"name: b"))
    store = FolderObjects(tmp_path)
    found = asyncio.run(store.list_objects(VIRTUAL_SERVICE))
    assert [stored.ref.name for stored in found] == ["a", "b"]
    assert all(stored.decode().message is not None for stored in found)
    for attempt in (
        store.put_object(VIRTUAL_SERVICE, A, TEXT, found[0].version),
        store.delete_object(VIRTUAL_SERVICE, A, found[0].version),
    ):
        with pytest.raises(RefusedError):
            asyncio.run(attempt)


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is gone is not an empty one."""
    with pytest.raises(UnavailableError):
        asyncio.run(FolderObjects(tmp_path / "gone").list_objects(VIRTUAL_SERVICE))


def test_folder_is_a_file(tmp_path: Path) -> None:
    """A write that the file system refuses says which path and why."""
    put(tmp_path, "virtualservices", b"a file where a folder belongs")
    with pytest.raises(UnavailableError) as failure:
        asyncio.run(FolderObjects(tmp_path).put_object(VIRTUAL_SERVICE, A, TEXT, ABSENT))
    assert "cannot be written" in str(failure.value)


@pytest.mark.parametrize("mistake", ["forbidden", "huge"])
def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    """A file that cannot be read is an object with that problem; the others are listed, and it is not written over."""
    put(tmp_path, "virtualservices/ns/b.yaml", TEXT.replace(b"name: a", b"name: b"))
    file = put(tmp_path, "virtualservices/ns/a.yaml", TEXT + b"# long" * 20)
    reason = f"is larger than 100 bytes; split the file ({file})"
    if mistake == "huge":
        monkeypatch.setattr(folder_objects, "MAX_FILE_BYTES", 100)
    else:
        file.unlink()
        file.symlink_to("/proc/self/mem")  # a file that nobody can read from its beginning, not even root
        reason = f"cannot be read: Input/output error ({file})"
    store = FolderObjects(tmp_path)

    found = asyncio.run(store.list_objects(VIRTUAL_SERVICE))

    assert [(stored.ref.name, stored.decode().rejection) for stored in found] == [
        ("a", Rejection("", reason)),
        ("b", None),
    ]
    assert get(tmp_path, Ref("ns", "b")) is not None
    with pytest.raises(UnavailableError) as failure:
        asyncio.run(store.put_object(VIRTUAL_SERVICE, A, TEXT, found[0].version))
    assert str(failure.value) == f"VirtualService ns.a {reason}"
