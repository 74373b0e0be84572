"""Certificates and keys as SDS resources: a renewal changes a Secret and nothing else, and no connection drains.

What Envoy would refuse is refused here, on the object that names the Secret: Envoy takes RSA keys from 2048 bits, the
curves P-256, P-384 and P-521, and Ed25519; certificate and key must be a pair; a stapled answer must be about the
certificate (tried with Envoy 1.40).
"""

from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import ocsp
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from gloo_nomad.api.gen import secret_pb2 as contract_secret_pb2
from gloo_nomad.api.gen import ssl_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.names import authority_file_name, authority_name, certificate_files_name, certificate_name
from gloo_nomad.envoy.resources import pack_resource
from gloo_nomad.options.hooks import Claims
from gloo_nomad.resources import SECRET, Resource
from gloo_nomad.store.memo import Memo

READS: Claims = {
    "gloo.solo.io.SSLFiles": ("tls_cert", "tls_key", "root_ca", "ocsp_staple"),
    "gloo.solo.io.Secret": ("metadata", "tls", "extensions"),
    "gloo.solo.io.TlsSecret": ("cert_chain", "private_key", "root_ca", "ocsp_staple"),
}

MIN_RSA_BITS: Final = 2048
MAX_PATH_BYTES: Final = 4096
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm)


@dataclass(frozen=True, slots=True, eq=False)
class TlsMaterial:
    """What a Secret or a set of files offers to a TLS handshake."""

    certificate: Resource | None = None
    authority: Resource | None = None
    """Root certificates."""
    stapled: bool = False
    """Whether there is an OCSP answer to staple."""
    certificate_fault: str = ""
    authority_fault: str = ""
    source: Any = None
    """Where Envoy asks for the two, Envoy's ConfigSource; None for us. Then the resources only have names."""


def translate_secret(ref: Ref, secret: contract_secret_pb2.Secret, memo: Memo) -> TlsMaterial:
    """The material of a Secret, worked out once as long as the Secret is the same."""
    return memo.get(("tls secret", ref), (secret,), lambda: _read_secret(ref, secret, memo))


def _read_secret(ref: Ref, secret: contract_secret_pb2.Secret, memo: Memo) -> TlsMaterial:
    if secret.WhichOneof("kind") != "tls":
        fault = "it is no TLS secret; give it tls.certChain and tls.privateKey"
        return TlsMaterial(certificate_fault=fault, authority_fault=fault)
    tls = secret.tls
    certificate = authority = None
    certificate_fault = _pair_fault(tls) if tls.cert_chain or tls.private_key else ""
    if tls.cert_chain and not certificate_fault:
        certificate = pack_resource(memo, SECRET, certificate_name(ref), _build_certificate(ref, tls))
    authority_fault = _authority_fault(tls.root_ca) if tls.root_ca else ""
    if tls.root_ca and not authority_fault:
        message = secret_pb2.Secret(name=authority_name(ref))
        message.validation_context.trusted_ca.inline_string = tls.root_ca
        authority = pack_resource(memo, SECRET, message.name, message)
    return TlsMaterial(certificate, authority, bool(tls.ocsp_staple), certificate_fault, authority_fault)


def _build_certificate(ref: Ref, tls: contract_secret_pb2.TlsSecret) -> Any:
    message = secret_pb2.Secret(name=certificate_name(ref))
    message.tls_certificate.certificate_chain.inline_string = tls.cert_chain
    message.tls_certificate.private_key.inline_string = tls.private_key
    if tls.ocsp_staple:
        message.tls_certificate.ocsp_staple.inline_bytes = tls.ocsp_staple
    return message


def translate_files(files: ssl_pb2.SSLFiles, memo: Memo) -> TlsMaterial:
    """The material in files on Envoy's own machine; Envoy reads them, and reads them again when they change."""
    certificate = authority = None
    fault = next((fault for path in _paths(files) if (fault := _path_fault(path))), "")
    if fault or bool(files.tls_cert) != bool(files.tls_key):
        fault = fault or "tlsCert and tlsKey belong together; name both files"
        return TlsMaterial(certificate_fault=fault)
    if files.tls_cert:
        message = secret_pb2.Secret(name=certificate_files_name(files.tls_cert, files.tls_key, files.ocsp_staple))
        message.tls_certificate.certificate_chain.filename = files.tls_cert
        message.tls_certificate.private_key.filename = files.tls_key
        if files.ocsp_staple:
            message.tls_certificate.ocsp_staple.filename = files.ocsp_staple
        certificate = pack_resource(memo, SECRET, message.name, message)
    if files.root_ca:
        message = secret_pb2.Secret(name=authority_file_name(files.root_ca))
        message.validation_context.trusted_ca.filename = files.root_ca
        authority = pack_resource(memo, SECRET, message.name, message)
    return TlsMaterial(certificate, authority, bool(files.ocsp_staple))


def _paths(files: ssl_pb2.SSLFiles) -> tuple[str, ...]:
    return tuple(path for path in (files.tls_cert, files.tls_key, files.root_ca, files.ocsp_staple) if path)


def _path_fault(path: str) -> str:
    if len(path.encode()) > MAX_PATH_BYTES or not path.isprintable():
        return f"{path[:80]!r} is no path of a file"
    return ""


def _pair_fault(tls: contract_secret_pb2.TlsSecret) -> str:
    """Why certificate chain, key and stapled answer cannot be served together, or ""."""
    if not tls.cert_chain or not tls.private_key:
        return "it has only one of tls.certChain and tls.privateKey; both are needed"
    try:
        chain = x509.load_pem_x509_certificates(tls.cert_chain.encode())
        public_key = chain[0].public_key()
    except _UNREADABLE:
        return "its tls.certChain is no chain of PEM certificates"
    try:
        private_key = serialization.load_pem_private_key(
            tls.private_key.encode(), None, unsafe_skip_rsa_key_validation=True
        )
    except _UNREADABLE:
        return "its tls.privateKey is no PEM key without a password"
    if _encoded(private_key.public_key()) != _encoded(public_key):
        return "its tls.privateKey does not belong to its tls.certChain"
    return _key_fault(public_key) or _staple_fault(tls.ocsp_staple, chain[0])


def _encoded(public_key: Any) -> bytes:
    encoded: bytes = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _key_fault(key: Any) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return "" if key.key_size >= MIN_RSA_BITS else f"its RSA key has less than {MIN_RSA_BITS} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if isinstance(key.curve, _CURVES) else f"its key is on the curve {key.curve.name}; use P-256"
    return "" if isinstance(key, ed25519.Ed25519PublicKey) else "its key is neither RSA nor on a curve Envoy knows"


def _staple_fault(staple: bytes, certificate: x509.Certificate) -> str:
    if not staple:
        return ""
    try:
        answer = ocsp.load_der_ocsp_response(staple)
        successful = answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
        about = answer.serial_number if successful else None
    except _UNREADABLE:
        return "its tls.ocspStaple is no OCSP response in DER"
    return "" if about == certificate.serial_number else "its tls.ocspStaple is not about its certificate"


def _authority_fault(pem: str) -> str:
    try:
        x509.load_pem_x509_certificates(pem.encode())
    except _UNREADABLE:
        return "its tls.rootCa holds no PEM certificate"
    return ""
