"""The delta and state-of-the-world state machines with a clock of the test's own: patience, holding, races, bounds."""

from typing import Any

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from gloo_nomad.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SCOPED_ROUTES,
    SECRET,
    VIRTUAL_HOST,
    Resource,
    XdsSnapshot,
)
from gloo_nomad.xds.delta import DeltaSession
from gloo_nomad.xds.ledger import MOST_UNANSWERED, blamed_names
from gloo_nomad.xds.session import MOST_NAMES, PATIENCE, ProtocolViolationError
from gloo_nomad.xds.sotw import SotwSession
from gloo_nomad.xds.view import RoleView
from gloo_nomad.xds.wire import Outgoing

Texts = dict[str, str]


class Bench:
    """A view and one session on it, at a time that the test moves."""

    def __init__(self, session_class: type[DeltaSession | SotwSession] = DeltaSession) -> None:
        self.view = RoleView("role")
        self.session = session_class(self.view)
        self.view.attach(self)
        self.now = 100.0

    def resources_changed(self, type_url: str, names: Any) -> None:
        """What a stream does with it."""
        self.session.resources_changed(type_url, names)

    def wake(self) -> None:
        """The test asks for responses itself."""

    def publish(self, **types: Texts) -> None:
        """Publishes resources of these types by name and body."""
        urls = {"clusters": CLUSTER, "endpoints": ENDPOINTS, "listeners": LISTENER, "routes": ROUTES, "secrets": SECRET}
        urls |= {"hosts": VIRTUAL_HOST, "scopes": SCOPED_ROUTES}
        self.view.publish(
            XdsSnapshot(
                {
                    urls[short]: {name: Resource(name, text, text.encode()) for name, text in texts.items()}
                    for short, texts in types.items()
                }
            )
        )

    def ask(self, type_url: str, *names: str, drop: tuple[str, ...] = ()) -> None:
        """A delta request."""
        self.session.receive(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url, resource_names_subscribe=names, resource_names_unsubscribe=drop
            ),
            self.now,
        )

    def ack(self, outgoing: Outgoing) -> None:
        """Accepts a delta response."""
        self.session.receive(
            discovery_pb2.DeltaDiscoveryRequest(type_url=outgoing.type_url, response_nonce=outgoing.nonce), self.now
        )

    def nack(self, outgoing: Outgoing, message: str = "no") -> Any:
        """Rejects a delta response; what is reported of it."""
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=outgoing.type_url, response_nonce=outgoing.nonce)
        request.error_detail.message = message
        return self.session.receive(request, self.now)

    def send(self) -> Outgoing | None:
        """What the server sends now."""
        return self.session.next_response(self.now)

    def expect(self) -> Outgoing:
        """What the server sends now, which must be something."""
        outgoing = self.send()
        assert outgoing is not None
        return outgoing

    def settle(self) -> list[str]:
        """Sends and accepts everything; returns the last part of each type sent."""
        sent = []
        while (outgoing := self.send()) is not None:
            sent.append(outgoing.type_url.rpartition(".")[2])
            self.ack(outgoing)
        return sent


def test_the_next_response_goes_when_the_answer_is_overdue() -> None:
    """A client that does not answer is sent the newest state after the patience, once."""
    bench = Bench()
    bench.publish(clusters={"a": "1"})
    bench.ask(CLUSTER)
    bench.expect()
    bench.publish(clusters={"a": "2"})
    assert bench.send() is None
    assert bench.session.wake_at(bench.now) == bench.now + PATIENCE
    bench.now += PATIENCE
    assert [wire.version for wire in bench.expect().wires] == ["2"]
    assert bench.send() is None
    assert bench.session.wake_at(bench.now) is None


def test_routes_wait_for_clusters_only_so_long() -> None:
    """A cluster that never gets warm delays the routes of its publication by the patience."""
    bench = Bench()
    bench.publish(clusters={"a": "1"}, routes={"r": "1"})
    bench.ask(CLUSTER)
    bench.ask(ROUTES, "r")
    assert bench.settle() == ["Cluster", "RouteConfiguration"]
    bench.publish(clusters={"a": "1", "b": "1"}, routes={"r": "2"})
    assert bench.expect().type_url == CLUSTER
    bench.now += PATIENCE - 0.1
    assert bench.send() is None
    assert bench.session.wake_at(bench.now) == pytest.approx(bench.now + 0.1)
    bench.now += 0.1
    assert bench.expect().type_url == ROUTES


def test_a_cluster_that_stays_cold_delays_only_the_first_change_of_routes() -> None:
    """After the patience an unanswered response of clusters holds nothing back any more."""
    bench = Bench()
    bench.publish(clusters={"a": "1"}, routes={"r": "1"})
    bench.ask(CLUSTER)
    bench.ask(ROUTES, "r")
    bench.settle()
    bench.publish(clusters={"a": "1", "b": "1"}, routes={"r": "1"})
    bench.expect()
    bench.now += PATIENCE
    for number in range(2, 5):
        bench.publish(clusters={"a": "1", "b": "1"}, routes={"r": f"{number}"})
        routes = bench.expect()
        assert routes.type_url == ROUTES
        bench.ack(routes)


def test_routes_are_not_starved_by_clusters_that_keep_changing() -> None:
    """However often clusters change, routes are held for the patience at most."""
    bench = Bench()
    bench.publish(clusters={"a": "1"}, routes={"r": "1"})
    bench.ask(CLUSTER)
    bench.ask(ROUTES, "r")
    bench.settle()
    began, routes = bench.now, None
    for number in range(2, 100):
        bench.publish(clusters={"a": f"{number}"}, routes={"r": "2"})
        clusters = bench.expect()
        assert clusters.type_url == CLUSTER
        routes = bench.send()
        if routes is not None:
            break
        bench.now += 0.2
        bench.publish(clusters={"a": f"{number} again"}, routes={"r": "2"})
        bench.ack(clusters)
    assert routes is not None
    assert routes.type_url == ROUTES
    assert PATIENCE <= bench.now - began <= PATIENCE + 0.5


def test_removals_are_not_starved() -> None:
    """A cluster is removed after the patience even if the routes never come to rest."""
    bench = Bench()
    bench.publish(clusters={"a": "1", "b": "1"}, routes={"r": "1"})
    bench.ask(CLUSTER)
    bench.ask(ROUTES, "r")
    bench.settle()
    began, removals = bench.now, None
    for number in range(2, 100):
        bench.publish(clusters={"a": "1"}, routes={"r": f"{number}"})
        outgoing = bench.expect()
        if outgoing.type_url == CLUSTER:
            removals = outgoing
            break
        assert outgoing.type_url == ROUTES
        assert bench.send() is None
        bench.now += 0.2
        bench.publish(clusters={"a": "1"}, routes={"r": f"{number} again"})
        bench.ack(outgoing)
    assert removals is not None
    assert removals.removed == ("b",)
    assert PATIENCE <= bench.now - began <= PATIENCE + 0.5


def test_each_removal_waits_for_a_time_of_its_own() -> None:
    """A cluster that was put back has not begun the waiting for one that goes later."""
    bench = Bench()
    bench.publish(clusters={"a": "1"}, routes={"r": "1"})
    bench.ask(CLUSTER)
    bench.ask(ROUTES, "r")
    bench.settle()
    bench.publish(clusters={}, routes={"r": "2"})
    routes = bench.expect()
    assert bench.send() is None
    bench.publish(clusters={"a": "1"}, routes={"r": "2"})
    bench.ack(routes)
    assert bench.send() is None
    bench.now += PATIENCE
    bench.publish(clusters={}, routes={"r": "3"})
    assert bench.settle() == ["RouteConfiguration", "Cluster"]


def test_an_old_listener_goes_not_before_the_new_one_comes() -> None:
    """While the new listener waits for its clusters, the removal of the old one waits with it."""
    bench = Bench()
    bench.publish(clusters={"a": "1"}, listeners={"old": "1"})
    bench.ask(CLUSTER)
    bench.ask(LISTENER)
    bench.settle()
    bench.publish(clusters={"a": "1", "b": "1"}, listeners={"new": "1"})
    clusters = bench.expect()
    assert bench.send() is None
    bench.ack(clusters)
    listeners = bench.expect()
    assert ([wire.name for wire in listeners.wires], listeners.removed) == (["new"], ("old",))


def test_secrets_go_first_and_are_removed_last() -> None:
    """A new secret precedes its listener, and one that is gone follows it."""
    bench = Bench()
    bench.publish(secrets={"s1": "1"}, listeners={"l": "with s1"})
    for type_url, names in ((LISTENER, ()), (SECRET, ("s1", "s2"))):
        bench.ask(type_url, *names)
    bench.settle()
    bench.publish(secrets={"s2": "1"}, listeners={"l": "with s2"})
    assert bench.settle() == ["Secret", "Listener", "Secret"]


def test_an_answer_to_a_missing_name_is_not_held() -> None:
    """That a name does not exist is said at once, whatever else is under way."""
    bench = Bench()
    bench.publish(clusters={"a": "1"}, routes={"r": "1"})
    bench.ask(ROUTES, "r")
    bench.expect()
    bench.ask(CLUSTER, "none")
    assert bench.expect().removed == ("none",)


def test_a_resource_on_its_way_is_taken_back() -> None:
    """A wildcard that is given up and taken up again while a response is under way leaves nothing behind."""
    bench = Bench()
    bench.publish(endpoints={"a": "1"})
    bench.ask(ENDPOINTS)
    bench.expect()
    bench.ask(ENDPOINTS, drop=("*",))
    bench.publish(endpoints={})
    bench.ask(ENDPOINTS, "*")
    bench.now += PATIENCE
    assert bench.expect().removed == ("a",)


def test_a_name_given_up_twice_is_not_answered() -> None:
    """What the end of the wildcard covers no longer needs no answer, also if one was owed."""
    bench = Bench()
    bench.publish(secrets={})
    bench.ask(SECRET)
    bench.settle()
    bench.ask(SECRET, "a")
    bench.ask(SECRET, drop=("a",))
    bench.ask(SECRET, drop=("*",))
    assert bench.send() is None


def test_equal_versions_of_cluster_and_endpoints_do_not_cancel_out() -> None:
    """The version of endpoints changes when they go and a cluster with the same version text comes."""
    bench = Bench(SotwSession)
    bench.publish(endpoints={"a": "v1"})
    bench.session.receive(discovery_pb2.DiscoveryRequest(type_url=ENDPOINTS), bench.now)
    first = bench.expect()
    bench.session.receive(
        discovery_pb2.DiscoveryRequest(type_url=ENDPOINTS, version_info=first.version, response_nonce=first.nonce),
        bench.now,
    )
    bench.publish(clusters={"a": "v1"}, endpoints={})
    assert bench.expect().version != first.version


def test_a_smaller_set_after_a_rejection_is_sent() -> None:
    """A client that rejected a state and then asks for less of it has none of it yet."""
    bench = Bench(SotwSession)
    bench.publish(routes={"good": "1", "bad": "1"})
    bench.session.receive(discovery_pb2.DiscoveryRequest(type_url=ROUTES, resource_names=["good", "bad"]), bench.now)
    first = bench.expect()
    rejection = discovery_pb2.DiscoveryRequest(type_url=ROUTES, resource_names=["good"], response_nonce=first.nonce)
    rejection.error_detail.message = "no"
    bench.session.receive(rejection, bench.now)
    assert [wire.name for wire in bench.expect().wires] == ["good"]


def test_nothing_is_kept_for_a_client_that_never_answers() -> None:
    """Unanswered responses are remembered up to a bound."""
    bench = Bench()
    bench.publish(endpoints={"a": "0"})
    bench.ask(ENDPOINTS, "a")
    for number in range(MOST_UNANSWERED * 2):
        bench.publish(endpoints={"a": f"{number}"})
        bench.expect()
        bench.now += PATIENCE
    assert bench.session.lanes[ENDPOINTS].ledger.unanswered == MOST_UNANSWERED


@pytest.mark.parametrize("session_class", [DeltaSession, SotwSession])
def test_the_number_of_names_is_bounded(session_class: type[DeltaSession | SotwSession]) -> None:
    """A client cannot make the server remember any number of names."""
    bench = Bench(session_class)
    many = [f"{number}" for number in range(MOST_NAMES + 1)]
    request = (
        discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, resource_names_subscribe=many)
        if session_class is DeltaSession
        else discovery_pb2.DiscoveryRequest(type_url=CLUSTER, resource_names=many)
    )
    with pytest.raises(ProtocolViolationError, match="at most"):
        bench.session.receive(request, bench.now)


@pytest.mark.parametrize(
    ("message", "blamed"),
    [
        ("Error adding/updating cluster(s) web: bad port", ("web",)),
        ("listeners web-2, web: both", ("web", "web-2")),
        ("'web-2' is bad", ("web-2",)),
        ("nothing is named", ()),
        ("my_web", ("my_web",)),
        ("", ()),
    ],
)
def test_blamed_names(message: str, blamed: tuple[str, ...]) -> None:
    """Names are found as whole words."""
    assert blamed_names(("web", "web-2", "my_web"), message) == blamed
