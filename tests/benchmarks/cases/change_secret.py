"""A certificate in Vault is replaced: from its write to the response; Vault is asked every 0.1 s.

Vault cannot wake anybody, so half of that interval is in the median; with the default (3 s) it would be all that shows.
"""

from collections.abc import Callable
from typing import Final

from tests.benchmarks.case import LOOP, Figures
from tests.benchmarks.scene import Scene
from tests.benchmarks.world import opened_world
from tests.benchmarks.world_objects import SECRET_NAME

QUICK: Final = (200,)
FULL: Final = (200,)
ALONE: Final = True
YARDSTICK: Final = LOOP
POLL_SECONDS: Final = 0.1


def run(scene: Scene) -> Figures:
    """Each certificate is a new one."""
    with opened_world(scene.size, scene.folder, vault_poll=POLL_SECONDS) as world:
        world.warm_up()
        vault = world.vault
        assert vault is not None

        def change(number: int) -> tuple[bytes, Callable[[], None]]:
            pair = world.authority.issue(f"secure-{number}.example.com")
            needle = pair.certificates.encode().split()[-4]
            return needle, lambda: vault.put_secret("gloo-system", SECRET_NAME, pair.build_secret())

        found = world.change(scene.changes, change)
        return Figures.of(found.taken, found.read, cpu_ms=found.cpu)
