"""Certificates and keys: what Envoy would refuse is refused before it gets there, in words."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as envoy_secret_pb2

from gloo_nomad.api.gen import secret_pb2, ssl_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.secrets import TlsMaterial, translate_files, translate_secret
from gloo_nomad.store.memo import Memo
from tests.envoy_validate import validate_snapshot
from tests.pipeline.certificates import Pair, make_pair, sign
from tests.pipeline.envoy_world import SSL_GATEWAY, TO_UP, make_world, upstream, virtual_service

REF = Ref("gloo-system", "s")
KEY = ec.generate_private_key(ec.SECP256R1())
PAIR = sign("a.example.com", KEY)
OTHER = make_pair("other")


def material(**fields: str | bytes) -> TlsMaterial:
    """The material of a TLS Secret with these fields."""
    return translate_secret(REF, secret_pb2.Secret(tls=secret_pb2.TlsSecret(**fields)), Memo())  # type: ignore[arg-type]


def staple_for(pair: Pair, key: ec.EllipticCurvePrivateKey) -> bytes:
    """An OCSP answer about a self-signed certificate, in DER."""
    certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=certificate,
        issuer=certificate,
        algorithm=hashes.SHA256(),
        cert_status=ocsp.OCSPCertStatus.GOOD,
        this_update=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        next_update=dt.datetime(2040, 1, 1, tzinfo=dt.UTC),
        revocation_time=None,
        revocation_reason=None,
    )
    answer = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, certificate).sign(key, hashes.SHA256())
    return answer.public_bytes(serialization.Encoding.DER)


def test_good_pair() -> None:
    """Certificate and key become one secret, root certificates another."""
    found = material(cert_chain=PAIR.certificate, private_key=PAIR.key, root_ca=OTHER.certificate)

    assert (found.certificate_fault, found.authority_fault) == ("", "")
    assert found.certificate is not None
    assert found.authority is not None
    secret = envoy_secret_pb2.Secret.FromString(found.certificate.body)
    assert secret.tls_certificate.certificate_chain.inline_string == PAIR.certificate
    assert (found.certificate.name, found.authority.name) == ("tls/gloo-system/s", "ca/gloo-system/s")


def test_roots_alone() -> None:
    """A Secret with only root certificates is enough to verify with."""
    found = material(root_ca=OTHER.certificate)

    assert found.certificate is None
    assert found.certificate_fault == ""
    assert found.authority is not None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cert_chain": PAIR.certificate}, "only one of"),
        ({"private_key": PAIR.key}, "only one of"),
        ({"cert_chain": "abc", "private_key": PAIR.key}, "no chain of PEM certificates"),
        ({"cert_chain": PAIR.certificate, "private_key": "abc"}, "no PEM key"),
        ({"cert_chain": PAIR.certificate, "private_key": OTHER.key}, "does not belong"),
        ({"cert_chain": PAIR.certificate, "private_key": PAIR.key, "ocsp_staple": b"abc"}, "no OCSP response"),
        (
            {"cert_chain": OTHER.certificate, "private_key": OTHER.key, "ocsp_staple": staple_for(PAIR, KEY)},
            "not about its certificate",
        ),
    ],
)
def test_unusable_pairs(fields: dict[str, str | bytes], words: str) -> None:
    """Each fault is said in words, and nothing of the secret itself is in them."""
    found = material(**fields)

    assert found.certificate is None
    assert words in found.certificate_fault
    assert "BEGIN" not in found.certificate_fault


def test_root_that_is_no_certificate() -> None:
    """A fault of its own: the pair beside it may be good."""
    found = material(root_ca="abc")

    assert found.authority is None
    assert "no PEM certificate" in found.authority_fault


def test_weak_rsa_key() -> None:
    """Envoy wants 2048 bits."""
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  # the weakness is the point
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "a")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    found = material(cert_chain=certificate.public_bytes(pem).decode(), private_key=private.decode())

    assert "less than 2048 bits" in found.certificate_fault


def test_key_with_a_password() -> None:
    """A key that nobody can open is refused."""
    best = serialization.BestAvailableEncryption(b"password")
    locked = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, best).decode()

    assert "without a password" in material(cert_chain=PAIR.certificate, private_key=locked).certificate_fault


def test_secret_of_another_kind() -> None:
    """A Secret that holds no TLS is told what is needed."""
    found = translate_secret(REF, secret_pb2.Secret(aws=secret_pb2.AwsSecret(access_key="a")), Memo())

    assert "no TLS secret" in found.certificate_fault


def test_same_secret_is_read_once() -> None:
    """Thousands of chains with one Secret cost one look at its key."""
    memo = Memo()
    secret = secret_pb2.Secret(tls=secret_pb2.TlsSecret(cert_chain=PAIR.certificate, private_key=PAIR.key))

    assert translate_secret(REF, secret, memo) is translate_secret(REF, secret, memo)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (ssl_pb2.SSLFiles(tls_cert="/a"), "belong together"),
        (ssl_pb2.SSLFiles(tls_key="/a"), "belong together"),
        (ssl_pb2.SSLFiles(root_ca="/a\n"), "no path"),
        (ssl_pb2.SSLFiles(root_ca="/" + "a" * 5000), "no path"),
    ],
)
def test_unusable_files(files: ssl_pb2.SSLFiles, words: str) -> None:
    """Paths are checked as far as another machine can."""
    assert words in translate_files(files, Memo()).certificate_fault


@pytest.mark.envoy
def test_stapled_answer_is_accepted(envoy_binary: Path, tmp_path: Path) -> None:
    """MUST_STAPLE with an answer that fits; Envoy takes both."""
    secret = secret_pb2.Secret()
    secret.metadata.name, secret.metadata.namespace = "s", "gloo-system"
    secret.tls.cert_chain, secret.tls.private_key = PAIR.certificate, PAIR.key
    secret.tls.ocsp_staple = staple_for(PAIR, KEY)
    config = "sslConfig: {secretRef: {name: s, namespace: gloo-system}, ocspStaplePolicy: MUST_STAPLE}"
    world = make_world(SSL_GATEWAY, upstream(), virtual_service(TO_UP, more=config))
    world.put_message("Secret", secret)

    assert world.problems() == []
    assert len(world.listener("listener-::-8443").filter_chains) == 1
    assert validate_snapshot(world.snapshot(), envoy_binary, tmp_path) == ""
