"""The golden files: the cases of options beside their code, and whole configurations in this folder."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

import gloo_nomad
from gloo_nomad.options.cases import Case, parse_cases, to_text
from tests.golden.difference import differences
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, Outcome, run_pipeline

PACKAGES: Final = ("options", "upstreams")
INPUT: Final = ".in.yaml"
OUTPUT: Final = ".out.yaml"
HERE: Final = Path(__file__).parent
_PACKAGE: Final = Path(gloo_nomad.__file__).parent


@dataclass(frozen=True)
class CaseFile:
    """The cases of one option or upstream type."""

    path: Path
    cases: tuple[Case, ...]

    def recompute(self) -> str:
        """The text of the file as it has to be."""
        return to_text([recompute_case(case).to_document() for case in self.cases])


def case_files() -> Iterator[CaseFile]:
    """All of them, sorted."""
    for package in PACKAGES:
        for path in sorted((_PACKAGE / package).glob("*.yaml")):
            yield CaseFile(path, parse_cases(path.read_text(encoding="utf-8")))


def run_case(case: Case) -> Outcome:
    """A case inside its frame, through the pipeline."""
    return run_pipeline(fill_frame(case.objects), case.settings)


def recompute_case(case: Case) -> Case:
    """The case with the outcome that it has now.

    Of a rejected input only the problems are written down: what is served instead is the same for all.
    """
    outcome = run_case(case)
    recomputed = replace(case, envoy={}, problems=outcome.problems)
    return recomputed if recomputed.rejected else replace(recomputed, envoy=_difference(outcome))


@cache
def _frame() -> Outcome:
    return run_pipeline(fill_frame(()))


def _difference(outcome: Outcome) -> dict[str, Any]:
    before, after = _frame().resources()[ROLE], outcome.resources().get(ROLE, {})
    changed: dict[str, Any] = {}
    for name in [*after, *(gone for gone in before if gone not in after)]:
        if name not in after:
            changed[name] = None
        elif name not in before:
            changed[name] = after[name]
        elif found := dict(differences(before[name], after[name])):
            changed[name] = found
    return changed


def whole_inputs() -> list[Path]:
    """The inputs of whole configurations, sorted."""
    return sorted(HERE.glob(f"*{INPUT}"))


def output_of(path: Path) -> Path:
    """The expected output that belongs to an input."""
    return path.with_name(path.name.removesuffix(INPUT) + OUTPUT)


def orphans() -> list[Path]:
    """Expected outputs without an input."""
    wanted = {output_of(path) for path in whole_inputs()}
    return [path for path in sorted(HERE.glob(f"*{OUTPUT}")) if path not in wanted]


def run_whole(path: Path) -> Outcome:
    """A whole configuration, through the pipeline; a document of kind Settings is the settings file."""
    documents = [document for document in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader) if document]
    settings: dict[str, Any] = next((document for document in documents if document["kind"] == "Settings"), {})
    objects = [document for document in documents if document["kind"] != "Settings"]
    return run_pipeline(objects, {key: value for key, value in settings.items() if key != "kind"})


def recompute_whole(path: Path) -> str:
    """The text of the expected output as it has to be."""
    outcome = run_whole(path)
    return to_text({"problems": list(outcome.problems), "envoy": outcome.resources()})
