"""Says in the log what is wrong with objects of a folder: they have no statuses, and a container has but its log.

Each problem is told when it appears, and once more when it is gone.
"""

from typing import Final

import structlog

from gloo_nomad.app.engine import Engine
from gloo_nomad.reports import Problem, Severity, describe_problem

log = structlog.get_logger(__name__)

MOST: Final = 50
"""Lines for one change; what is beyond is counted."""


async def log_problems(engine: Engine) -> None:
    """After each round of the engine, for ever."""
    rounds = engine.listener()
    told: frozenset[Problem] = frozenset()
    while True:
        await rounds.wait()
        rounds.clear()
        if engine.translation is None:
            continue
        now = frozenset(engine.problems())
        tell_difference(told, now)
        told = now


def tell_difference(before: frozenset[Problem], now: frozenset[Problem]) -> None:
    """Logs what is new and what is gone."""
    new, gone = now - before, before - now
    for problem in _sorted(new)[:MOST]:
        log.warning("object_problem", **describe_problem(problem))
    for problem in _sorted(gone)[:MOST]:
        log.info("object_problem_gone", **describe_problem(problem))
    if len(new) > MOST:
        log.warning("more_object_problems", count=len(new) - MOST, see="/problems of the admin pages")


def _sorted(problems: frozenset[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda found: (found.severity is not Severity.ERROR, found.ref, found.path))
