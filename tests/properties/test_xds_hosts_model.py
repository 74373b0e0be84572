"""Virtual hosts on a delta stream against a client that treats them as Envoy does: after any history it has them all.

The client drops virtual hosts whose RouteConfiguration it does not have, and those it has when their RouteConfiguration
arrives again; it rejects a response with a bad one as a whole, without saying which one.
"""

from collections import deque
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from gloo_nomad.resources import ROUTES, VIRTUAL_HOST, Resource, XdsSnapshot
from gloo_nomad.xds.delta import DeltaSession
from gloo_nomad.xds.view import RoleView
from gloo_nomad.xds.wire import Outgoing
from tests.xds_published import BAD, PATIENCE, Attached, build_resources

CONFIGS = ("one", "two")
HOSTS = tuple(f"{config}/{name}" for config in CONFIGS for name in "abc")

bodies = st.sampled_from(["v1", "v2", "v3"])
route_texts = st.dictionaries(st.sampled_from(CONFIGS), bodies)
host_texts = st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(["v1", "v2", "v3", BAD]))


class HostsMachine(RuleBasedStateMachine):
    """Any history of publications, answers, waiting and lost streams."""

    def __init__(self) -> None:
        super().__init__()
        self.view = RoleView("role")
        self.now = 0.0
        self.content: dict[str, dict[str, str]] = {ROUTES: {}, VIRTUAL_HOST: {}}
        self.held: dict[str, dict[str, str]] = {ROUTES: {}, VIRTUAL_HOST: {}}
        self.inbox: deque[Outgoing] = deque()
        self._connect()

    def _connect(self) -> None:
        self.session = DeltaSession(self.view, node_id="n", patience=PATIENCE)
        self.attached = Attached(self.session)
        self.view.attach(self.attached)
        self.inbox.clear()
        for type_url in (ROUTES, VIRTUAL_HOST):
            self._send(type_url, initial_resource_versions=self.held[type_url])

    def _send(self, type_url: str, **fields: Any) -> None:
        self.session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, **fields), self.now)

    @rule(routes=route_texts, hosts=host_texts)
    def publish(self, routes: dict[str, str], hosts: dict[str, str]) -> None:
        """Routes, and virtual hosts of those that there are."""
        there = {name: text for name, text in hosts.items() if name.partition("/")[0] in routes}
        self.content = {ROUTES: routes, VIRTUAL_HOST: there}
        found: dict[str, dict[str, Resource]] = {url: build_resources(texts) for url, texts in self.content.items()}
        self.view.publish(XdsSnapshot(found))

    @rule()
    def transmit(self) -> None:
        """The server sends one response if it has one."""
        outgoing = self.session.next_response(self.now)
        if outgoing is not None:
            self.inbox.append(outgoing)

    @rule()
    def read(self) -> None:
        """The client reads one response if there is one."""
        if not self.inbox:
            return
        outgoing = self.inbox.popleft()
        rejected = any(wire.version == BAD for wire in outgoing.wires)
        if not rejected:
            self._apply(outgoing)
        error = status_pb2.Status(code=3, message="something is wrong") if rejected else None
        self._send(outgoing.type_url, response_nonce=outgoing.nonce, error_detail=error)

    def _apply(self, outgoing: Outgoing) -> None:
        hosts, routes = self.held[VIRTUAL_HOST], self.held[ROUTES]
        for wire in outgoing.wires:
            if outgoing.type_url == ROUTES:
                self._forget(wire.name)
                routes[wire.name] = wire.version
            elif wire.name.partition("/")[0] in routes:
                hosts[wire.name] = wire.version
        for name in outgoing.removed:
            self.held[outgoing.type_url].pop(name, None)
            if outgoing.type_url == ROUTES:
                self._forget(name)

    def _forget(self, config: str) -> None:
        hosts = self.held[VIRTUAL_HOST]
        for name in [name for name in hosts if name.partition("/")[0] == config]:
            del hosts[name]

    @rule(seconds=st.sampled_from([0.1, PATIENCE + 1.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def reconnect(self) -> None:
        """The stream is lost; the next one begins with what the client has."""
        self.view.detach(self.attached)
        self._connect()

    @rule()
    def settle(self) -> None:
        """Everything is sent and answered; then the client has all that is good, and nothing that is gone."""
        for _ in range(1_000):
            self.transmit()
            wake_at = self.session.wake_at(self.now)
            if self.inbox:
                self.read()
            elif wake_at is not None:
                self.now = wake_at
            else:
                break
        assert not self.inbox
        if self.view.published:
            assert self.held[ROUTES] == self.content[ROUTES]
            published, held = self.content[VIRTUAL_HOST], self.held[VIRTUAL_HOST]
            good = {name: text for name, text in published.items() if text != BAD}
            assert {name: text for name, text in held.items() if published.get(name) != BAD} == good

    def teardown(self) -> None:
        """Every history ends settled."""
        self.settle()


TestHostsModel = HostsMachine.TestCase
TestHostsModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
