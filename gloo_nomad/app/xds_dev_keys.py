"""Certificates that the daemon makes by itself, for Envoys of the same machine, in a folder that both can read.

The authority that signs them is forgotten at once: when they are to be renewed, all are made anew. The folder has
``ca.pem``, ``server.pem`` and ``server-key.pem``, and for Envoy ``client.pem`` and ``client-key.pem``.
"""

import datetime as dt
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

from gloo_nomad.certificates import Authority
from gloo_nomad.settings import SettingsError
from gloo_nomad.xds.keys import KeyFiles, KeyMistakeError

log = structlog.get_logger(__name__)
DEV_CLIENT: Final = "gateway-proxy.gloo-nomad.internal"
"""Who the client is; it may have every role unless ``xdsClientRoles`` says otherwise."""
SERVER_NAMES: Final = ("localhost", "127.0.0.1", "::1", "gloo-xds", "gloo-xds.service.consul")
_DAYS: Final = 360
_LEAST: Final = dt.timedelta(days=60)
"""With less time left, a start makes them anew."""


def keep_dev_keys(folder: Path, names: Iterable[str]) -> KeyFiles:
    """The server's keys of that folder, made if there are none for these names; raises ``SettingsError``."""
    wanted = tuple(dict.fromkeys((*SERVER_NAMES, *names)))
    files = tuple(folder / name for name in ("server.pem", "server-key.pem", "ca.pem"))
    try:
        if not _is_usable(files, folder / "client-key.pem", wanted):
            _write_keys(folder, wanted)
            log.info("xds_certificates_made", folder=str(folder))
        return KeyFiles(*files)
    except OSError as failure:
        raise SettingsError(f"xdsTlsFolder: certificates cannot be kept in {folder}: {failure.strerror}") from failure


def _is_usable(files: tuple[Path, ...], client: Path, names: tuple[str, ...]) -> bool:
    try:
        KeyFiles(*files)
    except KeyMistakeError:
        return False
    certificate = x509.load_pem_x509_certificate(files[0].read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    shown = {str(name.value) for name in found}
    return (
        shown.issuperset(names)
        and client.exists()
        and certificate.not_valid_after_utc - _LEAST > dt.datetime.now(dt.UTC)
    )


def _write_keys(folder: Path, names: tuple[str, ...]) -> None:
    """The key goes before its certificate: whoever is told of the last one finds a pair."""
    authority = Authority("gloo-nomad development authority")
    server, client = authority.issue(*names, days=_DAYS), authority.issue(DEV_CLIENT, days=_DAYS)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "server-key.pem", server.private_key, 0o600)
    _write(folder / "server.pem", server.certificates)
    _write(folder / "client-key.pem", client.private_key, 0o600)
    _write(folder / "client.pem", client.certificates)
    _write(folder / "ca.pem", authority.certificate)


def _write(file: Path, text: str, mode: int = 0o644) -> None:
    """Replaces a file at once."""
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
    unfinished.rename(file)
