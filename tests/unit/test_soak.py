"""What ``make soak`` makes of its samples: what fails a run and what does not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.soak.load import Load
from tests.soak.report import Outcome, describe, judge
from tests.soak.samples import Sample, fit

HOUR = 3600


def outcome(tmp_path: Path, *, per_hour: float = 0.0, leak: float = 0.0, seconds: int = 1800, errors: int = 0) -> Any:
    """A run with a look each second: memory grows from 100 MiB by *per_hour* MiB, descriptors by *leak* a second."""
    load = Load(0, 0, tmp_path)
    load.answers["steady.test"] = 1000
    for number in range(errors):
        load.fail(f"error {number}")
    samples = [
        Sample(second, 100 + per_hour * second / HOUR + 3 * (second % 30 == 7), 70, 30 + int(leak * second), 12)
        for second in range(seconds)
    ]
    churn = SimpleNamespace(round=1, changes=2, slowest=0.5)
    return Outcome(load, samples, 600.0, cast("Any", churn), 3)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the program wrote."""
    path = tmp_path / "gloo.log"
    path.write_text("all is well\n")
    return path


def test_a_line_is_found() -> None:
    """Slope, mean and their relation."""
    growth = fit([(0.0, 100.0), (1800.0, 101.0), (3600.0, 102.0)])
    assert growth.per_hour == pytest.approx(2.0)
    assert growth.percent == pytest.approx(200 / 101)
    assert growth.error == pytest.approx(0.0, abs=1e-9)


def test_a_good_run(tmp_path: Path, log: Path) -> None:
    """Memory that stays, with short bursts in between, is nothing to complain of."""
    found = outcome(tmp_path, per_hour=0.5)
    assert judge(found, 1.0, log) == []
    assert "slope +0.50 % an hour" in describe(found)


def test_memory_that_grows(tmp_path: Path, log: Path) -> None:
    """Two percent an hour are too much where one is the bound."""
    assert judge(outcome(tmp_path, per_hour=2.0), 1.0, log) == ["memory grows by 1.99 % an hour; 1 % is the bound"]
    assert judge(outcome(tmp_path, per_hour=2.0), 3.0, log) == []


def test_a_short_run(tmp_path: Path, log: Path) -> None:
    """Minutes say little: only what is far too steep fails."""
    assert judge(outcome(tmp_path, per_hour=10.0, seconds=900), 1.0, log) == []
    assert len(judge(outcome(tmp_path, per_hour=40.0, seconds=900), 1.0, log)) == 1


def test_descriptors_that_grow(tmp_path: Path, log: Path) -> None:
    """One more each minute is a leak."""
    (line,) = judge(outcome(tmp_path, leak=1 / 60), 1.0, log)
    assert line.startswith("descriptors grow: ")


def test_errors_and_tracebacks(tmp_path: Path, log: Path) -> None:
    """Each fails the run, and the first errors are told."""
    log.write_text("Traceback (most recent call last):\n")
    found = outcome(tmp_path, errors=70)
    assert judge(found, 1.0, log) == ["70 errors", "the program's log has a traceback"]
    assert "error 0" in describe(found)
    assert "error 60" not in describe(found)
