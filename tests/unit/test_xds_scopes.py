"""Listeners that find routes by scope, on a stream: scopes follow them, and all but the first wait."""

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from gloo_nomad.envoy.names import SCOPE_HEADER
from gloo_nomad.resources import LISTENER, ROUTES, SCOPED_ROUTES
from gloo_nomad.xds.scopes import SCOPES_SECONDS
from gloo_nomad.xds.sotw import SotwSession
from tests.unit.test_xds_hosts import names
from tests.unit.test_xds_sessions import Bench, Texts

PLAIN: Texts = {"a": "1", "b": "1", "t": "1"}
USING: Texts = {"a": f"2 {SCOPE_HEADER}", "b": f"2 {SCOPE_HEADER}", "t": "2"}
SCOPES: Texts = {"r/x": "1", "r/y": "1"}


def switching() -> Bench:
    """A client with three listeners, of which two are to use scopes now."""
    bench = Bench()
    bench.publish(listeners=PLAIN)
    bench.ask(LISTENER)
    bench.settle()
    bench.publish(listeners=USING, scopes=SCOPES, routes=SCOPES)
    return bench


def test_one_listener_after_the_other() -> None:
    """The second one goes when the client has the scopes and their RouteConfigurations."""
    bench = switching()
    first = bench.expect()
    bench.ack(first)
    assert names(first) == ("Listener", ["a", "t"], [])
    assert bench.send() is None
    bench.ask(SCOPED_ROUTES)
    scopes = bench.expect()
    bench.ack(scopes)
    assert names(scopes) == ("ScopedRouteConfiguration", ["r/x", "r/y"], [])
    assert bench.send() is None
    bench.ask(ROUTES, "r/x", "r/y")
    routes = bench.expect()
    assert names(routes) == ("RouteConfiguration", ["r/x", "r/y"], [])
    assert bench.send() is None
    bench.ack(routes)
    assert names(bench.send()) == ("Listener", ["b"], [])
    assert names(bench.send()) == ("ScopedRouteConfiguration", ["r/x", "r/y"], [])


def test_a_client_that_starts_gets_all_at_once() -> None:
    """It opens nothing before everything is there."""
    bench = Bench()
    bench.publish(listeners=USING, scopes=SCOPES, routes=SCOPES)
    bench.ask(LISTENER)
    assert names(bench.send()) == ("Listener", ["a", "b", "t"], [])


def test_the_first_one_is_rejected() -> None:
    """Then it is the next one's turn."""
    bench = switching()
    bench.nack(bench.expect(), "Error adding/updating listener(s) a: no")
    assert names(bench.send()) == ("Listener", ["b"], [])


def test_a_client_that_never_asks_for_scopes() -> None:
    """It has all listeners in the end."""
    bench = switching()
    bench.ack(bench.expect())
    assert bench.send() is None
    assert bench.session.wake_at(bench.now) == bench.now + SCOPES_SECONDS
    bench.now += SCOPES_SECONDS
    assert names(bench.send()) == ("Listener", ["b"], [])


def test_what_waits_may_change_or_go() -> None:
    """A listener that does without scopes again waits for nothing."""
    bench = switching()
    bench.ack(bench.expect())
    bench.publish(listeners={**USING, "b": "3"}, scopes=SCOPES, routes=SCOPES)
    assert names(bench.send()) == ("Listener", ["b"], [])
    bench = switching()
    bench.ack(bench.expect())
    bench.publish(listeners={"a": USING["a"], "t": "2"}, scopes=SCOPES, routes=SCOPES)
    assert names(bench.send()) == ("Listener", [], ["b"])


def test_scopes_follow_a_changed_listener() -> None:
    """Envoy may have forgotten them; after a listener that does without nothing is sent."""
    bench = Bench()
    bench.publish(listeners=USING, scopes=SCOPES, routes=SCOPES)
    bench.ask(LISTENER)
    bench.settle()
    bench.ask(SCOPED_ROUTES)
    bench.ask(ROUTES, *SCOPES)
    bench.settle()
    bench.publish(listeners={**USING, "t": "3"}, scopes=SCOPES, routes=SCOPES)
    assert bench.settle() == ["Listener"]
    bench.publish(listeners={**USING, "a": f"4 {SCOPE_HEADER}", "t": "3"}, scopes=SCOPES, routes=SCOPES)
    assert bench.settle() == ["Listener", "ScopedRouteConfiguration"]


@pytest.mark.parametrize(("text", "expected"), [(f"2 {SCOPE_HEADER}", [LISTENER, SCOPED_ROUTES]), ("2", [LISTENER])])
def test_state_of_the_world(text: str, expected: list[str]) -> None:
    """There, too, scopes are sent again after a listener that uses them."""
    bench = Bench(SotwSession)
    bench.publish(listeners={"a": "1"}, scopes=SCOPES)
    for type_url in (LISTENER, SCOPED_ROUTES):
        bench.session.receive(discovery_pb2.DiscoveryRequest(type_url=type_url), bench.now)
    for _ in range(2):
        answer(bench)
    bench.publish(listeners={"a": text}, scopes=SCOPES)
    assert [answer(bench) for _ in expected] == expected
    assert bench.send() is None


def answer(bench: Bench) -> str:
    """Accepts the next response; its type."""
    sent = bench.expect()
    request = discovery_pb2.DiscoveryRequest(
        type_url=sent.type_url, response_nonce=sent.nonce, version_info=sent.version
    )
    bench.session.receive(request, bench.now)
    return sent.type_url
