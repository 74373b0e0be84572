"""The server's certificate, its key and who signs clients: read, checked, and exchanged while streams go on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

log = structlog.get_logger(__name__)
_MOST_BYTES: Final = 1024 * 1024
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm)


class KeyMistakeError(Exception):
    """What was given is no certificate with its key, or no certificates; the text says what, and of which file."""


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """PEM texts: the chain that the server shows, its private key, and the certificates that clients are signed by."""

    chain: bytes
    private_key: bytes
    client_roots: bytes

    def checked(self) -> "Keys":
        """These keys; raises ``KeyMistakeError`` if a server cannot use them."""
        certificate = _read(self.chain, "the certificate")
        _read(self.client_roots, "the certificate authority of the clients")
        try:
            key = serialization.load_pem_private_key(self.private_key, None)
        except _UNREADABLE:  # whose texts may tell about the key
            raise KeyMistakeError("the private key cannot be read: it is to be PEM without a password") from None
        if _public(key.public_key()) != _public(certificate.public_key()):
            raise KeyMistakeError("the private key is of another certificate")
        return self

    @property
    def end(self) -> datetime:
        """When the certificate ends."""
        return _read(self.chain, "the certificate").not_valid_after_utc

    @property
    def ends(self) -> str:
        """The same for logs."""
        return self.end.isoformat()


def _read(pem: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except _UNREADABLE as failure:
        raise KeyMistakeError(f"{what} cannot be read: {failure}") from None


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def build_credentials(current: Callable[[], Keys]) -> grpc.ServerCredentials:
    """Mutual TLS with the keys that *current* gives at each handshake, so that an exchange touches no open stream.

    *current* is called by threads of gRPC; it must not raise.
    """
    first = current()
    last = [first]

    def fetch() -> Any:
        keys = current()
        if keys is last[0]:
            return None
        last[0] = keys
        return _configuration(keys)

    return grpc.dynamic_ssl_server_credentials(_configuration(first), fetch, require_client_authentication=True)


def _configuration(keys: Keys) -> Any:
    return grpc.ssl_server_certificate_configuration([(keys.private_key, keys.chain)], keys.client_roots)


class KeyFiles:
    """Keys in three files, which are read again when one of them is another; what cannot be used changes nothing."""

    def __init__(self, chain: Path, private_key: Path, client_roots: Path) -> None:
        """Raises ``KeyMistakeError`` if the files cannot be used now."""
        self._files = (chain, private_key, client_roots)
        self._stamps = self._look()
        self._keys = self._load()

    def current(self) -> Keys:
        """The keys as the files have them now, or the last ones that could be used."""
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            self._exchange()
        return self._keys

    def _exchange(self) -> None:
        try:
            keys = self._load()
        except KeyMistakeError as mistake:
            log.warning("xds_certificate_not_usable", reason=str(mistake), still_used_until=self._keys.ends)
            return
        if keys != self._keys:
            self._keys = keys
            log.info("xds_certificate", until=keys.ends)

    def _look(self) -> tuple[object, ...]:
        return tuple(_stamp(file) for file in self._files)

    def _load(self) -> Keys:
        texts = [_content(file) for file in self._files]
        try:
            return Keys(*texts).checked()
        except KeyMistakeError as mistake:
            raise KeyMistakeError(f"{', '.join(map(str, self._files))}: {mistake}") from None


def _stamp(file: Path) -> object:
    try:
        info = file.stat()
    except OSError as failure:
        return failure.errno
    return info.st_ino, info.st_mtime_ns, info.st_size


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES)
    except OSError as failure:
        raise KeyMistakeError(f"{file} cannot be read: {failure.strerror}") from None
