"""Encryption of what is kept: AES-256-GCM, with the header of the file as associated data."""

import base64
import binascii
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gloo_nomad.kept.file import KeptError

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_REMEDY: Final = "make one by: openssl rand -base64 32"


class Seal:
    """Closes and opens content with one key, which it never shows."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, content: bytes, header: bytes) -> bytes:
        """The content, encrypted: the nonce first, the tag at the end."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, header)

    def open(self, content: bytes, header: bytes) -> bytes:
        """What was closed with the same key and header. Raises ``KeptError`` for anything else."""
        try:
            return self._cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], header)
        except (InvalidTag, ValueError) as failure:
            raise KeptError("was encrypted with another key, or changed since") from failure


def parse_key(text: str, where: str) -> bytes:
    """The key that a text holds: 32 bytes in base64, or in hexadecimal digits.

    Raises:
        ValueError: it holds none; the text names *where* it stood, and not the key.
    """
    stripped = text.strip()
    try:
        key = bytes.fromhex(stripped) if len(stripped) == 2 * KEY_BYTES else base64.b64decode(stripped, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"{where} is no key: it is to be {KEY_BYTES} bytes in base64; {_REMEDY}")
    return key
