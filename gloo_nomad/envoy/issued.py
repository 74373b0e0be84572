"""A Secret that asks for a certificate stands for the one that was issued."""

from typing import Final

from gloo_nomad.api.gen import secret_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.reports import Finding, error, warning
from gloo_nomad.store.issued import ISSUED, IssuedCertificate, RequestMistakeError, asks_for_certificate, parse_request
from gloo_nomad.store.memo import Reads

_WAITS: Final = "its certificate has not been issued yet; TLS that needs it waits until it is"


def find_issued(
    ref: Ref, secret: secret_pb2.Secret, reads: Reads
) -> tuple[secret_pb2.Secret | None, tuple[Finding, ...]]:
    """The TLS Secret that a Secret stands for: itself if it asks for nothing, None if nothing was issued.

    An issued one is served as long as there is no newer one, whatever the request has become.
    """
    if not asks_for_certificate(secret):
        return secret, ()
    issued: IssuedCertificate | None = reads.get(ISSUED, ref)
    served = issued.secret if issued is not None else None
    try:
        parse_request(secret)
        fault = issued.failure if issued is not None else ""
    except RequestMistakeError as mistake:
        fault = str(mistake)
    if served is None:
        return None, (error("secretRef", f"secret {ref}: {fault or _WAITS}"),)
    return served, (warning("secretRef", f"secret {ref} is not renewed: {fault}"),) if fault else ()
