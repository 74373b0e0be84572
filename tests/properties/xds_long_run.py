"""The models of xDS for as many random operations as one likes: ``python -m tests.properties.xds_long_run 100000``.

Prints how many operations each model did; an operation is one step of a history, invariants and the settling at its end
not counted. A history that fails is shrunk and printed, and the exit code is 1.
"""

import itertools
import sys
from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.properties.test_xds_hosts_model import HostsMachine
from tests.properties.test_xds_model import DeltaMachine
from tests.properties.test_xds_model_sotw import SotwMachine

MACHINES: Final = (DeltaMachine, SotwMachine, HostsMachine)
_HISTORIES: Final = 200
_STEPS: Final = 100


def run(machine: type[RuleBasedStateMachine], operations: int) -> int:
    """Histories until there were so many operations; how many there were."""
    steps = itertools.count()

    class Counted(machine):  # type: ignore[valid-type, misc]  # the same machine, counting
        def check_invariants(self, *args: object, **options: object) -> None:
            next(steps)
            super().check_invariants(*args, **options)

    done = 0
    chosen = settings(
        max_examples=_HISTORIES,
        stateful_step_count=_STEPS,
        deadline=None,
        database=InMemoryExampleDatabase(),
        suppress_health_check=list(HealthCheck),
    )
    while done < operations:
        run_state_machine_as_test(Counted, settings=chosen)
        done = next(steps)
    return done


def main() -> None:
    """Shares the operations among the models."""
    operations = int((sys.argv[1:] or ["100000"])[0])
    total = 0
    for machine in MACHINES:
        done = run(machine, -(-operations // len(MACHINES)))
        total += done
        print(f"{machine.__name__:14} {done:9,} operations", flush=True)
    print(f"{'all':14} {total:9,} operations")


if __name__ == "__main__":
    main()
