"""The fault matrix, Vault: no secret is withdrawn, objects go on being followed, and recovery needs nobody."""

import time
from collections.abc import Iterator

import pytest

from tests.fault_world import VAULT_POLICY, World, open_world
from tests.faults import Slow

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]
HOLD = 1.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all faults, one after the other."""
    with open_world(tmp_path_factory.mktemp("world")) as found:
        yield found


def go_on(world: World, *told: str) -> None:
    """The trouble is told, and edits of objects that need no secret are served as ever."""
    world.wait_told(*told)
    world.edit()
    time.sleep(HOLD)


def test_down(world: World) -> None:
    """Nobody listens."""
    with world.unharmed(world.renew, world.wait_well), world.vault_proxy.down():
        go_on(world, "refused")


def test_sealed(world: World) -> None:
    """It forgot its key."""
    with world.unharmed(world.renew, world.wait_well):
        world.bao.seal()
        go_on(world, "sealed")
        world.bao.unseal()


def test_403(world: World) -> None:
    """The policy of the token forbids everything."""
    with world.unharmed(world.renew, world.wait_well):
        world.bao.bao.write_policy("gloo", 'path "nowhere" { capabilities = ["read"] }')
        go_on(world, "permission denied")
        world.bao.bao.write_policy("gloo", VAULT_POLICY)


def test_an_expired_token(world: World) -> None:
    """A token that ends is replaced by what its file holds next."""
    with world.unharmed(world.renew, world.wait_well):
        world.issue_vault_token("3s")
        go_on(world, "permission denied")
        world.issue_vault_token()


def test_slow(world: World) -> None:
    """Answers that come 30 s late are none."""
    with world.unharmed(world.renew, world.wait_well), world.vault_proxy.fault("/v1/", Slow(30)):
        go_on(world, "no answer in time")
