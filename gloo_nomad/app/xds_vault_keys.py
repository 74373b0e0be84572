"""The certificate of the xDS port from Vault's PKI engine, renewed in good time.

At a start the last one, if it was kept on disk, stands in until Vault has issued another.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from gloo_nomad.api.gen import secret_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.last_known import AGAIN_SECONDS, LastKnownKeeper
from gloo_nomad.app.surviving import keep_running
from gloo_nomad.app.vault import VaultMessage, vault_client, vaults_of
from gloo_nomad.app.xds_kept_keys import KeptKeys
from gloo_nomad.clients.blocking import retry_for_ever
from gloo_nomad.clients.http import BadAnswerError
from gloo_nomad.clients.vault import VaultClient
from gloo_nomad.settings import RuntimeSettings, SettingsError, own_path
from gloo_nomad.sources.source import SourceState, cancel
from gloo_nomad.sources.vault_pki import BACK_OFF, parameters_of, read_pair, sleep_until
from gloo_nomad.store.issued import EXTENSION, PLACE, CertificateRequest, RequestMistakeError, parse_request
from gloo_nomad.xds.keys import KeyMistakeError, Keys

log = structlog.get_logger(__name__)
SETTING: Final = "xdsTlsVault"
STATE: Final = "xds certificate"
_PART: Final = "certificate"


def request_of(settings: RuntimeSettings) -> CertificateRequest:
    """What Vault is asked for; raises ``SettingsError``."""
    secret = secret_pb2.Secret()
    secret.extensions.configs[EXTENSION].update(settings.own(SETTING))
    try:
        return parse_request(secret)
    except RequestMistakeError as mistake:
        told = str(mistake).removeprefix(PLACE)
        raise SettingsError(f"{own_path(SETTING)}{told}") from mistake


@asynccontextmanager
async def vault_keys(
    settings: RuntimeSettings, states: list[SourceState], keeper: LastKnownKeeper | None
) -> AsyncIterator["VaultKeys"]:
    """Keys that are renewed as long as the block lasts, which begins with the first ones.

    Those are what *keeper* has on disk. If it has none, Vault is waited for, for ever; a state among *states* shows
    why. Raises ``SettingsError``.
    """
    request, state = request_of(settings), SourceState(STATE, {_PART})
    states.append(state)
    client = _client_for(request, settings)
    keys = VaultKeys(client, request, state, KeptKeys(keeper, request))
    tasks = [asyncio.create_task(client.keep_token(state.reporter("token")), name=f"{STATE} token")]
    try:
        if not await keys.restore():
            await keys.issue()
        for name, job in {STATE: keys.renew, f"kept {STATE}": keys.keep}.items():
            tasks.append(asyncio.create_task(keep_running(name, job), name=name))
        yield keys
    finally:
        await cancel(tasks)
        await client.close()
        states.remove(state)


class VaultKeys:
    """What was issued last."""

    def __init__(self, client: VaultClient, request: CertificateRequest, state: SourceState, kept: KeptKeys) -> None:
        self._client = client
        self._request = request
        self._state = state
        self._kept = kept
        self._keys: Keys | None = None
        self._renew_at = 0.0
        self._issued = asyncio.Event()

    def current(self) -> Keys:
        """The keys; there are some after ``restore`` or the first ``issue``."""
        assert self._keys is not None  # noqa: S101  # the block of vault_keys begins after that
        return self._keys

    async def restore(self) -> bool:
        """Takes what was kept on disk, if that can be used, and says whether; it is renewed at once."""
        self._keys = await self._kept.read()
        if self._keys is None:
            return False
        self._state.sent(_PART)
        log.info("xds_certificate", until=self._keys.ends, last_known=True)
        return True

    async def keep(self) -> None:
        """Keeps what is issued, for ever."""
        while True:
            await self._issued.wait()
            self._issued.clear()
            while not await self._kept.write(self.current()):  # noqa: ASYNC110  # a disk tells nobody
                await asyncio.sleep(AGAIN_SECONDS)

    async def renew(self) -> None:
        """Issues again and again, each time before the certificate ends."""
        while True:
            await sleep_until(self._renew_at, at_least=1.0)
            await self.issue()

    async def issue(self) -> None:
        """Returns with new keys; until then the old ones stay in service, also after their end."""
        async for attempt in retry_for_ever(self._state.reporter(_PART), back_off=BACK_OFF):
            with attempt:
                await self._issue_once()
        self._state.succeed(_PART)
        self._state.sent(_PART)
        log.info("xds_certificate", until=self.current().ends)

    async def _issue_once(self) -> None:
        request = self._request
        pair = await self._client.issue_certificate(request.mount_path, request.role, parameters_of(request))
        issued = read_pair(Ref("", "xds"), request, pair)
        secret = issued.secret
        roots = "\n".join(text.strip() for text in pair.chain) + "\n"
        texts = (secret.tls.cert_chain, secret.tls.private_key, roots) if secret is not None else ()
        try:
            self._keys = Keys(*(text.encode() for text in texts)).checked()
        except KeyMistakeError as mistake:
            raise BadAnswerError(f"what {request.mount_path} issued cannot be used: {mistake}") from None
        self._renew_at = issued.renew_at
        self._issued.set()


def _client_for(request: CertificateRequest, settings: RuntimeSettings) -> VaultClient:
    """Of the Vault with the request's address, else of the first one that secrets are read from, or of VAULT_ADDR."""
    known = list(vaults_of(settings))
    if request.address:
        same = (vault for vault in known if vault.address == request.address)
        return vault_client(next(same, VaultMessage(address=request.address)), settings)
    return vault_client(next(iter(known), VaultMessage()), settings)
