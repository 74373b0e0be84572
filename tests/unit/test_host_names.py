"""Host names of instances: when a service is said, how often a name is looked up, and what holds while DNS fails."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.dns import Found
from gloo_nomad.clients.http import UnreachableError, WorldError
from gloo_nomad.sources.host_names import HostNames
from gloo_nomad.sources.source import SourceState
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances

WEB, PLAIN = Ref("", "web"), Ref("", "plain")


@dataclass
class Scene:
    """Answers of DNS in their order, the last one for ever, and what was said because of them."""

    answers: list[Found | WorldError]
    asked: int = 0
    said: list[Change] = field(default_factory=list)
    state: SourceState = field(default_factory=lambda: SourceState("services"))

    async def find(self, name: str) -> Found:
        """The next answer."""
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, WorldError):
            raise answer
        return answer

    async def send(self, change: Change) -> None:
        """Takes a change."""
        self.said.append(change)

    def addresses(self, ref: Ref = WEB) -> list[str] | None:
        """Addresses of the service as they were said last."""
        found = [change.puts[ref].value for change in self.said if ref in change.puts]
        return [instance.address for instance in found[-1].instances] if found else None

    async def until(self, *addresses: str) -> None:
        """Waits for these addresses."""
        async with asyncio.timeout(10):
            while self.addresses() != list(addresses):  # noqa: ASYNC110  # what is said sets no event
                await asyncio.sleep(0.005)


def service(*addresses: str) -> Entry:
    """A service with instances at these addresses."""
    return Entry(ServiceInstances(tuple(Instance(address, 80, address) for address in addresses)))


def found(*addresses: str, ttl: float = 0) -> Found:
    """An answer."""
    return Found(addresses, ttl)


def run(scene: Scene, *change: tuple[Ref, Entry], until: tuple[str, ...], rest: float = 0.0) -> None:
    """Says a change and waits until the addresses are those, and then a little."""

    async def play() -> None:
        async with HostNames(scene.find, scene.send, scene.state, 0.02) as names:
            await names.put(Change("services", CONSUL_SERVICE, dict(change)))
            await scene.until(*until)
            await asyncio.sleep(rest)

    asyncio.run(play())


def test_a_service_waits_for_its_names_and_others_do_not() -> None:
    """The one without names is said at once, the other one when its names are known; the name stays with them."""
    scene = Scene([found("10.0.0.1", "10.0.0.2")])
    run(scene, (WEB, service("box.test")), (PLAIN, service("10.0.0.9")), until=("10.0.0.1", "10.0.0.2"))
    assert list(scene.said[0].puts) == [PLAIN]
    assert {instance.host_name for instance in scene.said[-1].puts[WEB].value.instances} == {"box.test"}


def test_the_last_answer_holds_while_dns_fails() -> None:
    """A failure after an answer changes nothing, is shown, and ends with the next answer."""
    lost = UnreachableError("DNS is away")
    scene = Scene([found("10.0.0.1"), lost, lost, found("10.0.0.2")])
    run(scene, (WEB, service("box.test")), until=("10.0.0.2",))
    assert [change.puts[WEB].value.instances[0].address for change in scene.said] == ["10.0.0.1", "10.0.0.2"]
    assert scene.state.last_error == ""


def test_a_name_that_was_never_found_is_said_as_it_is() -> None:
    """The rest of the service is not held up by it, and the failure is shown."""
    scene = Scene([UnreachableError("DNS is away")])

    async def play() -> None:
        async with HostNames(scene.find, scene.send, scene.state, 0.02) as names:
            await names.put(Change("services", CONSUL_SERVICE, {WEB: service("10.0.0.1", "box.test")}))
            await scene.until("10.0.0.1", "box.test")
            assert scene.state.last_error == "DNS is away"
            await names.put(Change("services", CONSUL_SERVICE, {}, frozenset({WEB})))
            assert scene.state.last_error == ""

    asyncio.run(play())


@pytest.mark.parametrize(("ttl", "again"), [(0, True), (60, False)])
def test_an_answer_holds_for_its_ttl(ttl: float, again: bool) -> None:
    """A name is not asked for again before its answer is out of date."""
    scene = Scene([found("10.0.0.1", ttl=ttl)])
    run(scene, (WEB, service("box.test")), until=("10.0.0.1",), rest=0.3)
    assert (scene.asked > 1) is again
