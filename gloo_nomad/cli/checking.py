"""The state of everything: statuses of stored objects, and what the daemon says of its sources and Envoys."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from gloo_nomad.cli.listing import fetch, storable_kinds
from gloo_nomad.cli.place import Place
from gloo_nomad.cli.standing import INVALID, PENDING, REJECTED, WARNING, standing_of
from gloo_nomad.frontdoor.objects import Stored

OK: Final = "ok"
WARN: Final = "warning"
ERROR: Final = "error"
ADMIN_SECONDS: Final = 5
MAX_ANSWER: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: str
    subject: str
    message: str


async def check_objects(place: Place, namespace: str = "") -> list[Finding]:
    """A finding for each stored object that is not accepted, and one that counts all."""
    stored = await fetch(place, storable_kinds(), namespace)
    findings = [finding for found in stored if (finding := _judge(found)) is not None]
    pending = sum(1 for found in stored if standing_of(found).state == PENDING)
    if pending:
        message = f"{pending} of {len(stored)} have no status yet: the gloo role writes them"
        findings.append(Finding(WARN, "objects", message))
    if not findings:
        findings.append(Finding(OK, "objects", f"{len(stored)} looked at, none has problems"))
    return findings


def _judge(stored: Stored) -> Finding | None:
    standing = standing_of(stored)
    level = {INVALID: ERROR, REJECTED: ERROR, WARNING: WARN}.get(standing.state)
    if level is None:
        return None
    return Finding(level, f"{stored.kind.name}\n{stored.ref}", f"{standing.state}: {standing.reason}".rstrip(": "))


async def check_daemon(address: str) -> list[Finding]:
    """What the admin pages say: sources, readiness, Envoys and what they rejected."""
    base = address if "://" in address else f"http://{address}"
    try:
        async with aiohttp.ClientSession(base, timeout=aiohttp.ClientTimeout(ADMIN_SECONDS)) as session:
            health, ready, clients = await asyncio.gather(
                _page(session, "/healthz"), _page(session, "/readyz"), _page(session, "/clients")
            )
    except (aiohttp.ClientError, TimeoutError, ValueError) as failure:
        reason = str(failure) or type(failure).__name__
        remedy = "give its address by --admin-address, or leave it out by --no-proxy"
        return [Finding(ERROR, "daemon", f"the admin pages at {address} do not answer: {reason}; {remedy}")]
    return [*_judge_sources(health), *_judge_readiness(ready), *_judge_clients(clients)]


async def _page(session: aiohttp.ClientSession, path: str) -> Any:
    async with session.get(path) as answer:
        body = await answer.content.read(MAX_ANSWER)
        if "json" not in answer.content_type:
            raise ValueError(f"{path} answers {answer.content_type}, not JSON")
        return json.loads(body)


def _judge_sources(health: Mapping[str, Any]) -> list[Finding]:
    findings = []
    for source in health.get("sources", ()):
        failing = source.get("error")
        findings.append(
            Finding(
                ERROR if failing else (OK if source.get("listed") else WARN),
                f"source {source.get('name')}",
                str(failing or ("listed" if source.get("listed") else "not listed yet")),
            )
        )
    return findings


def _judge_readiness(ready: Mapping[str, Any]) -> list[Finding]:
    if ready.get("ready"):
        return []
    waiting = ", ".join(map(str, ready.get("waitingFor", ())))
    return [Finding(ERROR, "daemon", f"not ready: waits for {waiting}")]


def _judge_clients(clients: Sequence[Mapping[str, Any]]) -> list[Finding]:
    if not clients:
        return [Finding(WARN, "Envoys", "none is connected to this instance")]
    rejecting = [client for client in clients if client.get("lastNack")]
    findings = [
        Finding(ERROR, f"Envoy {client.get('nodeId')}\n{client.get('role')}", f"rejected: {client.get('lastNack')}")
        for client in rejecting
    ]
    if not rejecting:
        findings.append(Finding(OK, "Envoys", f"{len(clients)} connected, none rejects anything"))
    return findings
