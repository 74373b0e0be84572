"""How the xDS port is secured: what the settings say, where the certificate is from, who may have which role."""

import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from gloo_nomad.app.last_known import LastKnownKeeper
from gloo_nomad.app.xds_dev_keys import DEV_CLIENT, keep_dev_keys
from gloo_nomad.app.xds_vault_keys import request_of, vault_keys
from gloo_nomad.serving import is_loopback
from gloo_nomad.settings import RuntimeSettings, SettingsError, own_path
from gloo_nomad.sources.source import SourceState
from gloo_nomad.xds.access import Authorize, RuleMistakeError, allow_all, parse_rules
from gloo_nomad.xds.keys import KeyFiles, KeyMistakeError, build_credentials

PLAINTEXT: Final = "plaintext"
_WITH_FILES: Final = frozenset({"files", "dev"})
_RULES: Final = "xdsClientRoles"
_FILES: Final = ("xdsTlsCert", "xdsTlsKey", "xdsTlsClientCa")
_NEEDS: Final = (
    "it hands private keys to whoever asks: bind it to loopback (--xds-bind 127.0.0.1:9977), switch TLS on "
    f"({own_path('xdsTls')}: files, vault or dev), or permit plain text in a network that you trust "
    "(--xds-tls plaintext)"
)


@dataclass(frozen=True, slots=True)
class XdsSecurity:
    """What the server is started with; without credentials it speaks plain text."""

    credentials: grpc.ServerCredentials | None = None
    authorize: Authorize = allow_all


def check_security(settings: RuntimeSettings) -> None:
    """Looks whether the settings can be followed, before anything starts; asks no server. Raises ``SettingsError``."""
    mode = mode_of(settings)
    host, port = settings.xds_bind
    if not mode and not is_loopback(host):
        raise SettingsError(
            f"xDS would be plain text on {host}:{port}, where other machines may reach it, and {_NEEDS}"
        )
    rules_of(settings)
    if mode in _WITH_FILES:
        _open_files(settings)
    if mode == "vault":
        request_of(settings)


def may_be_plain(settings: RuntimeSettings, host: str) -> bool:
    """Whether discovery without TLS may be served there."""
    return mode_of(settings) == PLAINTEXT or is_loopback(host)


def mode_of(settings: RuntimeSettings) -> str:
    """Where the certificate comes from; empty if nothing is written."""
    return str(settings.own("xdsTls"))


def rules_of(settings: RuntimeSettings) -> Authorize:
    """Who may have which role. A certificate alone gives no role: others have one of the same authority too.

    Raises:
        SettingsError: there are none, or they cannot be read or followed.
    """
    mode, written = mode_of(settings), settings.own(_RULES)
    if mode in {"", PLAINTEXT}:
        if written:
            raise SettingsError(
                f"{own_path(_RULES)}: plain text shows no identities; write xdsTls: files, vault or dev"
            )
        return allow_all
    if mode == "dev" and not written:
        written = {DEV_CLIENT: "*"}
    if not written:
        raise SettingsError(
            f"{own_path(_RULES)}: is missing; write which identity of a client's certificate may have which role, for "
            "example {gateway-proxy.example.com: gloo-system~gateway-proxy}"
        )
    try:
        return parse_rules(written)
    except RuleMistakeError as mistake:
        raise SettingsError(f"{own_path(_RULES)}: {mistake}") from mistake


@asynccontextmanager
async def secured(
    settings: RuntimeSettings, states: list[SourceState], keeper: LastKnownKeeper | None = None
) -> AsyncIterator[XdsSecurity]:
    """What the server needs, for as long as the block lasts; adds to *states* what that depends on.

    *keeper* has what a start without Vault needs. Raises ``SettingsError``.
    """
    mode, authorize = mode_of(settings), rules_of(settings)
    if mode == "vault":
        async with vault_keys(settings, states, keeper) as keys:
            yield XdsSecurity(build_credentials(keys.current), authorize)
    elif mode in _WITH_FILES:
        yield XdsSecurity(build_credentials(_open_files(settings).current), authorize)
    else:
        yield XdsSecurity()


def _open_files(settings: RuntimeSettings) -> KeyFiles:
    if mode_of(settings) == "dev":
        host = settings.xds_bind[0]
        names = (socket.gethostname(), *(() if _is_unspecified(host) else (host,)))
        return keep_dev_keys(Path(_required(settings, "xdsTlsFolder")), names)
    try:
        return KeyFiles(*(Path(_required(settings, name)) for name in _FILES))
    except KeyMistakeError as mistake:
        raise SettingsError(f"{own_path('xdsTls')}: files: {mistake}") from mistake


def _required(settings: RuntimeSettings, name: str) -> str:
    value = str(settings.own(name))
    if not value:
        raise SettingsError(f"{own_path(name)}: is missing; xdsTls: {mode_of(settings)} needs its path")
    return value


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
