"""Changes of objects, instances and secrets: each is written, and has to reach Envoy in time."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gloo_nomad.demo.fetch import fetch
from tests.daemon import NAMESPACE
from tests.site import direct, host
from tests.soak.load import Load
from tests.soak.world import SERVICE, World, put_table

PATIENCE: Final = 30.0
"""Seconds until a change has to be served, also after a fault."""
_KEPT: Final = 5


@dataclass
class Churn:
    """Makes one round of changes after the other; names of a round are never used again."""

    world: World
    load: Load
    round: int = 0
    changes: int = 0
    slowest: float = 0.0

    async def once(self) -> None:
        """One round of everything."""
        self.round += 1
        for step in (self._edit, self._add_and_delete, self._delegate, self._spoil, self._instances, self._secrets):
            await step()

    async def edit(self) -> None:
        """One more edit, as it is made while the world is broken: nobody waits for it."""
        self.changes += 1
        text = host("edited.test", direct(f"edit-{self.changes}."))
        await asyncio.to_thread(self.world.daemon.put, "VirtualService", "edited", text)

    async def caught_up(self) -> None:
        """Waits until the last edit is served."""
        number = self.changes
        await self._wait(lambda: self._answers("edited.test", f"edit-{number}."), f"edit {number}")

    async def _edit(self) -> None:
        await self.edit()
        await self.caught_up()

    async def _add_and_delete(self) -> None:
        name, old, domain = f"new-{self.round}", f"new-{self.round - _KEPT}", f"new-{self.round}.test"
        daemon, port = self.world.daemon, self.world.echoes[self.round % len(self.world.echoes)]
        upstream = {"static": {"hosts": [{"addr": "127.0.0.1", "port": port}]}}
        to_it = {"single": {"upstream": {"name": name, "namespace": NAMESPACE}}}
        await asyncio.to_thread(daemon.put, "Upstream", name, upstream)
        route = {"matchers": [{"prefix": "/"}], "routeAction": to_it}
        await asyncio.to_thread(daemon.put, "VirtualService", name, host(domain, route))
        await self._wait(lambda: self._answers(domain, "instance-"), f"virtual service {name}")
        for kind in ("VirtualService", "Upstream"):
            await asyncio.to_thread(daemon.delete, kind, old)
        await self._wait(lambda: self._status(f"{old}.test") == 404, f"the end of {old}")

    async def _delegate(self) -> None:
        number = self.round
        await asyncio.to_thread(put_table, self.world, number)
        await self._wait(lambda: self._answers("delegated.test", f"table-{number}."), f"table {number}")

    async def _spoil(self) -> None:
        """A rejected object is reported on itself, and then it is gone."""
        daemon, name = self.world.daemon, f"bad-{self.round}"
        wrong = host(f"{name}.test", {"matchers": [{"regex": "("}], "directResponseAction": {"status": 200}})
        await asyncio.to_thread(daemon.put, "VirtualService", name, wrong)
        await self._wait(lambda: daemon.status("VirtualService", name).get("state") == "Rejected", f"status of {name}")
        await asyncio.to_thread(daemon.delete, "VirtualService", name)

    async def _instances(self) -> None:
        """Another instance comes, the one before goes."""
        consul, echoes = self.world.consul, self.world.echoes
        new, old = self.round % len(echoes), (self.round - 1) % len(echoes)
        await asyncio.to_thread(consul.register, SERVICE, echoes[new])
        await self._wait(lambda: self._answers("web.test", f"instance-{new}"), f"instance {new}")
        await asyncio.to_thread(consul.deregister, f"{SERVICE}-{echoes[old]}")

    async def _secrets(self) -> None:
        """A renewed certificate is served; a secret that nobody uses comes and goes."""
        world = self.world
        pair = await asyncio.to_thread(world.put_certificate)
        name, secret = f"unused-{self.round}", {"tls": {"rootCa": world.authority.certificate}}
        await asyncio.to_thread(world.bao.put_secret, NAMESPACE, name, secret)
        await self._wait(lambda: self._certificate() == pair.der, "a renewed certificate")
        await asyncio.to_thread(world.bao.delete_secret, NAMESPACE, name)

    def _certificate(self) -> bytes:
        return fetch(self.world.tls_port, host="tls.test", tls_roots=self.world.roots).certificate

    def _answers(self, domain: str, text: str) -> bool:
        return text in fetch(self.world.port, host=domain).text

    def _status(self, domain: str) -> int:
        return fetch(self.world.port, host=domain).status

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        began = time.monotonic()
        while not await asyncio.to_thread(_holds, condition):
            if time.monotonic() - began > PATIENCE:
                self.load.fail(f"{what}: not served within {PATIENCE:g} s")
                return
            await asyncio.sleep(0.02)
        self.slowest = max(self.slowest, time.monotonic() - began)


def _holds(condition: Callable[[], bool]) -> bool:
    """A connection that fails is a no: the load beside it counts those."""
    with suppress(OSError):
        return condition()
    return False
