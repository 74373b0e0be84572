"""The example certificate of the Compose deployment on a folder."""

import stat
from pathlib import Path

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import SECRET
from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.first_certificate import write_certificate


def test_it_is_a_secret_that_only_its_owner_reads(tmp_path: Path) -> None:
    """The file is a Secret object with certificate and key."""
    assert write_certificate(tmp_path)

    file = tmp_path / "secrets" / "gloo-system" / "gateway-tls.yaml"
    decoded = codec.decode(SECRET, file.read_bytes(), Ref("gloo-system", "gateway-tls"))
    assert decoded.rejection is None
    assert "BEGIN CERTIFICATE" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_there_stays(tmp_path: Path) -> None:
    """A second start changes nothing."""
    write_certificate(tmp_path)
    file = tmp_path / "secrets" / "gloo-system" / "gateway-tls.yaml"
    before = file.read_bytes()

    assert not write_certificate(tmp_path)
    assert file.read_bytes() == before
