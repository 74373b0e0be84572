"""``make soak``: everything at once for ``SOAK_MINUTES`` (5), and what it cost; exit code 1 if anything is wrong.

``SOAK_SLOPE`` (1) is how many percent an hour the memory may grow after the warm-up, which is a third of the run and at
most ten minutes.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Final

from gloo_nomad.demo.processes import neutral_environment
from tests.soak.churn import Churn
from tests.soak.load import HOSTS, Load
from tests.soak.relay import Relay
from tests.soak.report import Outcome, describe, judge
from tests.soak.samples import Sampler
from tests.soak.trouble import Trouble
from tests.soak.world import World, open_world

_WARM_UP_SHARE: Final = 1 / 3
_WARM_UP_MOST: Final = 600.0
_SAY_SECONDS: Final = 60.0


async def run(world: World, seconds: float) -> Outcome:
    """Load, samples, changes and trouble side by side for so long."""
    load = Load(world.port, world.tls_port, world.roots)
    sampler = Sampler(world.daemon.server.pid, world.daemon.admin_port)
    churn = Churn(world, load)
    async with Relay(world.daemon.xds_port) as relay:
        trouble = Trouble(world, churn, relay)
        envoy = await asyncio.to_thread(world.start_envoy, relay.port, "steady")
        try:
            await churn.once()
            await _side_by_side(load, sampler, _rounds(churn, trouble, sampler, seconds))
        finally:
            await asyncio.to_thread(envoy.stop)
    warm_up = min(seconds * _WARM_UP_SHARE, _WARM_UP_MOST)
    return Outcome(load, sampler.samples, warm_up, churn, trouble.made)


async def _side_by_side(load: Load, sampler: Sampler, rounds: Coroutine[None, None, None]) -> None:
    """Asks and looks for as long as *rounds* takes; what fails in any of them ends all."""
    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(load.ask(host), name=f"load-{host}") for host in HOSTS]
        beside.append(group.create_task(load.ask_securely(), name="load-tls"))
        beside.append(group.create_task(sampler.watch(), name="samples"))
        await rounds
        for task in beside:
            task.cancel()


async def _rounds(churn: Churn, trouble: Trouble, sampler: Sampler, seconds: float) -> None:
    """Changes and trouble until the time is over, with a line of news each minute."""
    ending, news = time.monotonic() + seconds, 0.0
    while time.monotonic() < ending:
        await churn.once()
        await trouble.once()
        if time.monotonic() >= news and sampler.samples:
            news = time.monotonic() + _SAY_SECONDS
            _say(churn, sampler)


def _say(churn: Churn, sampler: Sampler) -> None:
    last = sampler.samples[-1]
    print(
        f"soak: {last.seconds:6.0f} s, {churn.round} rounds, {churn.load.answers.total():,} requests, "
        f"{churn.load.errors} errors, {last.memory:.1f} MiB, {last.tasks} tasks, {last.descriptors} descriptors",
        flush=True,
    )


def main() -> int:
    """Runs it and prints what was found."""
    minutes, bound = float(os.environ.get("SOAK_MINUTES") or 5), float(os.environ.get("SOAK_SLOPE") or 1)
    for name in set(os.environ) - set(neutral_environment()):
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder, open_world(Path(folder)) as world:
        outcome = asyncio.run(run(world, minutes * 60))
        world.daemon.terminate()
        print(describe(outcome))
        wrong = judge(outcome, bound, world.daemon.server.log)
    for line in wrong:
        print(f"soak: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
