"""State-of-the-world streams against a simple client: after any history it has what the cache has.

The client rejects every response with a resource whose body is ``bad``, and names it. It never loses a cluster before
it has answered the listeners and routes without it, and gets endpoints for each cluster that it was sent.
"""

from collections import deque

from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from gloo_nomad.xds.session import REUNION
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
        self.order = Order(self)
        self._connect({})

    def _connect(self, content: dict[str, dict[str, str]]) -> None:
        self.session = SotwSession(self.published.view, node_id="n", patience=PATIENCE)
        self.attached = Attached(self.session)
        self.published.view.attach(self.attached)
        self.nonce.clear()
        self.inbox.clear()
        self.order = Order(self)
        self.ever_named = {type_url for type_url, names in self.names.items() if names}
        for type_url in sorted(self.names, key=lambda each: each != CLUSTER):
            self.send(type_url)
            if content:
                self.published.publish(content)
            self.transmit()

    def restart(self) -> None:
        """Has nothing any more, and connects anew."""
        self.state.clear()
        self.version.clear()
        self.reconnect({})

    def reconnect(self, content: dict[str, dict[str, str]]) -> None:
        """Connects anew with what it has; something is published when the first request has come."""
        self.published.view.detach(self.attached)
        self._connect(content)

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
        if not (request.response_nonce and self.awaits(type_url)):
            self.order.heard(type_url)

    def awaits(self, type_url: str) -> bool:
        """Whether a response is on its way, so that an answer to an earlier one is stale."""
        return any(outgoing.type_url == type_url for outgoing in self.inbox)

    def transmit(self) -> None:
        """The server sends one response if it has one."""
        self.order.look()
        outgoing = self.session.next_response(self.published.now)
        if outgoing is not None:
            self.order.check(outgoing)
            self.inbox.append(outgoing)

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
            if outgoing.type_url == CLUSTER:
                self.order.clusters.difference_update(bad)
            self.send(outgoing.type_url, f"rejected {' '.join(bad)}")
            return
        for wire in outgoing.wires:
            self.published.accept(outgoing.type_url, wire.name, wire.version)
        self.version[outgoing.type_url] = outgoing.version
        self.state[outgoing.type_url] = {wire.name: wire.version for wire in outgoing.wires}
        self.send(outgoing.type_url)

    def _due(self, type_url: str, name: str, text: str) -> str:
        return text if text != BAD else self.published.standby(type_url, name) or BAD

    def is_current(self, type_url: str) -> bool:
        """Whether the client's last accepted state has what it wants, unless a bad one is in it."""
        names = self.names[type_url]
        wildcard = "*" in names or type_url not in self.ever_named
        content = self.published.content[type_url]
        covered = {name: text for name, text in content.items() if wildcard or name in names}
        wanted = {name: self._due(type_url, name, text) for name, text in covered.items()}
        state = self.state.get(type_url, {})
        visible = {name: text for name, text in state.items() if wildcard or name in names}
        return not (names or wildcard) or BAD in wanted.values() or visible == wanted

    def check_settled(self) -> None:
        """Every type is current, and nothing is kept that is gone."""
        for type_url in self.names:
            assert self.is_current(type_url)
            assert not self.session.view.kept(type_url)


class Order:
    """Make before break, as the client of one stream sees it."""

    def __init__(self, client: SotwModel) -> None:
        self.client = client
        self.clusters: set[str] = set()
        """Those that the client was sent last, as far as it did not reject them."""
        self._names: dict[str, set[str]] = {}
        """What the server was told that the client wants."""
        self._named: set[str] = set()
        self._asked: set[str] = set()
        """Names of endpoints that the client has nothing of and was not sent any since it asked."""
        self._sent_at: dict[str, float] = {}
        self._gone_since: float | None = None
        self._began = client.published.now

    def heard(self, type_url: str) -> None:
        """The server has heard what the client wants."""
        names = set(self.client.names[type_url])
        before = self._names.get(type_url, names if self.client.version.get(type_url) else set())
        first = type_url not in self._names
        self._names[type_url] = names
        if names:
            self._named.add(type_url)
        if type_url == CLUSTER and first and not self.client.session.lanes[CLUSTER].owes_updates():
            self.clusters.update(self.client.state.get(CLUSTER, {}))
        if type_url == ENDPOINTS:
            self._asked = (self._asked | (names - before)) & names
        if type_url == CLUSTER and not self._is_wildcard(CLUSTER):
            self.clusters &= names

    def _is_wildcard(self, type_url: str) -> bool:
        return "*" in self._names[type_url] or type_url not in self._named

    def look(self) -> None:
        """Notes since when the client has clusters that are gone."""
        if not self._gone():
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = self.client.published.now

    def _gone(self) -> set[str]:
        return self.clusters - self.client.published.content[CLUSTER].keys()

    def check(self, outgoing: Outgoing) -> None:
        """A response comes when it may, and has what it must."""
        names = {wire.name for wire in outgoing.wires}
        if outgoing.type_url == CLUSTER:
            lost = self.clusters - names
            assert lost <= self._gone()
            assert not lost or self._is_overdue(self._gone_since) or all(map(self._is_past, (LISTENER, ROUTES)))
            self.clusters = names
        if outgoing.type_url == ENDPOINTS:
            assert self._asked & self._gone() <= names
            self._asked = set()
        self._sent_at[outgoing.type_url] = self.client.published.now

    def _is_overdue(self, since: float | None) -> bool:
        return since is not None and self.client.published.now >= since + PATIENCE

    def _is_past(self, type_url: str) -> bool:
        """Whether the client has answered the newest of a type, or was waited for in vain."""
        if type_url not in self._names:
            return type_url not in self.client.names or self.client.published.now >= self._began + REUNION
        if self.client.awaits(type_url):
            return self._is_overdue(self._sent_at[type_url])
        return self.client.is_current(type_url)


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
        self.client.transmit()

    @rule()
    def read(self) -> None:
        """The client reads one response if there is one."""
        if self.client.inbox:
            self.client.read()

    @rule()
    def restart(self) -> None:
        """The client starts anew."""
        self.client.restart()

    @rule(content=st.dictionaries(types, bodies))
    def reconnect(self, content: dict[str, dict[str, str]]) -> None:
        """The stream is lost, the client is not."""
        self.client.reconnect(content)

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
                wake_at = self.client.session.wake_at(self.published.now)
                if wake_at is None:
                    break
                self.published.now = wake_at
        if self.published.view.published:
            self.client.check_settled()

    def teardown(self) -> None:
        """Every history ends settled."""
        self.settle()


TestSotwModel = SotwMachine.TestCase
TestSotwModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
