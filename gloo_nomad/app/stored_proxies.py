"""Keeps the computed proxies in Consul KV, for people who look there: ``gateway.persistProxySpec``.

Nothing of ours reads them. Without that setting, those that were stored before are deleted: they would go out of date.
A Proxy that does not fit into a value of Consul is not written, and a warning says so; an older one stays.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import structlog

from gloo_nomad.admin.proxy_messages import LABELS, build_proxy
from gloo_nomad.api import codec
from gloo_nomad.api.kinds import PROXY, SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.engine import Engine
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_cas import Write, txn_cas
from gloo_nomad.clients.http import ConflictError, WorldError
from gloo_nomad.gateway.stored import pack
from gloo_nomad.proxies import Proxy
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.leader import Leader

log = structlog.get_logger(__name__)

MAX_VALUE: Final = 512 * 1024
"""Bytes of one value in Consul KV (``limits.kv_max_value_size``)."""
RETRY_SECONDS: Final = 5.0
COMPRESSED: Final = {"gloo.solo.io/compress": "true"}
"""The annotation by which the reference tells a packed one."""

Written = tuple[Proxy, bool]


@dataclass(slots=True)
class ProxyKeeper:
    """Writes and deletes what differs, while this process is the leader."""

    engine: Engine
    client: ConsulClient
    leader: Leader
    rounds: asyncio.Event = field(init=False)
    _kept: dict[Ref, Written] | None = None
    """What was written last, and whether packed; None while nobody knows what is stored."""
    _too_large: dict[Ref, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rounds = self.engine.listener()
        self.engine.reporters.append(self.problems)

    def problems(self) -> Problems:
        """A warning on the Settings for each proxy that does not fit."""
        target = SETTINGS.object_ref(self.engine.base.ref)
        return tuple(
            Problem(
                Severity.WARNING,
                target,
                "gateway.persistProxySpec",
                f"proxy {ref} has {size} bytes and is not written, because Consul takes {MAX_VALUE} at most"
                f"{'' if self._packs(self.engine.settings) else '; try compressedProxySpec'}",
            )
            for ref, size in sorted(self._too_large.items())
        )

    async def run(self) -> None:
        """For ever, after each round."""
        await self.engine.config_listed.wait()
        while True:
            await self.rounds.wait()
            self.rounds.clear()
            if not self.leader.held.is_set():
                self._kept, self._too_large = None, {}
                await self.leader.held.wait()
            settings = self.engine.settings
            if self.engine.translation is None or not settings.translates_gateways:
                continue
            try:
                await self._keep(settings, self.engine.translation.proxies)
            except WorldError as failure:
                log.warning("proxies_not_stored", reason=str(failure))
                self._kept = None
                await asyncio.sleep(RETRY_SECONDS)
                self.rounds.set()

    async def _keep(self, settings: RuntimeSettings, proxies: tuple[Proxy, ...]) -> None:
        wanted = {proxy.ref: proxy for proxy in proxies} if settings.message.gateway.persist_proxy_spec.value else {}
        packs, unsaid = self._packs(settings), dict(self._too_large)
        if self._kept is None or self._kept.keys() - wanted.keys():
            await self._delete_others(settings, wanted)
        kept = self._kept = {ref: written for ref, written in (self._kept or {}).items() if ref in wanted}
        self._too_large = {ref: size for ref, size in self._too_large.items() if ref in wanted}
        for ref, proxy in wanted.items():
            if kept.get(ref) != (proxy, packs):
                await self._write(settings, proxy)
                kept[ref] = (proxy, packs)
        if self._too_large != unsaid:
            self.engine.wake()

    async def _write(self, settings: RuntimeSettings, proxy: Proxy) -> None:
        value = await asyncio.to_thread(_render, proxy, packs=self._packs(settings))
        if len(value) > MAX_VALUE:
            self._too_large[proxy.ref] = len(value)
            log.warning("proxy_too_large", proxy=str(proxy.ref), bytes=len(value), limit=MAX_VALUE)
            return
        self._too_large.pop(proxy.ref, None)
        key = PROXY.key(settings.root_key, proxy.ref)
        stored = (await self.client.kv_get(key)).pairs
        if stored and stored[0].text() == value:
            return
        write = Write(key, value, stored[0].modify_index if stored else 0)
        if not (await txn_cas(self.client, [write], self.leader.fence()))[key].index:
            raise ConflictError(f"{key} was changed by somebody else")

    async def _delete_others(self, settings: RuntimeSettings, wanted: dict[Ref, Proxy]) -> None:
        """Those that carry our label and are not wanted."""
        prefix = f"{settings.root_key}/{PROXY.prefix}{settings.write_namespace}/"
        for entry in (await self.client.kv_list(prefix)).pairs:
            decoded = codec.decode(PROXY, entry.text())
            if decoded.message is None or decoded.ref.ref in wanted or not set(_labels(decoded)) >= set(LABELS.items()):
                continue
            await txn_cas(self.client, [Write(entry.key, None, entry.modify_index)], self.leader.fence())
            log.info("proxy_deleted", key=entry.key)

    @staticmethod
    def _packs(settings: RuntimeSettings) -> bool:
        return settings.message.gateway.compressed_proxy_spec


def _labels(decoded: codec.Decoded) -> Iterator[tuple[str, str]]:
    yield from decoded.message.metadata.labels.items()  # type: ignore[union-attr]  # it has a message


def _render(proxy: Proxy, *, packs: bool) -> bytes:
    """The value to store; of one that cannot fit no more than its size counts."""
    message = build_proxy(proxy)
    if packs:
        message.compressedSpec = pack(message)
        message.ClearField("listeners")
        message.metadata.annotations.update(COMPRESSED)
    return codec.to_json(codec.encode(message, kind=PROXY)).encode()
