"""Requests for certificates: what is read of a Secret, and what becomes of TLS that needs one."""

import json
from typing import Any

import pytest

from gloo_nomad.admin import dumps
from gloo_nomad.admin.redaction import Redactor
from gloo_nomad.api import codec
from gloo_nomad.api.gen import secret_pb2
from gloo_nomad.api.kinds import SECRET
from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.envoy.issued import find_issued
from gloo_nomad.reports import Severity
from gloo_nomad.store.issued import (
    ISSUED,
    CertificateRequest,
    IssuedCertificate,
    RequestMistakeError,
    parse_request,
    requests_of,
)
from gloo_nomad.store.memo import Reads
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

REF = Ref("ns", "cert")
LEAST = {"role": "gloo", "commonName": "a.test"}


def secret(pki: dict[str, Any] | None, **fields: Any) -> secret_pb2.Secret:
    """A Secret that asks for a certificate, or one with other fields."""
    asked = {"extensions": {"configs": {"pki": pki}}} if pki is not None else fields
    document = {"metadata": {"namespace": REF.namespace, "name": REF.name}, **asked}
    decoded = codec.decode(SECRET, json.dumps(document).encode())
    assert isinstance(decoded.message, secret_pb2.Secret), decoded.rejection
    return decoded.message


def test_all_fields() -> None:
    """Each has its place, and most may be left out."""
    full = {
        **LEAST,
        "altNames": ["b.test"],
        "ipSans": ["10.0.0.1", "::1"],
        "ttl": "72h",
        "mountPath": "team/pki",
        "rootCa": True,
        "address": "https://vault.test",
    }

    assert parse_request(secret(LEAST)) == CertificateRequest("gloo", "a.test")
    assert parse_request(secret(full)) == CertificateRequest(
        "gloo", "a.test", ("b.test",), ("10.0.0.1", "::1"), "72h", "team/pki", True, "https://vault.test"
    )


@pytest.mark.parametrize(
    ("pki", "told"),
    [
        ({"commonName": "a"}, "role: is required"),
        ({"role": "gloo"}, "commonName: is required"),
        ({**LEAST, "ttl": "-1h"}, "ttl: is to be a time"),
        ({**LEAST, "ttl": 5}, "ttl: is to be text"),
        ({**LEAST, "altNames": "b"}, "altNames: is to be a list"),
        ({**LEAST, "altNames": ["b,c"]}, "altNames: is to be a list of names"),
        ({**LEAST, "rootCa": "yes"}, "rootCa: is to be true or false"),
        ({**LEAST, "mountPath": "../sys"}, "role and mountPath are to be names"),
        ({**LEAST, "role": "a/../../sys/seal"}, "role and mountPath are to be names"),
        ({**LEAST, "common_name": "x"}, "common_name: is not known"),
    ],
)
def test_mistakes(pki: dict[str, Any], told: str) -> None:
    """The field is named. A name that leads elsewhere in Vault is none."""
    with pytest.raises(RequestMistakeError) as caught:
        parse_request(secret(pki))
    assert told in str(caught.value)
    assert requests_of([(REF, secret(pki))]) == {REF: None}


def test_other_secrets_ask_for_nothing() -> None:
    """Neither one with a certificate nor one with another extension."""
    others = [secret(None, tls={"certChain": "c"}), secret(None, extensions={"configs": {"other": {}}})]
    assert requests_of([(REF, other) for other in others]) == {}


def reads(issued: IssuedCertificate | None) -> Reads:
    """A snapshot with what was issued."""
    return Reads(ConfigSnapshot({ISSUED: Collection({REF: issued} if issued else {})}))


def test_what_a_secret_stands_for() -> None:
    """What was issued, with a warning if it cannot be renewed; an error if nothing was."""
    plain, asking, broken = secret(None, tls={"certChain": "c"}), secret(LEAST), secret({"role": "gloo"})
    made = secret(None, **Authority().issue("a.test").build_secret())
    request = CertificateRequest("gloo", "a.test")

    assert find_issued(REF, plain, reads(None)) == (plain, ())
    assert find_issued(REF, asking, reads(IssuedCertificate(request, made))) == (made, ())
    for asked, issued, severity, told in [
        (asking, None, Severity.ERROR, "has not been issued yet"),
        (asking, IssuedCertificate(request, failure="no such role"), Severity.ERROR, "no such role"),
        (asking, IssuedCertificate(request, made, failure="no such role"), Severity.WARNING, "no such role"),
        (broken, IssuedCertificate(request, made), Severity.WARNING, "commonName: is required"),
    ]:
        served, (finding,) = find_issued(REF, asked, reads(issued))
        assert served is (issued.secret if issued else None)
        assert (finding.path, finding.severity) == ("secretRef", severity)
        assert told in finding.message


def test_what_was_issued_is_not_shown() -> None:
    """Neither by the pages nor by its repr."""
    made = secret(None, **Authority().issue("a.test").build_secret())
    issued = IssuedCertificate(CertificateRequest("gloo", "a.test"), made)
    shown = json.dumps(dumps.dump_config(ConfigSnapshot({ISSUED: Collection({REF: issued})}), Redactor()))

    assert "a.test" in shown
    assert "PRIVATE KEY" not in shown + repr(issued)
    assert made.tls.private_key.splitlines()[1] not in shown
