"""Domains: each belongs to one virtual service of a filter chain. Envoy refuses all routes when two have the same."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Finding, Problem, Severity, error, is_rejected, warning
from gloo_nomad.store import claims as ages

ANY: Final = ages.ANY_DOMAIN
NO_DOMAINS: Final[frozenset[str]] = frozenset()
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_UNBORN: Final = 1 << 63


class Claim(NamedTuple):
    """A virtual service and its domains, in lower case; none if they are invalid."""

    source: ObjectRef
    domains: tuple[str, ...]


class Conflicts(NamedTuple):
    """Who lost which domains, and what is to be said about it."""

    lost: Mapping[ObjectRef, frozenset[str]]
    problems: tuple[Problem, ...]


def read_domains(written: Sequence[str]) -> tuple[tuple[str, ...], list[Finding]]:
    """Domains as Envoy compares them (in lower case), each once, ``*`` for none; nothing if one of them is invalid."""
    if not written:
        return (ANY,), []
    findings = []
    domains: dict[str, None] = {}
    for index, domain in enumerate(written):
        path = f"virtualHost.domains[{index}]"
        reason = _refuse(domain)
        if reason:
            findings.append(error(path, reason))
        elif domain.lower() in domains:
            findings.append(warning(path, f"{domain} is there twice; it is served once"))
        elif " " in domain or "/" in domain:
            findings.append(warning(path, f"{domain!r} matches no request: a domain has neither blanks nor slashes"))
        domains[domain.lower()] = None
    return (() if is_rejected(findings) else tuple(domains)), findings


def _refuse(domain: str) -> str:
    if not domain:
        return "the virtual host has an empty domain; write * for all domains, or leave domains out"
    if _CONTROL.search(domain):
        return f"{domain!r} is no domain: it has a control character"
    return ""


def age_of(ref: Ref, claim: str, created: Mapping[Ref, int], claimed: Mapping[Ref, ages.Claims]) -> tuple[int, Ref]:
    """What orders objects by when they claimed something, the first one first; one of unknown age is the last."""
    return ages.since(ref, claim, created, claimed) or _UNBORN, ref


def find_conflicts(
    claims: Sequence[Claim],
    gateway: ObjectRef,
    path: str,
    created: Mapping[Ref, int],
    claimed: Mapping[Ref, ages.Claims],
) -> Conflicts:
    """Domains that several virtual services of a filter chain have: who had it first keeps each, the others lose it."""
    owners: dict[str, ObjectRef] = {}
    contested: dict[str, list[ObjectRef]] = {}
    for source, domains in claims:
        for domain in domains:
            if owners.setdefault(domain, source) is not source:
                contested.setdefault(domain, [owners[domain]]).append(source)
    lost: dict[ObjectRef, frozenset[str]] = {}
    problems: list[Problem] = []
    for domain, sources in sorted(contested.items()):
        by_age = _by_age(domain, sources, created, claimed)
        for loser in by_age[1:]:
            lost[loser] = lost.get(loser, NO_DOMAINS) | {domain}
        problems.extend(_conflict_problems(domain, by_age, gateway, path))
    return Conflicts(lost, tuple(problems))


def _by_age(
    domain: str, sources: list[ObjectRef], created: Mapping[Ref, int], claimed: Mapping[Ref, ages.Claims]
) -> list[ObjectRef]:
    return sorted(sources, key=lambda source: age_of(source.ref, domain, created, claimed))


def _conflict_problems(domain: str, by_age: list[ObjectRef], gateway: ObjectRef, path: str) -> Iterable[Problem]:
    for ref in by_age:
        others = ", ".join(str(other.ref) for other in by_age if other != ref)
        outcome = f"{'this one' if ref is by_age[0] else by_age[0].ref} had it first and keeps it"
        text = f"domain conflict: {domain} is a domain of {others} too, on gateway {gateway.ref}; {outcome}"
        yield Problem(Severity.ERROR, ref, "virtualHost.domains", text)
    everyone = ", ".join(str(ref.ref) for ref in by_age)
    text = f"domain conflict: the virtual services {everyone} have the same domain {domain}; {by_age[0].ref} keeps it"
    yield Problem(Severity.ERROR, gateway, path, text)
