"""The running ``gloo`` instances: where their admin pages are, and what these say."""

import asyncio
import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gloo_nomad.cli.checking import ERROR, OK, WARN, Finding
from gloo_nomad.cli.place import Place, opened_client
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.http import HttpOptions, HttpSession, WorldError

DEFAULT_PORT: Final = 9091
DEFAULT_ADMIN: Final = f"127.0.0.1:{DEFAULT_PORT}"
SERVICE: Final = "gloo-xds"
ADMIN_PORT: Final = "admin_port"
"""Metadata of that service in Consul: the port of the instance's admin pages."""
ADMIN_SECONDS: Final = 5
MAX_ANSWER: Final = 8 * 1024 * 1024
MAX_PROBLEMS: Final = 200
REMEDY: Final = "give its address by --admin-address, or leave it out by --no-proxy"


@dataclass(frozen=True, slots=True)
class Daemon:
    """What one instance says."""

    health: Mapping[str, Any]
    ready: Mapping[str, Any]
    clients: Sequence[Mapping[str, Any]]
    problems: Sequence[Mapping[str, Any]]


async def find_daemons(place: Place) -> tuple[str, ...]:
    """Addresses of admin pages: those that Consul knows as metadata of ``gloo-xds``, or the one by default."""
    if place.config_dir is not None:
        return (DEFAULT_ADMIN,)
    try:
        async with opened_client(place) as client:
            entries = await client.registered_service(SERVICE)
    except WorldError:
        return (DEFAULT_ADMIN,)
    known = {
        (f"[{entry.host}]" if ":" in entry.host else entry.host) + f":{port}"
        for entry in entries
        if (port := (entry.service.meta or {}).get(ADMIN_PORT, "")).isdecimal()
    }
    return tuple(sorted(known)) or (DEFAULT_ADMIN,)


async def check_daemons(addresses: Sequence[str], *, problems: bool = False) -> list[Finding]:
    """What the instances say: sources, readiness, Envoys and what they rejected, and with *problems* objects too."""
    asked = [(address, await _ask(address)) for address in addresses]
    findings: list[Finding] = []
    for address, answer in asked:
        where = f"\nof {address}" if len(asked) > 1 else ""
        judged = [answer] if isinstance(answer, Finding) else [*_judge(answer)]
        findings += [Finding(found.level, found.subject + where, found.message) for found in judged]
    daemons = [answer for _, answer in asked if isinstance(answer, Daemon)]
    if problems and daemons:
        findings += _judge_problems(daemons[0].problems)
    if daemons:
        findings += _judge_clients([client for daemon in daemons for client in daemon.clients])
    return findings


async def _ask(address: str) -> Daemon | Finding:
    try:
        where = parse_address(address, DEFAULT_PORT)
        session = HttpSession(HttpOptions("gloo-nomad", where, max_body=MAX_ANSWER))
        try:
            pages = ("/healthz", "/readyz", "/clients", "/problems")
            return Daemon(*await asyncio.gather(*(_page(session, path) for path in pages)))
        finally:
            await session.close()
    except (WorldError, ValueError) as failure:
        return Finding(ERROR, "daemon", f"the admin pages do not answer: {failure}; {REMEDY}")


async def _page(session: HttpSession, path: str) -> Any:
    answer = await session.request("GET", path, timeout=ADMIN_SECONDS)
    found = answer.headers.get("Content-Type", "nothing")
    if "json" not in found:
        raise ValueError(f"{path} answers {found}, not JSON")
    return json.loads(answer.body)


def _judge(daemon: Daemon) -> Iterator[Finding]:
    yield from _judge_sources(daemon)
    yield from _judge_last_known(daemon)
    yield from _judge_readiness(daemon)


def _judge_last_known(daemon: Daemon) -> Iterator[Finding]:
    kept = daemon.health.get("lastKnown") or {}
    if kept.get("since"):
        sources = ", ".join(map(str, kept.get("sources", ())))
        told = f"degraded since {_time(kept['since'])}: what was kept at {_time(kept.get('written', 0))} is served"
        yield Finding(WARN, "last known", f"{told}, until {sources} can be read")
    if kept.get("failure"):
        yield Finding(WARN, "last known", str(kept["failure"]))


def _time(seconds: Any) -> str:
    return dt.datetime.fromtimestamp(float(seconds), dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _judge_sources(daemon: Daemon) -> list[Finding]:
    findings = []
    for source in daemon.health.get("sources", ()):
        failing = source.get("error")
        findings.append(
            Finding(
                ERROR if failing else (OK if source.get("listed") else WARN),
                f"source {source.get('name')}",
                str(failing or ("listed" if source.get("listed") else "not listed yet")),
            )
        )
    return findings


def _judge_readiness(daemon: Daemon) -> list[Finding]:
    if daemon.ready.get("ready"):
        return []
    waiting = ", ".join(map(str, daemon.ready.get("waitingFor", ())))
    return [Finding(ERROR, "daemon", f"not ready: waits for {waiting}")]


def _judge_problems(problems: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Problems of objects: what stands in their statuses where there are statuses."""
    findings = [
        Finding(
            ERROR if problem.get("severity") == "error" else WARN,
            f"{problem.get('kind')}\n{problem.get('namespace')}.{problem.get('name')}",
            ": ".join(filter(None, (problem.get("path"), problem.get("message")))),
        )
        for problem in problems[:MAX_PROBLEMS]
    ]
    if len(problems) > MAX_PROBLEMS:
        findings.append(Finding(WARN, "objects", f"and {len(problems) - MAX_PROBLEMS} more problems; see /problems"))
    return findings or [Finding(OK, "problems", "none")]


def _judge_clients(clients: Sequence[Mapping[str, Any]]) -> list[Finding]:
    if not clients:
        return [Finding(WARN, "Envoys", "none is connected")]
    rejecting = [client for client in clients if client.get("lastNack")]
    findings = [
        Finding(ERROR, f"Envoy {client.get('nodeId')}\n{client.get('role')}", f"rejected: {client.get('lastNack')}")
        for client in rejecting
    ]
    if not rejecting:
        findings.append(Finding(OK, "Envoys", f"{len(clients)} connected, none rejects anything"))
    return findings
