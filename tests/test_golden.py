"""Golden tests: the cases of options and upstream types, and whole configurations. ``make golden`` writes them anew."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from gloo_nomad.options.cases import Case
from gloo_nomad.options.hooks import EVERY
from gloo_nomad.options.registry import modules
from tests.envoy_validate import validate_snapshot
from tests.golden.difference import differences
from tests.golden.files import (
    CaseFile,
    case_files,
    orphans,
    output_of,
    recompute_case,
    recompute_whole,
    run_case,
    run_whole,
    whole_inputs,
)
from tests.golden.frame import fill_frame
from tests.golden.world import Outcome, parse_objects, parse_settings

FILES = tuple(case_files())
CASES = tuple((file, case) for file in FILES for case in file.cases)

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.path.stem)
each_case = pytest.mark.parametrize(
    ("file", "case"), CASES, ids=[f"{file.path.stem}-{case.name}" for file, case in CASES]
)
each_whole = pytest.mark.parametrize("path", whole_inputs(), ids=lambda path: path.name.split(".")[0])


@each_case
def test_case(file: CaseFile, case: Case) -> None:
    """A case leads to what is written beside it."""
    assert recompute_case(case).to_document() == case.to_document()


@each_file
def test_case_file_is_written_as_make_golden_writes_it(file: CaseFile) -> None:
    """`make golden` changes nothing where nothing changed."""
    assert file.path.read_text(encoding="utf-8") == file.recompute()


@each_file
def test_cases_have_names_of_their_own(file: CaseFile) -> None:
    """No two cases of a file share a name."""
    names = [case.name for case in file.cases]

    assert len(set(names)) == len(names)


@each_file
def test_some_input_is_rejected(file: CaseFile) -> None:
    """Every file shows at least one input that is refused, and one that works."""
    assert {case.rejected for case in file.cases} == {True, False}


@pytest.mark.envoy
@each_file
def test_envoy_accepts_what_cases_lead_to(file: CaseFile, envoy_binary: Path, tmp_path: Path) -> None:
    """A real Envoy loads the configuration of every case, also of those with rejected input."""
    for case in file.cases:
        _assert_accepted(run_case(case), envoy_binary, tmp_path, f"case {case.name}")


@each_whole
def test_whole_configuration(path: Path) -> None:
    """A whole configuration leads to what is written beside it."""
    assert output_of(path).read_text(encoding="utf-8") == recompute_whole(path)


@pytest.mark.envoy
@each_whole
def test_envoy_accepts_whole_configuration(path: Path, envoy_binary: Path, tmp_path: Path) -> None:
    """A real Envoy loads what the whole configuration leads to."""
    _assert_accepted(run_whole(path), envoy_binary, tmp_path, path.name)


def _assert_accepted(outcome: Outcome, envoy_binary: Path, folder: Path, what: str) -> None:
    for role, snapshot in outcome.snapshots.items():
        refusal = validate_snapshot(snapshot, envoy_binary, folder)
        assert refusal == "", f"{what}, {role}: Envoy refuses it: {refusal}"


def test_no_expectation_is_left_over() -> None:
    """Every expected output has an input."""
    assert orphans() == []


@each_file
def test_each_claimed_field_is_set_in_a_case(file: CaseFile) -> None:
    """A field that an option or a type of upstreams claims to make work is set in one of its cases."""
    package = f"gloo_nomad.{file.path.parent.name}"
    module = next(module for module in modules(package) if module.__name__ == f"{package}.{file.path.stem}")
    claimed = {*_fields(getattr(module, "FIELDS", {})), *_fields(getattr(module, "READS", {}))}
    shown = {
        field
        for case in file.cases
        if not case.rejected or package.endswith("upstreams")  # what Consul gives, such as identities, is in no case
        for message in (*parse_objects(fill_frame(case.objects)), parse_settings(case.settings))
        if isinstance(message, Message)
        for field in _set_fields(message)
    }

    assert sorted(claimed - shown) == []


def _fields(claims: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    for message, names in claims.items():
        every = descriptor_pool.Default().FindMessageTypeByName(message).fields_by_name
        named = every if names == EVERY else names
        yield from ((message, name) for name in named if not _has_one_value(every[name]))


def _has_one_value(field: Any) -> bool:
    """Whether a field is of an enum with one value, which protobuf cannot tell from unset."""
    return field.enum_type is not None and len(field.enum_type.values) == 1


def _set_fields(message: Message) -> Iterator[tuple[str, str]]:
    for descriptor, value in message.ListFields():
        yield message.DESCRIPTOR.full_name, descriptor.name
        for inner in _inner_messages(descriptor, value):
            yield from _set_fields(inner)


def _inner_messages(descriptor: Any, value: Any) -> Iterator[Message]:
    if isinstance(value, Message):
        yield value
    elif descriptor.is_repeated:
        entries = value.values() if hasattr(value, "values") else value
        yield from (entry for entry in entries if isinstance(entry, Message))


def test_differences_name_paths_and_new_values() -> None:
    """A difference says where: keys, positions, names of entries that came or went, and null for what is gone."""
    before = {"a": 1, "gone": 1, "filters": [{"name": "x"}, {"name": "y", "v": 1}], "same": [1, 2]}
    after = {"a": 2, "filters": [{"name": "y", "v": 2}], "same": [1, 3], "new": {"b": 1}}

    assert dict(differences(before, after)) == {
        "a": 2,
        "gone": None,
        "filters[x]": None,
        "filters[y].v": 2,
        "same[1]": 3,
        "new": {"b": 1},
    }
