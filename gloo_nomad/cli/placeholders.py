"""Stand-ins for secrets that are referred to and not at hand: files are checked without their certificates.

A missing secret rejects what needs it. Offline that would say nothing about the files, so a secret that no file has is
taken as present, with a warning that its content was not checked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from gloo_nomad.api.gen import secret_pb2
from gloo_nomad.api.kinds import SECRET
from gloo_nomad.api.refs import Ref
from gloo_nomad.certificates import Authority, KeyPair
from gloo_nomad.frontdoor.documents import Document
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.issued import ISSUED, IssuedCertificate, requests_of
from gloo_nomad.store.snapshot import ConfigSnapshot

_TLS: Final = frozenset({"gloo.solo.io.SslConfig", "gloo.solo.io.UpstreamSslConfig"})
_HEADER_FIELDS: Final = frozenset({"header_secret_ref"})
_REF: Final = "core.solo.io.ResourceRef"


def stand_in(documents: Iterable[Document]) -> tuple[tuple[Document, ...], tuple[Problem, ...]]:
    """Secrets for all references that no document answers, and a warning on the first object that makes each."""
    listed = tuple(documents)
    present = {document.ref.ref for document in listed if document.ref.kind == SECRET.name}
    added: dict[Ref, Document] = {}
    warnings: list[Problem] = []
    for document in listed:
        if document.message is None:
            continue
        for ref, is_tls in _references(document.message, document.ref.namespace):
            if ref in present or ref in added:
                continue
            secret = _build_secret(ref, is_tls=is_tls)
            added[ref] = Document("stand-in", SECRET.object_ref(ref), secret)
            message = f"Secret {ref} is not at hand; its content is not checked"
            warnings.append(Problem(Severity.WARNING, document.ref, "", message))
    return tuple(added.values()), tuple(warnings)


def stand_in_for_issued(snapshot: ConfigSnapshot) -> tuple[ConfigSnapshot, tuple[Problem, ...]]:
    """The snapshot with a certificate for each Secret that asks Vault for one, and a warning on each."""
    requests = requests_of(snapshot.of(SECRET.name).items())
    issued = {
        ref: IssuedCertificate(request, _build_secret(ref, is_tls=True)) for ref, request in requests.items() if request
    }
    if not issued:
        return snapshot, ()
    collections = MappingProxyType({**snapshot.collections, ISSUED: snapshot.of(ISSUED).replace(issued)})
    message = "Vault is not asked for its certificate here; its content is not checked"
    warnings = tuple(Problem(Severity.WARNING, SECRET.object_ref(ref), "", message) for ref in issued)
    return replace(snapshot, collections=collections), warnings


def _references(message: Any, namespace: str) -> Iterator[tuple[Ref, bool]]:
    """All secrets that a message refers to, and whether each holds a certificate."""
    is_tls = message.DESCRIPTOR.full_name in _TLS
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.full_name == _REF and not field.is_repeated:
            if (is_tls and field.name == "secret_ref") or field.name in _HEADER_FIELDS:
                yield Ref(value.namespace or namespace, value.name), is_tls
            continue
        for held in _held_messages(field, value):
            yield from _references(held, namespace)


def _held_messages(field: Any, value: Any) -> Iterable[Any]:
    """The messages in a field: its own, those of a list, or the values of a map."""
    if field.message_type.GetOptions().map_entry:
        return value.values() if field.message_type.fields_by_name["value"].message_type is not None else ()
    return value if field.is_repeated else (value,)


def _build_secret(ref: Ref, *, is_tls: bool) -> secret_pb2.Secret:
    secret = secret_pb2.Secret()
    secret.metadata.namespace, secret.metadata.name = ref
    if is_tls:
        pair, secret.tls.root_ca = _key_pair()
        secret.tls.cert_chain, secret.tls.private_key = pair.certificates, pair.private_key
    else:
        secret.header.headers["x-stand-in"] = "stand-in"
    return secret


@cache
def _key_pair() -> tuple[KeyPair, str]:
    """A certificate for nobody with its key, and what it is verified with."""
    authority = Authority("stand-in authority")
    return authority.issue("stand-in.invalid"), authority.certificate
