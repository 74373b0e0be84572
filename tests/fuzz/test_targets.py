"""A short run of every target: what is kept, and two seconds of what is made of it."""

import time
from typing import Final

import pytest

from tests.fuzz.mutation import mutations
from tests.fuzz.registry import CORPUS, kept_inputs, load_target, target_names

SECONDS: Final = 2.0
LONGEST: Final = 10.0
"""Seconds that one input may take, on a busy machine."""


def run(target: str, data: bytes) -> None:
    """One input, with the bound on its time."""
    fuzz, began = load_target(target), time.monotonic()
    try:
        fuzz(data)
    except Exception as failure:
        failure.add_note(f"{target} read {data!r}")
        raise
    assert time.monotonic() - began < LONGEST, data


def test_each_target_has_inputs() -> None:
    """And there are none for a target that is gone."""
    assert {path.name for path in CORPUS.iterdir()} == set(target_names())
    assert all(kept_inputs(target) for target in target_names())


@pytest.mark.parametrize("target", target_names())
def test_kept_inputs(target: str) -> None:
    """Whatever was found once stays mended."""
    for data in (b"", *kept_inputs(target)):
        run(target, data)


@pytest.mark.parametrize("target", target_names())
def test_mutations(target: str) -> None:
    """Others like them; the same ones in each run, as many as there is time for."""
    ending = time.monotonic() + SECONDS
    for data in mutations(kept_inputs(target), seed=7):
        if time.monotonic() > ending:
            break
        run(target, data)
