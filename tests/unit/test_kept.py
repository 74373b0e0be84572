"""Files of what is kept: whole or refused, the owner's only, and the same after a round trip."""

import multiprocessing
import os
import resource
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.gen import gateway_pb2, listener_options_pb2, proxy_pb2, secret_pb2, settings_pb2
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.kept.content import Content, Held, decode_content, encode_content
from gloo_nomad.kept.file import KeptError
from gloo_nomad.kept.parts import CONFIGURATION, SECRETS, SERVICES, KeptFolder
from gloo_nomad.kept.seal import Seal, parse_key
from gloo_nomad.proxies import Listener, RouteOrigin, VirtualHost
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.issued import ISSUED, CertificateRequest, IssuedCertificate
from gloo_nomad.store.mesh import MESH_IDENTITY, MeshIdentity, MeshPlace
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances
from gloo_nomad.store.store import Store

REF = Ref("gloo-system", "a")
PLACE = {"namespace": "gloo-system", "rootKey": "gloo"}
SEAL = Seal(bytes(32))
SOURCE = ObjectRef("VirtualService", *REF)


@pytest.fixture
def folder(tmp_path: Path) -> KeptFolder:
    """An empty one."""
    return KeptFolder(tmp_path / "data", PLACE)


def objects(name: str = "a") -> Content:
    """One virtual service."""
    service = gateway_pb2.VirtualService()
    service.metadata.name = name
    return Content({("consul-kv", "VirtualService"): {REF: Entry(service, None, {}, 7, 3, {"a.test": 5})}})


def secrets() -> Content:
    """A Secret, an issued certificate, and an identity in the mesh."""
    secret = secret_pb2.Secret()
    secret.tls.private_key = "very private"
    issued = IssuedCertificate(CertificateRequest("web", "a.test", ("b.test",)), secret, 5.0)
    place = MeshPlace("d.consul", "default", "default", "dc1")
    return Content(
        {
            ("vault", "Secret"): {REF: Entry(secret, version=2)},
            ("pki", ISSUED): {REF: Entry(issued), Ref("x", "y"): Entry(IssuedCertificate(issued.request))},
            ("mesh", MESH_IDENTITY): {Ref("", "gateway"): Entry(MeshIdentity(place, secret))},
        }
    )


def test_objects_come_back(folder: KeptFolder) -> None:
    """Values, rejections, versions, ages and claims; a rejected edit with the version that is in service."""
    content = objects()
    entry = content.groups["consul-kv", "VirtualService"][REF]
    content = Content(
        {("consul-kv", "VirtualService"): {REF: replace(entry, rejection=Rejection("virtualHost", "is odd"))}}
    )
    folder.write(CONFIGURATION, content, None)
    found = folder.read(CONFIGURATION, None)
    assert found is not None
    assert found[1] == content


def test_secrets_and_services_come_back(folder: KeptFolder) -> None:
    """What else is stored has the same values afterwards."""
    instance = Instance("127.0.0.1", 80, "i", ("t",), "dc1", 3, "web.test", True, (("grpc", 81),))
    services = Content({("consul-services", CONSUL_SERVICE): {REF: Entry(ServiceInstances((instance,), False))}})
    folder.write(SERVICES, services, None)
    folder.write(SECRETS, secrets(), SEAL)
    assert (folder.read(SERVICES, None) or (0, None))[1] == services
    assert (folder.read(SECRETS, SEAL) or (0, None))[1] == secrets()
    assert b"very private" not in folder.path(SECRETS).read_bytes()


def test_what_is_held_comes_back() -> None:
    """Last good virtual hosts and listeners, with all that is in them."""
    origin = RouteOrigin(SOURCE, "virtualHost.routes[0]", "", {"timeout": (SOURCE, "options")})
    virtual_host = VirtualHost.of(SOURCE, proxy_pb2.VirtualHost(name="a"), paths=("p",), origins=(origin,))
    options, route_options = listener_options_pb2.ListenerOptions(), listener_options_pb2.RouteConfigurationOptions()
    listener = Listener(SOURCE, "l", "::", 80, options, route_options, False)
    held = Held(((("role", "routes", SOURCE), virtual_host),), ((("role", "l"), listener),))
    data = encode_content(Content({}, held))
    found = decode_content(data)
    assert encode_content(found) == data
    assert found.held.hosts[0][0] == ("role", "routes", SOURCE)
    assert found.held.hosts[0][1].origins[0].place("options.timeout") == origin.place("options.timeout")
    assert found.held.listeners[0][1].name == "l"


def test_a_claim_survives() -> None:
    """An object that comes from the disk has since when it claims its domains."""
    store = Store()
    store.apply(Change("consul-kv", "VirtualService", objects().groups["consul-kv", "VirtualService"], complete=True))
    assert store.snapshot.claimed["VirtualService"][REF] == {"a.test": 5}
    assert store.snapshot.created["VirtualService"][REF] == 3


def test_settings_are_kept_without_credentials(folder: KeptFolder) -> None:
    """No token and no password of Consul and Vault is on the disk; the object in the store keeps them."""
    settings = settings_pb2.Settings()
    settings.consul.token = settings.consul.password = "very private"  # not a real one
    settings.vault_secret_source.access_token = "very private"  # the same
    settings.secret_options.sources.add().vault.aws.secret_access_key = "very private"  # the same
    settings.vault_secret_source.address = "http://vault.test"
    folder.write(CONFIGURATION, Content({("consul-kv", "Settings"): {REF: Entry(settings)}}), None)
    assert b"very private" not in folder.path(CONFIGURATION).read_bytes()
    assert b"vault.test" in folder.path(CONFIGURATION).read_bytes()
    assert settings.consul.token


def test_nothing_is_nothing(folder: KeptFolder) -> None:
    """No file is no failure."""
    assert folder.read(CONFIGURATION, None) is None


def _other_format(folder: KeptFolder) -> KeptFolder:
    from gloo_nomad.kept.file import Header, encode_header, write_file

    header = encode_header(Header(part=CONFIGURATION, place=PLACE, written=1.0, format=0))
    write_file(folder.path(CONFIGURATION), header, b"")
    return folder


def _writable_by_others(folder: KeptFolder) -> KeptFolder:
    folder.path(CONFIGURATION).chmod(0o660)
    return folder


def _a_link(folder: KeptFolder) -> KeptFolder:
    folder.path(CONFIGURATION).rename(folder.folder / "elsewhere")
    folder.path(CONFIGURATION).symlink_to(folder.folder / "elsewhere")
    return folder


def _a_pipe(folder: KeptFolder) -> KeptFolder:
    folder.path(CONFIGURATION).unlink()
    os.mkfifo(folder.path(CONFIGURATION))
    return folder


def _another_part(folder: KeptFolder) -> KeptFolder:
    folder.write(SERVICES, Content(), None)
    folder.path(SERVICES).rename(folder.path(CONFIGURATION))
    return folder


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_other_format, "has format 0, and this version reads format 1"),
        (_writable_by_others, "may be written by other users"),
        (_a_link, "cannot be read"),
        (_a_pipe, "is no regular file"),
        (_another_part, "holds the part services"),
        (lambda folder: replace(folder, place={**PLACE, "rootKey": "other"}), "rootKey 'gloo' and not 'other'"),
        (lambda folder: replace(folder, place={**PLACE, "namespace": "x"}), "namespace 'gloo-system' and not 'x'"),
    ],
)
def test_what_is_refused(folder: KeptFolder, spoil: Callable[[KeptFolder], KeptFolder], told: str) -> None:
    """Each with its reason."""
    folder.write(CONFIGURATION, objects(), None)
    with pytest.raises(KeptError, match=told):
        spoil(folder).read(CONFIGURATION, None)


def test_every_cut_and_every_flipped_byte_is_noticed(folder: KeptFolder) -> None:
    """Whatever is missing or different, the file is refused."""
    folder.write(CONFIGURATION, objects(), None)
    file = folder.path(CONFIGURATION)
    whole = file.read_bytes()
    for place in range(len(whole)):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :]):
            file.write_bytes(content)
            with pytest.raises(KeptError):
                folder.read(CONFIGURATION, None)


def test_secrets_of_another_key(folder: KeptFolder) -> None:
    """They are refused, without a key as well, and so is a header that was exchanged."""
    folder.write(SECRETS, secrets(), SEAL)
    with pytest.raises(KeptError, match="another key"):
        folder.read(SECRETS, Seal(b"1" * 32))
    with pytest.raises(KeptError, match="no key"):
        folder.read(SECRETS, None)
    with pytest.raises(KeptError, match="another key"):
        SEAL.open(SEAL.close(b"content", b"header"), b"other")


def test_keys() -> None:
    """Base64 and hexadecimal digits are read; what is no key is told without showing it."""
    assert parse_key(" " + "00" * 32 + "\n", "x") == bytes(32)
    assert parse_key("A" * 43 + "=", "x") == bytes(32)
    for text in ("", "secret", "A" * 40, "é"):
        with pytest.raises(ValueError, match="x is no key") as failure:
            parse_key(text, "x")
        assert "secret" not in str(failure.value)


def _write_on_a_full_disk(folder: KeptFolder) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
    folder.write(CONFIGURATION, objects("a" * 5000), None)


def test_a_write_that_fails_changes_nothing(folder: KeptFolder) -> None:
    """The file before it stays, and nothing is left beside it."""
    folder.write(CONFIGURATION, objects(), None)
    before = folder.path(CONFIGURATION).read_bytes()
    writer = multiprocessing.get_context("fork").Process(target=_write_on_a_full_disk, args=(folder,))
    writer.start()
    writer.join(30)
    assert writer.exitcode == 1
    assert folder.path(CONFIGURATION).read_bytes() == before
    assert [path.name for path in folder.folder.iterdir()] == [folder.path(CONFIGURATION).name]


def test_what_a_killed_process_left_is_no_obstacle(folder: KeptFolder, tmp_path: Path) -> None:
    """A half-written file beside, even if it is a link to elsewhere, is removed and not written through."""
    folder.folder.mkdir()
    (tmp_path / "precious").write_text("precious")
    (folder.folder / "configuration.kept.new").symlink_to(tmp_path / "precious")
    folder.write(CONFIGURATION, objects(), None)
    assert (tmp_path / "precious").read_text() == "precious"
    assert stat.S_IMODE(folder.path(CONFIGURATION).stat().st_mode) == 0o600
    assert folder.read(CONFIGURATION, None) is not None
