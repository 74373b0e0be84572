"""HTTPS as ``curl -k`` does it: the certificate is looked at, not verified."""

import http.client
import socket
import ssl

from cryptography import x509


def fetch_insecurely(port: int, path: str) -> tuple[int, str]:
    """Status and body of one request to this machine."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=_context())
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def served_certificate(port: int) -> x509.Certificate:
    """The certificate that a server shows."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    with _context().wrap_socket(plain, server_hostname="localhost") as secured:
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
