"""Fields that objects set and nothing makes work, object by object: only those that changed are looked at again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from gloo_nomad.api.kinds import CONFIG_KINDS, PROXY, SETTINGS, Kind
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.options.claims import unclaimed
from gloo_nomad.options.registry import collect_reasons, modules
from gloo_nomad.reports import Problem, Problems, warning
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

Claims = Mapping[str, frozenset[str]]
FEATURE_PACKAGES: Final = tuple(
    f"gloo_nomad.{name}" for name in ("gateway", "envoy", "options", "upstreams", "settings.fields")
)
"""Their modules say which fields of the contract have an effect."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A kind as it was last looked at; ``problems`` holds objects that have some."""

    collection: Collection[Any]
    problems: Mapping[Ref, Problems]


@dataclass(slots=True)
class Unclaimed:
    """The warnings of all objects, and the memory of what was looked at."""

    _seen: dict[str, _Seen] = field(default_factory=dict)

    def problems(self, snapshot: ConfigSnapshot, claims: Claims) -> Iterator[Problem]:
        """A warning for each field without effect, in the order of the objects."""
        for kind in (*CONFIG_KINDS, SETTINGS, PROXY):
            seen = self._look(kind, snapshot.of(kind.name), claims)
            for ref in sorted(seen.problems):
                yield from seen.problems[ref]

    def _look(self, kind: Kind, collection: Collection[Any], claims: Claims) -> _Seen:
        before = self._seen.get(kind.name)
        if before is not None and before.collection is collection:
            return before
        changed = collection.changed_since(before.collection) if before is not None else None
        found = dict(before.problems) if before is not None and changed is not None else {}
        for ref in collection if changed is None else changed:
            found.pop(ref, None)
            message = collection.get(ref)
            problems = warn_unclaimed(kind, ref, message, claims) if message is not None else ()
            if problems:
                found[ref] = problems
        self._seen[kind.name] = _Seen(collection, found)
        return self._seen[kind.name]


@cache
def reasons() -> Mapping[tuple[str, str], str]:
    """By message and field, why it has no effect, where a module says so."""
    return collect_reasons(module for package in FEATURE_PACKAGES for module in modules(package))


def warn_unclaimed(kind: Kind, ref: Ref, message: Any, claims: Claims) -> Problems:
    """A warning for each field of one object that nothing makes work, or one for the whole kind."""
    target = ObjectRef(kind.name, ref.namespace, ref.name)
    if message.DESCRIPTOR.full_name not in claims:
        return (warning("", f"objects of kind {kind.name} have no effect yet").on(target),)
    return tuple(finding.on(target) for finding in unclaimed(message, claims, reasons()))
