"""Writes and deletes objects, after a look at what that would do to all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import CONFIG_KINDS, KINDS, SETTINGS, Kind
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.cli.offline import default_gateways
from gloo_nomad.cli.output import count
from gloo_nomad.cli.place import Place, cannot, opened
from gloo_nomad.cli.placeholders import stand_in
from gloo_nomad.frontdoor.documents import Document
from gloo_nomad.frontdoor.objects import (
    NOT_STORED,
    ObjectsError,
    ObjectStore,
    RefusedError,
    remove_object,
    write_object,
)
from gloo_nomad.frontdoor.overlay import lay_over, settings_among
from gloo_nomad.frontdoor.validation import Validator
from gloo_nomad.pipeline import Pipeline
from gloo_nomad.reports import Problem, Problems, Severity, describe_problem, is_rejected
from gloo_nomad.store.snapshot import ConfigSnapshot

ORDER: Final = (
    "Settings",
    "Artifact",
    "AuthConfig",
    "RateLimitConfig",
    "Upstream",
    "UpstreamGroup",
    "RouteOption",
    "VirtualHostOption",
    "RouteTable",
    "VirtualService",
    "MatchableHttpGateway",
    "MatchableTcpGateway",
    "Gateway",
)
"""What others refer to is written first."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an apply."""

    problems: Problems
    outcomes: tuple[tuple[ObjectRef, str], ...] = ()
    """What was done with each object: created, updated, unchanged, or failed with a reason."""
    succeeded: bool = True
    unreadable: bool = False
    """Whether a document is no object."""

    def describe(self) -> dict[str, Any]:
        """The same as a document."""
        written = [
            {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name, "result": outcome}
            for ref, outcome in self.outcomes
        ]
        return {"problems": [describe_problem(problem) for problem in self.problems], "objects": written}

    def conclusion(self) -> str:
        """Why it did not succeed, in one line."""
        if not self.outcomes:
            errors = sum(problem.severity >= Severity.ERROR for problem in self.problems)
            what = "the rest" if self.unreadable else "all the same"
            return f"nothing was written because of {count(errors, 'error')}; --force writes {what}"
        failed = sum(outcome.startswith("failed") for _, outcome in self.outcomes)
        return f"{count(failed, 'object')} could not be written"


async def apply_documents(place: Place, documents: Sequence[Document], *, dry_run: bool, force: bool) -> Applied:
    """Validates documents together with what is stored, and writes them.

    Raises:
        CommandError: the place cannot be reached.
    """
    try:
        async with opened(place) as store:
            problems = await _validate(store, documents)
            if is_rejected(problems) and not force:
                unreadable = any(document.message is None for document in documents)
                return Applied(problems, succeeded=False, unreadable=unreadable)
            outcomes = await _write_all(store, sorted(documents, key=_position), place, dry_run=dry_run)
    except ObjectsError as failure:
        raise cannot(failure, place) from failure
    failed = any(outcome.startswith("failed") for _, outcome in outcomes)
    return Applied(problems, outcomes, succeeded=not failed)


async def _validate(store: ObjectStore, documents: Sequence[Document]) -> Problems:
    stored = tuple([found for kind in (*CONFIG_KINDS, SETTINGS) for found in await store.list_objects(kind)])
    present = [Document(str(found.ref), found.kind.object_ref(found.ref), found.decode().message) for found in stored]
    secrets, _ = stand_in((*present, *documents))
    _, unchecked = stand_in(documents)
    settings = settings_among((*documents, *present)) or settings_pb2.Settings()
    before = lay_over(ConfigSnapshot(), (*present, *secrets, *default_gateways((*present, *documents), settings)))
    pipeline = Pipeline()
    validator = Validator(
        current=lambda: (before, settings),
        translate=lambda snapshot, message: pipeline.translate(snapshot, message).problems,
    )
    problems = await validator.validate(documents)
    return (*_unstorable(documents), *problems, *unchecked)


def _unstorable(documents: Sequence[Document]) -> tuple[Problem, ...]:
    """Errors for objects that are not kept with the configuration."""
    return tuple(
        Problem(
            Severity.ERROR,
            document.ref,
            "",
            f"a Secret is kept in Vault: vault kv put secret/{document.kind.key('gloo', document.ref.ref)} @file.json"
            if document.kind is KINDS["Secret"]
            else f"a {document.kind.name} is not stored",
        )
        for document in documents
        if document.kind in NOT_STORED and document.kind is not None
    )


async def _write_all(
    store: ObjectStore, documents: Sequence[Document], place: Place, *, dry_run: bool
) -> tuple[tuple[ObjectRef, str], ...]:
    """What became of each. A place that fails after the first ends it: what was written until then is told."""
    outcomes: list[tuple[ObjectRef, str]] = []
    for number, document in enumerate(documents, 1):
        try:
            outcomes.append(await _write(store, document, dry_run=dry_run))
        except ObjectsError as failure:
            if not outcomes:
                raise
            outcomes.append((document.ref, f"failed: {cannot(failure, place)}"))
            outcomes += [(left.ref, "failed: not tried after that") for left in documents[number:]]
            break
    return tuple(outcomes)


async def _write(store: ObjectStore, document: Document, *, dry_run: bool) -> tuple[ObjectRef, str]:
    if document.message is None or document.kind is None:
        return document.ref, "failed: it is no object"
    try:
        written = await write_object(store, document.kind, document.message, dry_run=dry_run)
    except RefusedError as failure:
        return document.ref, f"failed: {failure}"
    outcome = "unchanged" if not written.changed else ("created" if written.created else "updated")
    return document.ref, f"would be {outcome}" if dry_run and written.changed else outcome


async def delete_object(place: Place, kind: Kind, namespace: str, name: str) -> bool:
    """Deletes an object; False if there is none.

    Raises:
        CommandError: the place cannot be reached.
    """
    try:
        async with opened(place) as store:
            return await remove_object(store, kind, Ref(namespace, name))
    except ObjectsError as failure:
        raise cannot(failure, place) from failure


def _position(document: Document) -> tuple[int, ObjectRef]:
    kind = document.ref.kind
    return (ORDER.index(kind) if kind in ORDER else len(ORDER), document.ref)
