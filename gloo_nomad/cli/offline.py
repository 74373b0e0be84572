"""Validation and translation without any server: files in, problems and Envoy resources out."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import GATEWAY
from gloo_nomad.api.refs import Ref
from gloo_nomad.cli.errors import CommandError
from gloo_nomad.cli.placeholders import stand_in, stand_in_for_issued
from gloo_nomad.envoy.endpoints import translate_endpoints
from gloo_nomad.frontdoor.defaults import build_default_gateways
from gloo_nomad.frontdoor.documents import UNKNOWN, Document, parse_documents
from gloo_nomad.frontdoor.overlay import duplicates, lay_over, settings_among
from gloo_nomad.frontdoor.tree import MAX_FILE_BYTES, read_paths
from gloo_nomad.pipeline import Pipeline, Translation
from gloo_nomad.reports import Problem, Problems
from gloo_nomad.resources import ENDPOINTS, XdsSnapshot
from gloo_nomad.settings import DEFAULT_NAMESPACE
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot

STDIN: Final = Path("-")


@dataclass(frozen=True, slots=True)
class Offline:
    """What files mean."""

    documents: tuple[Document, ...]
    snapshot: ConfigSnapshot
    problems: Problems
    xds: Mapping[str, XdsSnapshot]
    """By role."""


def translate_paths(paths: Sequence[Path]) -> Offline:
    """Reads and translates files and folders; without any Gateway among them the default ones are taken.

    Raises:
        CommandError: a path does not exist, or there is no object in it.
    """
    return translate_documents(read_documents(paths))


def read_documents(paths: Sequence[Path]) -> tuple[Document, ...]:
    """All objects of files and folders; ``-`` is standard input.

    Raises:
        CommandError: a path does not exist, or there is no object in it.
    """
    for path in paths:
        if path != STDIN and not path.exists():
            raise CommandError(f"{path} does not exist")
    documents = read_paths([path for path in paths if path != STDIN])
    if STDIN in paths:
        text = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise CommandError(f"standard input has more than {MAX_FILE_BYTES} bytes; split it")
        documents += parse_documents(text, "standard input")
    if not documents:
        raise CommandError(f"no object in {', '.join(map(str, paths))}: files end in .yaml, .yml or .json")
    return documents


def translate_documents(documents: tuple[Document, ...]) -> Offline:
    """What documents mean, without knowing of anything else."""
    settings = settings_among(documents) or settings_pb2.Settings()
    secrets, unchecked = stand_in(documents)
    snapshot = lay_over(ConfigSnapshot(), (*documents, *secrets, *default_gateways(documents, settings)))
    snapshot, unissued = stand_in_for_issued(snapshot)
    translation = Pipeline().translate(snapshot, settings)
    unreadable = tuple(problem for document in documents for problem in located(document))
    problems = (*unreadable, *duplicates(documents), *translation.problems, *unchecked, *unissued)
    return Offline(
        documents, snapshot, tuple(sorted(set(problems), key=_order)), _with_endpoints(translation, snapshot)
    )


def located(document: Document) -> Problems:
    """Why a document is no object, and in which file; a name alone does not say where to look."""
    if document.ref.kind == UNKNOWN:
        return document.problems()
    return tuple(replace(problem, message=f"{problem.message} ({document.origin})") for problem in document.problems())


def default_gateways(documents: Iterable[Document], settings: settings_pb2.Settings) -> tuple[Document, ...]:
    """The Gateways that the gateway role would make: those of a fresh installation if there is none, else none."""
    if any(document.ref.kind == GATEWAY.name for document in documents):
        return ()
    namespace = settings.discovery_namespace or DEFAULT_NAMESPACE
    return tuple(
        Document("default", GATEWAY.object_ref(Ref(gateway.metadata.namespace, gateway.metadata.name)), gateway)
        for gateway in build_default_gateways(namespace)
    )


def _with_endpoints(translation: Translation, snapshot: ConfigSnapshot) -> Mapping[str, XdsSnapshot]:
    endpoints = translate_endpoints(translation.clusters, snapshot, Memo())
    return {role: xds.with_type(ENDPOINTS, endpoints) for role, xds in translation.xds.items()}


def _order(problem: Problem) -> tuple[int, str, str, str]:
    return (-problem.severity, str(problem.ref), problem.path, problem.message)
