"""The front door for tasks of Nomad: a workload identity says which job is asking, and rules say what that job may do.

https://developer.hashicorp.com/nomad/docs/concepts/workload-identity
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, Final

import jwt

from gloo_nomad.clients.http import WorldError
from gloo_nomad.frontdoor.access import NO_TOKEN, NOT_ACCEPTED, NoRightError, NotLetInError, same_store
from gloo_nomad.frontdoor.objects import ObjectStore, UnavailableError

ALGORITHMS: Final = ("RS256", "EdDSA")
"""Those of Nomad: never one that a secret shared with others could sign with."""
LONGEST: Final = 8192
REFRESH_SECONDS: Final = 10.0
"""An unknown key is looked for at Nomad at most so often, whoever invents them."""
LEEWAY_SECONDS: Final = 10
_ACTIONS: Final = frozenset({"read", "write"})
ReadKeys = Callable[[], Awaitable[Mapping[str, Any]]]


class RightsMistakeError(ValueError):
    """Rights cannot be read; the text names the place."""


@dataclass(frozen=True, slots=True)
class _Rule:
    namespace: re.Pattern[str]
    job: re.Pattern[str]
    objects: Mapping[str, frozenset[str]]
    """By action the namespaces of objects; ``*`` for all."""

    def allows(self, action: str, namespace: str) -> bool:
        if action == "validate":
            return True
        allowed = self.objects["write"] | (self.objects["read"] if action == "read" else frozenset())
        return "*" in allowed or (bool(namespace) and namespace in allowed)


@dataclass(frozen=True, slots=True)
class Rights:
    """What jobs may do; to write includes to read, and whoever may do anything may validate."""

    rules: tuple[_Rule, ...]

    def allow(self, claims: Mapping[str, Any], action: str, namespace: str) -> bool:
        """Whether the job of these claims may do it."""
        where, job = str(claims.get("nomad_namespace", "")), str(claims.get("nomad_job_id", ""))
        return any(
            rule.namespace.fullmatch(where) and rule.job.fullmatch(job) and rule.allows(action, namespace)
            for rule in self.rules
        )


def parse_rights(written: Mapping[str, Any]) -> Rights:
    """Rights as settings have them; raises ``RightsMistakeError``."""
    return Rights(tuple(_parse_rule(caller, allowed) for caller, allowed in written.items()))


def _parse_rule(caller: str, allowed: Any) -> _Rule:
    namespace, separator, job = caller.partition("/")
    if not (separator and namespace and job):
        raise RightsMistakeError(f"{caller}: is to be <Nomad namespace>/<job>, like default/deploy-*")
    if not isinstance(allowed, dict) or not allowed or allowed.keys() - _ACTIONS:
        raise RightsMistakeError(f"{caller}: is to have read, write or both: lists of namespaces")
    for names in allowed.values():
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise RightsMistakeError(f'{caller}: read and write are to be lists of namespaces, or ["*"]')
    objects = {action: frozenset(allowed.get(action, ())) for action in _ACTIONS}
    return _Rule(re.compile(translate(namespace)), re.compile(translate(job)), objects)


class NomadGuard:
    """Lets tasks in whose identity Nomad signed."""

    def __init__(self, read_keys: ReadKeys, rights: Rights, audience: str, issuer: str = "") -> None:
        self._read_keys = read_keys
        self._rights = rights
        self._audience = audience
        self._issuer = issuer or None
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._asked = -REFRESH_SECONDS
        self._asking = asyncio.Lock()

    async def check(self, token: str, action: str, namespace: str) -> None:
        """Verifies signature, times, audience and issuer, then looks for the right."""
        if not token:
            raise NotLetInError(NO_TOKEN)
        claims = await self._claims_of(token)
        if not self._rights.allow(claims, action, namespace):
            who = f"{claims.get('nomad_namespace')}/{claims.get('nomad_job_id')}"
            what = f"in {namespace}" if namespace else "in all namespaces"
            raise NoRightError(f"the job {who[:200]} has no right to {action} {what}; see frontDoorRights")

    def opened(self, token: str, store: ObjectStore) -> AbstractAsyncContextManager[ObjectStore]:  # rights are ours
        """The daemon's own."""
        return same_store(store)

    async def _claims_of(self, token: str) -> Mapping[str, Any]:
        if len(token) > LONGEST:
            raise NotLetInError(NOT_ACCEPTED)
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "aud", "iss"] if self._issuer else ["exp", "aud"]},
            )
        except jwt.ExpiredSignatureError as failure:
            raise NotLetInError("the bearer token has expired") from failure
        except jwt.PyJWTError as failure:
            raise NotLetInError(NOT_ACCEPTED) from failure
        return claims

    async def _key(self, name: str) -> jwt.PyJWK:
        async with self._asking:
            if name not in self._keys and time.monotonic() - self._asked >= REFRESH_SECONDS:
                await self._refresh()
        if name not in self._keys:
            raise NotLetInError(NOT_ACCEPTED)
        return self._keys[name]

    async def _refresh(self) -> None:
        """What is known stays if Nomad does not answer."""
        if self._keys:
            self._asked = time.monotonic()
        try:
            found = jwt.PyJWKSet.from_dict(dict(await self._read_keys()))
        except (WorldError, jwt.PyJWTError) as failure:
            raise UnavailableError(f"Nomad's keys cannot be read: {failure}") from failure
        self._asked = time.monotonic()
        self._keys = {key.key_id: key for key in found.keys if key.key_id}
