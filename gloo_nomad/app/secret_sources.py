"""Where secrets come from, and the certificates that some of them ask for."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gloo_nomad.api.kinds import SECRET
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.engine import Engine
from gloo_nomad.app.vault import VaultMessage, vault_client, vaults_of
from gloo_nomad.clients.vault import VaultClient
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.directory import DirectorySource
from gloo_nomad.sources.source import Source, SourceState
from gloo_nomad.sources.vault_pki import PkiSource
from gloo_nomad.sources.vault_secrets import VaultPlace, VaultSecretsSource
from gloo_nomad.store.change import Entry
from gloo_nomad.store.issued import ISSUED, RequestMistakeError, asks_for_certificate, parse_request, requests_of

GATE_SECONDS: Final = 0.01
Kept = Callable[[str], Mapping[Ref, Entry]]
_VAULT_SETTINGS: Final = ("vaultAuth", "vaultKvVersion", "vaultPollSeconds")


@dataclass(frozen=True, slots=True)
class SecretSources:
    """The sources of secrets, and of the certificates that these ask for."""

    stored: tuple[Source, ...]
    pki: PkiSource

    @property
    def all(self) -> list[Source]:
        """All of them."""
        return [*self.stored, self.pki]


def secrets_key(settings: RuntimeSettings) -> tuple[Any, ...]:
    """What they are built from."""
    message = settings.message
    return (
        settings.watch_namespaces,
        message.WhichOneof("secret_source"),
        message.secret_options.SerializeToString(deterministic=True),
        message.vault_secret_source.SerializeToString(deterministic=True),
        message.directory_secret_source.SerializeToString(deterministic=True),
        *(repr(settings.own(name)) for name in _VAULT_SETTINGS),
    )


def open_secret_sources(
    settings: RuntimeSettings, engine: Engine, stack: AsyncExitStack, kept: Kept = lambda _source: {}
) -> SecretSources:
    """Those that the settings ask for; *stack* closes their clients, *kept* has what the disk knows of Vault's secrets.

    Raises ``SettingsError``.
    """
    clients: list[VaultClient] = []

    def open_vault(vault: VaultMessage) -> VaultClient:
        clients.append(vault_client(vault, settings))
        stack.push_async_callback(clients[-1].close)
        return clients[-1]

    stored = tuple(_stored(settings, open_vault, kept))
    keeps_tokens = not clients and bool(settings.environ.get("VAULT_ADDR"))
    if keeps_tokens:
        open_vault(VaultMessage())
    known = {ref: entry.value for ref, entry in engine.store.entries(ISSUED).items()}
    return SecretSources(stored, PkiSource(clients, known, keeps_tokens=keeps_tokens))


async def follow_requests(engine: Engine, sources: SecretSources) -> None:
    """Tells for ever which certificates Secrets ask for, once all of these were read."""
    await all_listed(lambda: [source.state for source in sources.stored])
    await engine.changes.join()
    seen: object = None
    with engine.listening() as changed:
        while True:
            secrets = engine.store.snapshot.of(SECRET.name)
            if secrets is not seen:
                seen = secrets
                sources.pki.want(requests_of(secrets.items()))
            await changed.wait()
            changed.clear()


async def all_listed(states: Callable[[], Iterable[SourceState]]) -> None:
    """Returns when each of these was read once; only at the beginning, so a short look now and then will do."""
    await asyncio.sleep(GATE_SECONDS)
    while not all(state.listed for state in states()):  # noqa: ASYNC110  # states are read, nothing to wait for
        await asyncio.sleep(GATE_SECONDS)


def certificate_problems(engine: Engine) -> Problems:
    """What is wrong with the requests of Secrets, and why Vault does not issue what they ask for."""
    return tuple(_certificate_problems(engine))


def _certificate_problems(engine: Engine) -> Iterator[Problem]:
    snapshot = engine.store.snapshot
    for ref, secret in snapshot.of(SECRET.name).items():
        if not asks_for_certificate(secret):
            continue
        target, issued = SECRET.object_ref(ref), snapshot.of(ISSUED).get(ref)
        try:
            parse_request(secret)
        except RequestMistakeError as mistake:
            path, _, message = str(mistake).partition(": ")
            yield Problem(Severity.ERROR, target, path, message)
            continue
        if issued is not None and issued.failure:
            yield Problem(Severity.WARNING if issued.secret else Severity.ERROR, target, "", issued.failure)


def _stored(
    settings: RuntimeSettings, open_vault: Callable[[VaultMessage], VaultClient], kept: Kept
) -> Iterator[Source]:
    """``secretOptions`` if it names sources, else ``secretSource``. Names sort as sources precede each other."""
    message, namespaces = settings.message, settings.watch_namespaces
    if message.secret_options.sources:
        for number, source in enumerate(message.secret_options.sources):
            if source.HasField("directory"):
                folder, name = Path(source.directory.directory), f"secrets-{number:02}"
                yield DirectorySource(folder, (SECRET,), namespaces, bare=True, name=name)
            elif source.HasField("vault"):
                yield _vault_source(source.vault, open_vault(source.vault), settings, f"vault-{number:02}", kept)
    elif message.WhichOneof("secret_source") == "directory_secret_source":
        yield DirectorySource(Path(message.directory_secret_source.directory), (SECRET,), namespaces, name="secrets")
    else:
        for vault in vaults_of(settings):
            yield _vault_source(vault, open_vault(vault), settings, "vault", kept)


def _vault_source(
    vault: VaultMessage, client: VaultClient, settings: RuntimeSettings, name: str, kept: Kept
) -> VaultSecretsSource:
    place = VaultPlace(vault.path_prefix or "secret", vault.root_key or "gloo", int(settings.own("vaultKvVersion")))
    refresh = float(settings.own("vaultPollSeconds"))
    return VaultSecretsSource(client, place, settings.watch_namespaces, refresh=refresh, known=kept(name), name=name)
