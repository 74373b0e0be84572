"""State-of-the-world streams against a simple client: after any history it has what the cache has.

The client rejects every response with a resource whose body is ``bad``, and names it.
"""

from collections import deque

from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from gloo_nomad.xds.sotw import SotwSession
from gloo_nomad.xds.wire import Outgoing
from tests.xds_published import BAD, PATIENCE, Attached, Published, bodies, some_names, types


class SotwModel:
    """A state-of-the-world client: its names per type and the last state it accepted."""

    def __init__(self, published: Published) -> None:
        self.published = published
        self.names: dict[str, list[str]] = {}
        self.ever_named: set[str] = set()
        self.state: dict[str, dict[str, str]] = {}
        self.version: dict[str, str] = {}
        self.nonce: dict[str, str] = {}
        self.inbox: deque[Outgoing] = deque()
        self._connect()

    def _connect(self) -> None:
        self.session = SotwSession(self.published.view, node_id="n", patience=PATIENCE)
        self.attached = Attached(self.session)
        self.published.view.attach(self.attached)
        self.nonce.clear()
        self.inbox.clear()

    def restart(self) -> None:
        """Has nothing any more, and connects anew."""
        self.published.view.detach(self.attached)
        self.state.clear()
        self.version.clear()
        self._connect()
        self.ever_named = {type_url for type_url, names in self.names.items() if names}
        for type_url in self.names:
            self.send(type_url)

    def send(self, type_url: str, error: str = "") -> None:
        """A request with what the client wants and has."""
        request = discovery_pb2.DiscoveryRequest(
            type_url=type_url,
            resource_names=self.names[type_url],
            version_info=self.version.get(type_url, ""),
            response_nonce=self.nonce.get(type_url, ""),
            error_detail=status_pb2.Status(code=3, message=error) if error else None,
        )
        self.session.receive(request, self.published.now)

    def ask(self, type_url: str, names: list[str]) -> None:
        """Changes what the client wants."""
        self.names[type_url] = names
        if names:
            self.ever_named.add(type_url)
        self.send(type_url)

    def read(self) -> None:
        """Takes one response, keeps it if all of it is good, and answers."""
        outgoing = self.inbox.popleft()
        self.nonce[outgoing.type_url] = outgoing.nonce
        bad = [wire.name for wire in outgoing.wires if wire.version == BAD]
        if bad:
            self.send(outgoing.type_url, f"rejected {' '.join(bad)}")
            return
        for wire in outgoing.wires:
            self.published.accept(outgoing.type_url, wire.name, wire.version)
        self.version[outgoing.type_url] = outgoing.version
        self.state[outgoing.type_url] = {wire.name: wire.version for wire in outgoing.wires}
        self.send(outgoing.type_url)

    def _due(self, type_url: str, name: str, text: str) -> str:
        return text if text != BAD else self.published.standby(type_url, name) or BAD

    def check_settled(self) -> None:
        """For every type, the client's last accepted state has what it wants, unless a bad one is in it."""
        for type_url, names in self.names.items():
            wildcard = "*" in names or type_url not in self.ever_named
            content = self.published.content[type_url]
            covered = {name: text for name, text in content.items() if wildcard or name in names}
            wanted = {name: self._due(type_url, name, text) for name, text in covered.items()}
            if names or wildcard:
                state = self.state.get(type_url, {})
                visible = {name: text for name, text in state.items() if wildcard or name in names}
                assert BAD in wanted.values() or visible == wanted


class SotwMachine(RuleBasedStateMachine):
    """Any history of publications, requests and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.published = Published()
        self.client = SotwModel(self.published)

    @rule(content=st.dictionaries(types, bodies))
    def publish(self, content: dict[str, dict[str, str]]) -> None:
        """A full publication."""
        self.published.publish(content)

    @rule(type_url=types, names=some_names, star=st.booleans())
    def subscribe(self, type_url: str, names: list[str], star: bool) -> None:
        """Asks for exactly these names."""
        self.client.ask(type_url, [*names, "*"] if star else names)

    @rule()
    def transmit(self) -> None:
        """The server sends one response if it has one."""
        outgoing = self.client.session.next_response(self.published.now)
        if outgoing is not None:
            self.client.inbox.append(outgoing)

    @rule()
    def read(self) -> None:
        """The client reads one response if there is one."""
        if self.client.inbox:
            self.client.read()

    @rule()
    def restart(self) -> None:
        """The client starts anew."""
        self.client.restart()

    @rule(seconds=st.sampled_from([0.1, PATIENCE + 1.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.published.now += seconds

    @rule()
    def settle(self) -> None:
        """Everything is sent and answered, and then the client has what is published."""
        for _ in range(1_000):
            before = len(self.client.inbox)
            if before:
                self.client.read()
                continue
            self.transmit()
            if not self.client.inbox:
                break
        if self.published.view.published:
            self.client.check_settled()

    def teardown(self) -> None:
        """Every history ends settled."""
        self.settle()


TestSotwModel = SotwMachine.TestCase
TestSotwModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
