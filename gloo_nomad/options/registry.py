"""Finds the modules of a package, and knows which of them has which hook and claims which field."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from gloo_nomad.options.hooks import HOOK_NAMES, Claims, extension_claims


class ClaimedTwiceError(Exception):
    """Two modules say that they make the same field work."""


@cache
def modules(package: str) -> tuple[ModuleType, ...]:
    """The feature modules of a package, sorted by name: where there are golden cases, those that have some."""
    parent = importlib.import_module(package)
    cases = {path.stem for folder in parent.__path__ for path in Path(folder).glob("*.yaml")}
    names = sorted(found.name for found in pkgutil.iter_modules(parent.__path__) if not cases or found.name in cases)
    return tuple(importlib.import_module(f"{package}.{name}") for name in names)


@cache
def hooks(name: str) -> tuple[Callable[..., Any], ...]:
    """All functions of that hook in ``gloo_nomad.options``, ordered by their module's name."""
    if name not in HOOK_NAMES:
        raise KeyError(name)
    return tuple(
        getattr(module, name) for module in modules("gloo_nomad.options") if callable(getattr(module, name, None))
    )


@cache
def routes_read() -> tuple[str, ...]:
    """The fields of HttpListenerOptions that hooks of virtual hosts and routes look at."""
    found = (getattr(module, "ROUTES_READ", ()) for module in modules("gloo_nomad.options"))
    return tuple(sorted({name for names in found for name in names}))


def collect(found: Iterable[ModuleType]) -> Mapping[str, frozenset[str]]:
    """Claimed fields by message name; raises ``ClaimedTwiceError`` for a field of ``FIELDS`` that two modules name."""
    owners: dict[tuple[str, str], str] = {}
    claims: dict[str, set[str]] = {}
    for module in found:
        for message, name in (*_claimed(module, "FIELDS"), *_claimed(module, "REFUSED")):
            other = owners.setdefault((message, name), module.__name__)
            if other != module.__name__:
                raise ClaimedTwiceError(f"{message}.{name} is claimed by {other} and by {module.__name__}")
        claimed = [pair for table in ("FIELDS", "READS") for pair in _claimed(module, table)]
        for message, name in claimed:
            claims.setdefault(message, set()).add(name)
            if name == "extensions":
                claims.setdefault(extension_claims(message), set()).update(getattr(module, "EXTENSIONS", ()))
    return {message: frozenset(names) for message, names in claims.items()}


def collect_refused(found: Iterable[ModuleType]) -> Mapping[str, frozenset[str]]:
    """Fields that a module answers with an error wherever they are set: known, and not supported."""
    refused: dict[str, set[str]] = {}
    for module in found:
        for message, name in _claimed(module, "REFUSED"):
            refused.setdefault(message, set()).add(name)
    return {message: frozenset(names) for message, names in refused.items()}


def collect_reasons(found: Iterable[ModuleType]) -> Mapping[tuple[str, str], str]:
    """By message and field, why it has no effect, where a module says so."""
    return {
        (message, name): reason
        for module in found
        for message, fields in getattr(module, "WARNED", {}).items()
        for name, reason in fields.items()
    }


def _claimed(module: ModuleType, table: str) -> Iterator[tuple[str, str]]:
    claims: Claims = getattr(module, table, {})
    for message, names in claims.items():
        yield from ((message, name) for name in names)


__all__ = [
    "ClaimedTwiceError",
    "collect",
    "collect_refused",
    "hooks",
    "modules",
    "routes_read",
]
