"""The main job with a folder of objects: certificates in OpenBao, everything else in files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gloo_nomad.api.kinds import Kind
from gloo_nomad.demo import seed
from gloo_nomad.demo.certificates import Authority, KeyPair
from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import build_bootstrap, start_envoy
from gloo_nomad.demo.folder import start_daemon
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.demo.stage import Ports
from tests.e2e.core import CoreScenarios
from tests.e2e.scene import NAMESPACE, Scene

pytestmark = [pytest.mark.envoy, pytest.mark.bao]


@dataclass(frozen=True)
class Folder:
    """Objects as files, written in place as an editor would; secrets in OpenBao."""

    objects: Path
    openbao: OpenBao

    def put(self, kind: Kind, name: str, text: str) -> None:
        """Writes the object's file."""
        path = self._path(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def delete(self, kind: Kind, name: str) -> None:
        """Removes the object's file."""
        self._path(kind, name).unlink()

    def put_certificate(self, name: str, pair: KeyPair) -> None:
        """Stores a TLS Secret in OpenBao."""
        self.openbao.put_secret(NAMESPACE, name, pair.build_secret())

    def _path(self, kind: Kind, name: str) -> Path:
        return self.objects / kind.plural / NAMESPACE / f"{name}.yaml"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, openbao: OpenBao, envoy_binary: Path) -> Iterator[Scene]:
    """One gloo-nomad, one echo service and one Envoy, started as ``make demo`` does."""
    home = tmp_path_factory.mktemp("directory")
    ports = Ports(http=free_port(), https=free_port(), envoy_admin=free_port(), seconds=0)
    authority = Authority()
    roots = home / "authority.pem"
    roots.write_text(authority.certificate)
    openbao.put_secret(*seed.CERTIFICATE, authority.issue("localhost").build_secret())
    echo, echo_port = start_echo(home)
    daemon = start_daemon(home, openbao, echo_port, ports)
    bootstrap = build_bootstrap(xds_port=daemon.xds_port, admin_port=ports.envoy_admin)
    envoy = start_envoy(home, bootstrap, binary=envoy_binary)
    source = Folder(daemon.objects, openbao)
    scene = Scene(
        source,
        ports.http,
        ports.https,
        authority,
        roots,
        lambda: frozenset({daemon.server.pid} if daemon.server.running else ()),
    )
    try:
        wait_until(lambda: scene.get_securely("/echo/hello").status == 200, "the first answer")
        wait_until(lambda: scene.get("/echo/hello").status == 200, "the first answer")
        yield scene
    finally:
        envoy.stop()
        daemon.server.stop()
        echo.stop()
        openbao.delete_secret(*seed.CERTIFICATE)


class TestDirectory(CoreScenarios):
    """The scenarios from files."""

    def test_a_removed_folder_of_a_kind_is_no_object(self, scene: Scene) -> None:
        """A folder that appears with an object and is removed with it is followed both ways."""
        assert isinstance(scene.source, Folder)
        folder = scene.source.objects / "virtualservices" / "other-team"
        folder.mkdir()
        (folder / "theirs.yaml").write_text(
            "metadata: {name: theirs, namespace: other-team}\n"
            "virtualHost:\n"
            "  domains: [theirs.test]\n"
            "  routes: [{matchers: [{prefix: /}], directResponseAction: {status: 200, body: theirs}}]\n"
        )
        scene.wait_for("theirs.test", "/x", 200, "theirs")

        (folder / "theirs.yaml").unlink()
        folder.rmdir()

        scene.wait_for("theirs.test", "/x", 404)
