"""``make fuzz``: all targets, one after the other, for ``FUZZ_SECONDS`` (60) in total; exit code 1 for a finding.

``FUZZ_TARGET=codec`` runs that one alone. The input of a finding is kept in ``.fuzz/<target>``: put it into the corpus
together with the correction, so that ``make test`` goes on reading it.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.child import INPUT_SECONDS
from tests.fuzz.registry import target_names

FOUND: Final = Path(".fuzz")
_COUNT: Final = re.compile(r"stat::number_of_executed_units: +(\d+)")


@dataclass(frozen=True)
class Outcome:
    """What came of a target."""

    target: str
    executions: int
    findings: tuple[Path, ...]
    output: str
    failed: bool


def run(target: str, seconds: int) -> Outcome:
    """One target, in a process of its own."""
    folder = FOUND / target
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.glob("finding-*"))
    line = [sys.executable, "-m", "tests.fuzz.child", target, str(seconds), str(folder)]
    try:
        done = subprocess.run(
            line, capture_output=True, check=False, timeout=seconds + 6 * INPUT_SECONDS, text=True, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return Outcome(target, 0, (), f"{target} did not end", failed=True)
    output = done.stdout + done.stderr
    count = _COUNT.search(output)
    findings = tuple(sorted(set(folder.glob("finding-*")) - before))
    return Outcome(target, int(count[1]) if count else 0, findings, output, failed=done.returncode != 0)


def main() -> int:
    """Runs them and prints a line for each."""
    names = [os.environ["FUZZ_TARGET"]] if os.environ.get("FUZZ_TARGET") else target_names()
    seconds = max(1, int(os.environ.get("FUZZ_SECONDS") or 60) // len(names))
    total = findings = 0
    for name in names:
        outcome = run(name, seconds)
        total, findings = total + outcome.executions, findings + outcome.failed
        print(f"{name:16} {outcome.executions:10,} executions in {seconds} s{'  FINDING' * outcome.failed}", flush=True)
        if outcome.failed:
            print(outcome.output[-3000:], *outcome.findings, sep="\n", file=sys.stderr)
    print(f"{'all':16} {total:10,} executions, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
