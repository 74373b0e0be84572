"""Which role a client may have: its certificate says who it is, and rules say what that identity may ask for.

An identity is a URI or a DNS name of the certificate's subject alternative names; the common name counts only where
there are neither (RFC 6125, 6.4.4).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

Authorize = Callable[[Any, str], str]
"""Why the client of a call (its gRPC context) may not have a role; empty if it may."""

_PEM: Final = "x509_pem_cert"
_WILDCARDS: Final = re.compile(r"\*\*|\*")
_URI: Final = "://"


class RuleMistakeError(ValueError):
    """A rule cannot be read; the text names it."""


def allow_all(_context: Any, _role: str) -> str:
    """Lets every client have every role: plain text says nothing about who is there."""
    return ""


@dataclass(frozen=True, slots=True)
class RoleRules:
    """Identities as patterns, and the roles that each may have, as patterns too."""

    rules: tuple[tuple[re.Pattern[str], tuple[re.Pattern[str], ...]], ...]

    def __call__(self, context: Any, role: str) -> str:
        """Decides by the certificate with which the connection of this call was made."""
        identities = identities_of(context.auth_context())
        if self.allows(identities, role):
            return ""
        who = ", ".join(identities) or "nobody by name"
        return f'the role "{role}" is not allowed for the certificate of this client ({who})'

    def allows(self, identities: Iterable[str], role: str) -> bool:
        """Whether one of the identities may have the role. A client without a role is told how to get one."""
        found = tuple(identities)
        return not role or any(
            any(identity.fullmatch(name) for name in found) and any(allowed.fullmatch(role) for allowed in roles)
            for identity, roles in self.rules
        )


def parse_rules(written: Mapping[str, Any]) -> RoleRules:
    """Rules as settings have them: an identity pattern with a role pattern, or a list of them.

    In an identity ``*`` stands for anything within one part, ``**`` for anything; slashes part URIs, dots part names.
    In a role ``*`` stands for anything. Raises ``RuleMistakeError``.
    """
    return RoleRules(tuple((_identity(pattern), tuple(_roles(pattern, roles))) for pattern, roles in written.items()))


def identities_of(auth: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """Who the client of a connection is, from gRPC's context of its authentication; empty for nobody."""
    pem = next(iter(auth.get(_PEM, ())), b"")
    try:
        return _identities(x509.load_pem_x509_certificate(pem)) if pem else ()
    except ValueError:  # also what x509 raises for extensions that cannot be read
        return ()


def _identities(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    found: list[str] = []
    if names is not None:
        found += names.get_values_for_type(x509.UniformResourceIdentifier)
        found += (name for name in names.get_values_for_type(x509.DNSName) if _URI not in name)
    if found:
        return tuple(found)
    common = (str(item.value) for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    return tuple(name for name in common if _URI not in name)


def _identity(pattern: str) -> re.Pattern[str]:
    if pattern == "**":
        return re.compile(".*", re.DOTALL)
    if _URI in pattern:
        return re.compile(_translated(pattern, "[^/]*", ".*"), re.DOTALL)
    return re.compile(_translated(pattern, "[^./]*", "[^/]*"), re.IGNORECASE)


def _roles(identity: str, roles: Any) -> Iterable[re.Pattern[str]]:
    listed = [roles] if isinstance(roles, str) else roles
    if not isinstance(listed, list) or not listed or not all(isinstance(role, str) and role for role in listed):
        raise RuleMistakeError(f"{identity}: is to be a role like gloo-system~gateway-proxy, or a list of roles")
    return (re.compile(_translated(role, ".*", ".*"), re.DOTALL) for role in listed)


def _translated(pattern: str, part: str, parts: str) -> str:
    texts = [re.escape(text) for text in _WILDCARDS.split(pattern)]
    found = [parts if wildcard == "**" else part for wildcard in _WILDCARDS.findall(pattern)]
    return "".join(text + wildcard for text, wildcard in zip(texts, [*found, ""], strict=True))
