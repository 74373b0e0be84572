"""Certificates from Vault's PKI engine: issued for the Secrets that ask for them, and renewed in good time.

Each is renewed between a half and six tenths of its life. As long as that fails the old one stays in service, also
after its end, and the reason stands beside it.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import tenacity
from cryptography import x509

from gloo_nomad.api.gen import secret_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.blocking import retry_for_ever
from gloo_nomad.clients.http import BadAnswerError, RefusedError, SealedError, WorldError
from gloo_nomad.clients.vault import IssuedPair, VaultClient
from gloo_nomad.sources.source import SourceState, cancel
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.issued import ISSUED, CertificateRequest, IssuedCertificate

NAME: Final = "pki"
BACK_OFF: Final = tenacity.wait_fixed(0.5) + tenacity.wait_random_exponential(multiplier=0.5, max=30)
"""Seconds between attempts at one certificate: at most 30.5."""
_REQUESTS: Final = "requests"
_CONCURRENCY: Final = 4
_LOOK_SECONDS: Final = 30.0
"""How often to look whether the clock was set."""
NO_VAULT: Final = "there is no Vault to issue it; give vaultSecretSource, or VAULT_ADDR"


@dataclass(slots=True)
class _Kept:
    """A request that is being answered."""

    request: CertificateRequest
    task: asyncio.Task[None]


class PkiSource:
    """Issues what is wanted. Its ``state`` is listed when all that was wanted at first was issued, or refused."""

    def __init__(
        self, clients: Sequence[VaultClient], known: Mapping[Ref, IssuedCertificate], *, keeps_tokens: bool = False
    ) -> None:
        """*known* is still served; *keeps_tokens* says that nobody else keeps the clients' tokens alive."""
        self.name = NAME
        self.state = SourceState(NAME, {_REQUESTS})
        self._clients = clients
        self._issued = dict(known)
        self._keeps_tokens = keeps_tokens
        self._kept: dict[Ref, _Kept] = {}
        self._answered: set[Ref] = set()
        """For which there is a certificate, or a no; a Vault that fails gives neither."""
        self._news: asyncio.Queue[Change | Exception] = asyncio.Queue()
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    def want(self, requests: Mapping[Ref, CertificateRequest | None]) -> None:
        """These are wanted from now on, and no others; to be called when everything that asks for some was read.

        None is for a request that cannot be read: what was asked for before it goes on being renewed.
        """
        for ref in self._kept.keys() - requests.keys():
            self._kept.pop(ref).task.cancel()
            self._answered.discard(ref)
            self.state.forget(str(ref))
        gone = frozenset(self._issued.keys() - requests.keys())
        for ref in gone:
            del self._issued[ref]
        if gone:
            self._news.put_nowait(Change(NAME, ISSUED, deletes=gone))
        for ref, request in requests.items():
            before = self._kept.get(ref)
            if request is None or (before is not None and before.request == request):
                continue
            if before is not None:
                before.task.cancel()
            if ref not in self._issued:
                self.state.expect(str(ref))
            self._kept[ref] = _Kept(request, asyncio.create_task(self._keep(ref, request), name=f"{NAME}/{ref}"))
        self.state.parts.discard(_REQUESTS)

    async def watch_changes(self) -> AsyncGenerator[Change, None]:
        """Yields what is issued, and what is not wanted any more."""
        keepers = [
            asyncio.create_task(client.keep_token(self.state.reporter("token")), name=f"{NAME}/token")
            for client in (self._clients if self._keeps_tokens else ())
        ]
        try:
            while True:
                news = await self._news.get()
                if isinstance(news, Exception):
                    raise news
                yield news
                for ref in self._answered & news.puts.keys():
                    self.state.sent(str(ref))
        finally:
            await cancel([*keepers, *(kept.task for kept in self._kept.values())])

    async def _keep(self, ref: Ref, request: CertificateRequest) -> None:
        """Answers one request for ever."""
        try:
            client = self._client_for(request)
            if client is None:
                self._answered.add(ref)
                self._put(ref, replace(self._last(ref, request), failure=_no_vault(request)))
                return
            issued = self._issued.get(ref)
            if issued is not None and issued.secret is not None and issued.request == request:
                if issued.failure:  # of an edit that was taken back
                    self._put(ref, replace(issued, failure=""))
                    self.state.succeed(str(ref))
                await sleep_until(issued.renew_at)
            while True:
                issued = await self._issue(client, ref, request)
                self._answered.add(ref)
                self._put(ref, issued)
                self.state.succeed(str(ref))
                await sleep_until(issued.renew_at, at_least=1.0)
        except Exception as defect:  # handed to whoever watches
            self._news.put_nowait(defect)

    async def _issue(self, client: VaultClient, ref: Ref, request: CertificateRequest) -> IssuedCertificate:
        async for attempt in retry_for_ever(partial(self._failed, ref, request), back_off=BACK_OFF):
            with attempt:
                async with self._slots:
                    pair = await client.issue_certificate(request.mount_path, request.role, parameters_of(request))
                issued = read_pair(ref, request, pair)
        return issued

    def _failed(self, ref: Ref, request: CertificateRequest, failure: WorldError | None) -> None:
        told = str(failure)
        if isinstance(failure, RefusedError) and not isinstance(failure, SealedError):
            self._answered.add(ref)
        self.state.fail(str(ref), told)
        if self._last(ref, request).failure != told:
            self._put(ref, replace(self._last(ref, request), failure=told))

    def _last(self, ref: Ref, request: CertificateRequest) -> IssuedCertificate:
        return self._issued.get(ref) or IssuedCertificate(request)

    def _put(self, ref: Ref, issued: IssuedCertificate) -> None:
        self._issued[ref] = issued
        self._news.put_nowait(Change(NAME, ISSUED, {ref: Entry(issued)}))

    def _client_for(self, request: CertificateRequest) -> VaultClient | None:
        if not request.address:
            return next(iter(self._clients), None)
        try:
            wanted = parse_address(request.address, 8200)
        except ValueError:
            return None
        return next((client for client in self._clients if client.options.address == wanted), None)


def _no_vault(request: CertificateRequest) -> str:
    if not request.address:
        return NO_VAULT
    return "its address is none of a Vault that secrets are read from; leave it out, or correct it"


def parameters_of(request: CertificateRequest) -> dict[str, str]:
    """What Vault is asked for besides role and mount."""
    found = {"common_name": request.common_name, "ttl": request.ttl}
    found |= {"alt_names": ",".join(request.alt_names), "ip_sans": ",".join(request.ip_sans)}
    return {name: value for name, value in found.items() if value}


def read_pair(ref: Ref, request: CertificateRequest, pair: IssuedPair) -> IssuedCertificate:
    """The pair as a TLS Secret. Its chain ends below the root, which clients have or do not trust."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(pair.certificate.encode())
        chain = [item for text in pair.chain for item in x509.load_pem_x509_certificates(text.encode())]
    except ValueError:
        raise BadAnswerError(f"the certificate that {request.mount_path} issued cannot be read") from None
    secret = secret_pb2.Secret()
    secret.metadata.namespace, secret.metadata.name = ref
    between = [text for text, item in zip(pair.chain, chain, strict=True) if item.issuer != item.subject]
    secret.tls.cert_chain = "\n".join(text.strip() for text in (pair.certificate, *between)) + "\n"
    secret.tls.private_key = pair.private_key
    if request.root_ca:
        secret.tls.root_ca = "\n".join(text.strip() for text in pair.chain) + "\n"
    now = time.time()
    life = _rest_of_life(certificate, now)
    return IssuedCertificate(request, secret, now + life * (0.5 + 0.1 * random.random()))  # noqa: S311  # jitter


def _rest_of_life(certificate: x509.Certificate, now: float) -> float:
    """Seconds that a certificate is good for which was issued a moment ago: all of them if our clock is wrong."""
    end = certificate.not_valid_after_utc.timestamp()
    whole = end - certificate.not_valid_before_utc.timestamp()
    return end - now if 0 < end - now <= whole else whole


async def sleep_until(moment: float, at_least: float = 0.0) -> None:
    """Returns at a time of the wall clock, in seconds since the epoch.

    A clock that is set forward meanwhile is noticed, one that is set back makes the wait no longer.
    """
    ends = time.monotonic() + moment - time.time()
    await asyncio.sleep(at_least)
    while (rest := min(ends - time.monotonic(), moment - time.time())) > 0:  # noqa: ASYNC110  # a clock tells nobody
        await asyncio.sleep(min(rest, _LOOK_SECONDS))
