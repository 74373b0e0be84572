"""Certificates that Secrets ask Vault's PKI engine for. What was issued is stored beside the objects, as a kind.

Such a Secret has ``extensions.configs["pki"]`` in place of ``tls``: ``role`` and ``commonName``, and as far as wanted
``altNames``, ``ipSans``, ``ttl``, ``mountPath``, ``rootCa`` (whether the issuer's certificates are its ``rootCa``) and
``address`` (which of several Vaults).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from google.protobuf import json_format

from gloo_nomad.api.gen import secret_pb2
from gloo_nomad.api.refs import Ref

ISSUED: Final = "vault.Certificate"
"""Kind of what was issued, by the name of the Secret that asks for it."""
EXTENSION: Final = "pki"
PLACE: Final = f"extensions.configs[{EXTENSION}]"
_TTL: Final = re.compile(r"[1-9][0-9]{0,8}[smhd]?")
_NAME: Final = re.compile(r"[^\s,\x00-\x1f]{1,253}")
_ROLE: Final = re.compile(r"\w[\w.-]*")
_MOUNT: Final = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What a Secret asks for. Empty texts leave it to the role."""

    role: str
    common_name: str
    alt_names: tuple[str, ...] = ()
    ip_sans: tuple[str, ...] = ()
    ttl: str = ""
    mount_path: str = "pki"
    root_ca: bool = False
    address: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class IssuedCertificate:
    """What became of a request: ``secret`` is the last certificate, as a TLS Secret, ``failure`` why none is newer.

    ``request`` is what that certificate was issued for, ``renew_at`` is in seconds since the epoch.
    """

    request: CertificateRequest
    secret: secret_pb2.Secret | None = None
    renew_at: float = 0.0
    failure: str = ""


class RequestMistakeError(ValueError):
    """A request cannot be read; the text names the field."""


def asks_for_certificate(secret: secret_pb2.Secret) -> bool:
    """Whether a Secret asks for a certificate."""
    return secret.WhichOneof("kind") == "extensions" and EXTENSION in secret.extensions.configs


def parse_request(secret: secret_pb2.Secret) -> CertificateRequest:
    """What a Secret asks for. Raises ``RequestMistakeError``."""
    written = json_format.MessageToDict(secret.extensions.configs[EXTENSION])
    names = {_camel(field.name): field for field in fields(CertificateRequest)}
    found: dict[str, Any] = {}
    for name, value in written.items():
        if name not in names:
            raise RequestMistakeError(f"{PLACE}.{name}: is not known; known are {', '.join(names)}")
        found[names[name].name] = _read(name, value, names[name].type)
    for name in ("role", "common_name"):
        if not found.get(name):
            raise RequestMistakeError(f"{PLACE}.{_camel(name)}: is required")
    if found.get("ttl") and not _TTL.fullmatch(found["ttl"]):
        raise RequestMistakeError(f"{PLACE}.ttl: is to be a time like 72h or 90m")
    if not _MOUNT.fullmatch(found.get("mount_path", "pki")) or not _ROLE.fullmatch(found["role"]):
        raise RequestMistakeError(f"{PLACE}: role and mountPath are to be names; slashes part those of a mountPath")
    return CertificateRequest(**found)


def requests_of(secrets: Iterable[tuple[Ref, secret_pb2.Secret]]) -> Mapping[Ref, CertificateRequest | None]:
    """The requests among Secrets; None for one that cannot be read."""
    found: dict[Ref, CertificateRequest | None] = {}
    for ref, secret in secrets:
        if asks_for_certificate(secret):
            try:
                found[ref] = parse_request(secret)
            except RequestMistakeError:
                found[ref] = None
    return found


def _read(name: str, value: Any, kind: Any) -> Any:
    """A value of the kind that its field has; lists become tuples."""
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    if kind not in (bool, str) and isinstance(value, list):
        if all(isinstance(item, str) and _NAME.fullmatch(item) for item in value):
            return tuple(value)
        raise RequestMistakeError(f"{PLACE}.{name}: is to be a list of names")
    told = {bool: "true or false", str: "text"}.get(kind, "a list")
    raise RequestMistakeError(f"{PLACE}.{name}: is to be {told}")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
