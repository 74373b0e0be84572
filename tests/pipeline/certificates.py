"""Certificates and keys for tests, and Secrets that hold them."""

import datetime as dt
from functools import cache
from typing import NamedTuple

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Pair(NamedTuple):
    """A self-signed certificate and its key, in PEM."""

    certificate: str
    key: str


@cache
def make_pair(name: str) -> Pair:
    """A pair for a host name; the same one for the same name."""
    return sign(name, ec.generate_private_key(ec.SECP256R1()))


def sign(name: str, key: ec.EllipticCurvePrivateKey) -> Pair:
    """A self-signed certificate for a key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), encoded.decode())


def tls_secret(name: str, pair: Pair, authority: str = "") -> str:
    """A Secret in YAML."""
    tls = {"certChain": pair.certificate, "privateKey": pair.key}
    if authority:
        tls["rootCa"] = authority
    metadata = {"name": name, "namespace": "gloo-system"}
    return yaml.safe_dump({"kind": "Secret", "metadata": metadata, "tls": tls})
