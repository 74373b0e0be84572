"""Delta streams against a simple client: after any history it has what the cache has.

The client rejects every resource whose body is ``bad``, with or without its name. Of such a response it takes the
others if it is of clusters or listeners and says the names, as Envoy does, else nothing. Its requests arrive at once
and in order, responses wait in an inbox until a rule lets the client read one, so that every interleaving of both
directions occurs.
"""

from collections import deque
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER
from gloo_nomad.xds.delta import DeltaSession
from gloo_nomad.xds.wire import Outgoing
from tests.xds_published import BAD, PATIENCE, Attached, Published, bodies, some_names, types


class DeltaModel:
    """A delta client of one role: what it wants, what it has, and its inbox."""

    def __init__(self, published: Published) -> None:
        self.published = published
        self.held: dict[str, dict[str, str]] = {}
        self.names: dict[str, set[str]] = {}
        self.wildcard: dict[str, bool] = {}
        self.warming: set[str] = set()
        self.inbox: deque[Outgoing] = deque()
        self.nonces: dict[str, set[str]] = {}
        self._connect()

    def _connect(self) -> None:
        self.session = DeltaSession(self.published.view, node_id="n", patience=PATIENCE, part_bytes=160)
        self.attached = Attached(self.session)
        self.published.view.attach(self.attached)
        self.inbox.clear()
        self.nonces.clear()
        self.warming.clear()

    def reconnect(self) -> None:
        """Loses the stream, opens another and says what it has."""
        self.session.lanes.clear()
        self.published.view.detach(self.attached)
        self._connect()
        for type_url in self.names:
            if self.names[type_url] or self.wildcard[type_url]:
                stars = ["*"] if self.wildcard[type_url] else []
                self._send(type_url, subscribe=[*stars, *self.names[type_url]], held=self.held[type_url])
            else:
                self.session.lanes.pop(type_url, None)

    def covers(self, type_url: str, name: str) -> bool:
        """Whether the client wants it."""
        return self.wildcard.get(type_url, False) or name in self.names.get(type_url, set())

    def _send(self, type_url: str, **fields: Any) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=fields.get("subscribe", ()),
            resource_names_unsubscribe=fields.get("unsubscribe", ()),
            initial_resource_versions=fields.get("held", {}),
            response_nonce=fields.get("nonce", ""),
            error_detail=fields.get("error"),
        )
        self.session.receive(request, self.published.now)

    def ask(self, type_url: str, subscribe: list[str], unsubscribe: list[str]) -> None:
        """Changes what the client wants; it forgets what it no longer wants."""
        first = type_url not in self.names or type_url not in self.session.lanes
        names, held = self.names.setdefault(type_url, set()), self.held.setdefault(type_url, {})
        names.difference_update(unsubscribe)
        names.update(name for name in subscribe if name != "*")
        star = self.wildcard.get(type_url, False) and "*" not in unsubscribe
        self.wildcard[type_url] = star or "*" in subscribe or (first and not subscribe)
        for name in [name for name in held if not self.covers(type_url, name)]:
            del held[name]
        self._send(type_url, subscribe=subscribe, unsubscribe=unsubscribe, held=held if first else {})

    def transmit(self) -> bool:
        """Lets the server send one response."""
        outgoing = self.session.next_response(self.published.now)
        if outgoing is None:
            return False
        names = [wire.name for wire in outgoing.wires]
        assert len({*names, *outgoing.removed}) == len(names) + len(outgoing.removed)
        for wire in outgoing.wires:
            assert wire.version != BAD or not self._knows(outgoing.type_url, wire.name)
        assert outgoing.nonce not in self.nonces.setdefault(outgoing.type_url, set())
        assert all(self.covers(outgoing.type_url, name) for name in (*names, *outgoing.removed))
        self.nonces[outgoing.type_url].add(outgoing.nonce)
        self.inbox.append(outgoing)
        return True

    def _knows(self, type_url: str, name: str) -> bool:
        """Whether the server must not send what was rejected: a name that is asked for gets an answer once more."""
        asked = name in self.names[type_url] and name not in self.held[type_url]
        return (type_url, name) in self.published.rejected and not asked

    def restart(self) -> None:
        """Has nothing any more, and connects anew."""
        for held in self.held.values():
            held.clear()
        self.reconnect()

    def read(self, *, says_names: bool = True) -> None:
        """Takes one response from the inbox, applies what it can and answers."""
        outgoing = self.inbox.popleft()
        type_url, held = outgoing.type_url, self.held[outgoing.type_url]
        wanted = [wire for wire in outgoing.wires if self.covers(type_url, wire.name)]
        rejected = [wire.name for wire in wanted if wire.version == BAD]
        if not rejected or (says_names and type_url in {CLUSTER, LISTENER}):
            for wire in wanted:
                if wire.version != BAD:
                    self._apply(type_url, wire.name, wire.version)
            for name in outgoing.removed:
                held.pop(name, None)
        if len(rejected) == 1 and (says_names or len(outgoing.wires) == 1):
            self._note_rejected(outgoing, rejected[0])
        words = f"rejected {' '.join(rejected)}" if says_names else "no"
        error = status_pb2.Status(code=3, message=words) if rejected else None
        self._send(type_url, nonce=outgoing.nonce, error=error)

    def _note_rejected(self, outgoing: Outgoing, name: str) -> None:
        if self.published.content[outgoing.type_url].get(name) == BAD:
            self.published.rejected.add((outgoing.type_url, name))

    def _apply(self, type_url: str, name: str, version: str) -> None:
        self.published.accept(type_url, name, version)
        before = self.held[type_url].get(name)
        self.held[type_url][name] = version
        if type_url == CLUSTER and before not in {None, version}:
            self.warming.add(name)
        if type_url == ENDPOINTS:
            self.warming.discard(name)

    def check_settled(self) -> None:
        """What is wanted is had, except what was rejected; changed clusters got their endpoints again."""
        for type_url, held in self.held.items():
            content = self.published.content[type_url]
            wanted = {name: text for name, text in content.items() if self.covers(type_url, name)}
            good = {name: text for name, text in wanted.items() if text != BAD}
            assert {name: held[name] for name in held if wanted.get(name) != BAD} == good, type_url
            for name in wanted.keys() - good.keys():
                assert self.published.standby(type_url, name) in {None, held.get(name)}, (type_url, name)
        for name in self.warming:
            assert self.published.content[ENDPOINTS].get(name, BAD) == BAD or not self.covers(ENDPOINTS, name)


class DeltaMachine(RuleBasedStateMachine):
    """Any history of publications, requests, answers, waiting and lost streams."""

    def __init__(self) -> None:
        super().__init__()
        self.published = Published()
        self.client = DeltaModel(self.published)

    @rule(content=st.dictionaries(types, bodies))
    def publish(self, content: dict[str, dict[str, str]]) -> None:
        """A full publication."""
        self.published.publish(content)

    @rule(type_url=types, texts=bodies)
    def publish_type(self, type_url: str, texts: dict[str, str]) -> None:
        """A publication of one type."""
        self.published.publish_type(type_url, texts)

    @rule(type_url=types, names=some_names, star=st.booleans())
    def subscribe(self, type_url: str, names: list[str], star: bool) -> None:
        """Asks for names, the wildcard, both or (in a first request) for everything by naming nothing."""
        self.client.ask(type_url, [*names, "*"] if star else names, [])

    @rule(type_url=types, names=some_names, star=st.booleans())
    def unsubscribe(self, type_url: str, names: list[str], star: bool) -> None:
        """Gives up names, the wildcard or both."""
        if type_url in self.client.names:
            self.client.ask(type_url, [], [*names, "*"] if star else names)

    @rule()
    def transmit(self) -> None:
        """The server sends one response if it has one."""
        self.client.transmit()

    @rule(says_names=st.booleans())
    def read(self, says_names: bool) -> None:
        """The client reads one response if there is one."""
        if self.client.inbox:
            self.client.read(says_names=says_names)

    @rule()
    def restart(self) -> None:
        """The client starts anew."""
        self.client.restart()

    @rule(seconds=st.sampled_from([0.1, 1.0, PATIENCE + 1.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.published.now += seconds

    @rule()
    def reconnect(self) -> None:
        """The stream is lost."""
        self.client.reconnect()

    @rule(says_names=st.booleans())
    def settle(self, says_names: bool) -> None:
        """Everything is sent and answered, and then the client has what is published."""
        if not self.published.view.published:
            assert not self.client.transmit()
            return
        for _ in range(1_000):
            if self.client.inbox:
                self.client.read(says_names=says_names)
            elif not self.client.transmit():
                wake_at = self.client.session.wake_at(self.published.now)
                if wake_at is None:
                    break
                self.published.now = wake_at
        assert self.client.session.wake_at(self.published.now) is None
        self.client.check_settled()

    @invariant()
    def nothing_is_sent_before_the_first_publication(self) -> None:
        """An unpublished role has no responses."""
        assert self.published.view.published or not self.client.inbox

    def teardown(self) -> None:
        """Every history ends settled."""
        self.settle(says_names=True)


TestDeltaModel = DeltaMachine.TestCase
TestDeltaModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
