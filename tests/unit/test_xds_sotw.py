"""State-of-the-world streams at a time that the test moves."""

from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2

from gloo_nomad.resources import CLUSTER, LISTENER, ROUTES
from gloo_nomad.xds.session import PATIENCE
from gloo_nomad.xds.sotw import SotwSession
from gloo_nomad.xds.wire import Outgoing
from tests.unit.test_xds_sessions import Bench

NAMES = {ROUTES: ["r"]}


class SotwBench(Bench):
    """A client of everything and of routes r."""

    def __init__(self) -> None:
        super().__init__(SotwSession)

    def request(self, type_url: str, nonce: str = "", version: str = "", error: str = "") -> None:
        """A request for what the client always asks for."""
        status = status_pb2.Status(code=3, message=error) if error else None
        self.session.receive(
            discovery_pb2.DiscoveryRequest(
                type_url=type_url,
                resource_names=NAMES.get(type_url, []),
                response_nonce=nonce,
                version_info=version,
                error_detail=status,
            ),
            self.now,
        )

    def accept(self) -> tuple[str, list[str]]:
        """Accepts what the server sends now; its type and names."""
        outgoing = self.expect()
        self.ack(outgoing)
        return shown(outgoing)

    def ack(self, outgoing: Outgoing) -> None:
        """Accepts a response."""
        self.request(outgoing.type_url, outgoing.nonce, outgoing.version)

    def subscribe(self) -> None:
        """Asks for clusters, listeners and routes, and accepts them."""
        for type_url in (CLUSTER, LISTENER, ROUTES):
            self.request(type_url)
        self.settle()


def shown(outgoing: Outgoing) -> tuple[str, list[str]]:
    """The type and the names of a response."""
    return outgoing.type_url, [wire.name for wire in outgoing.wires]


def replaced() -> tuple[SotwBench, Outgoing]:
    """A client that had cluster a, and is sent routes to b in place of it."""
    bench = SotwBench()
    bench.publish(clusters={"a": "1"}, routes={"r": "to a"})
    bench.subscribe()
    bench.publish(clusters={"b": "1"}, routes={"r": "to b"})
    assert bench.accept() == (CLUSTER, ["a", "b"])
    return bench, bench.expect()


def test_a_cluster_waits_for_routes_only_so_long() -> None:
    """Routes that are never answered keep a cluster for the patience."""
    bench, _ = replaced()
    bench.now += PATIENCE - 0.1
    assert bench.send() is None
    assert bench.session.wake_at(bench.now) is not None
    bench.now += 0.1
    assert bench.accept() == (CLUSTER, ["b"])


def test_the_old_cluster_is_sent_as_long_as_it_is_kept() -> None:
    """Clusters that come meanwhile do not take it away."""
    bench, routes = replaced()
    bench.publish(clusters={"b": "1", "c": "1"}, routes={"r": "to b"})
    assert bench.accept() == (CLUSTER, ["a", "b", "c"])
    bench.ack(routes)
    assert bench.accept() == (CLUSTER, ["b", "c"])
    assert bench.send() is None


def test_leaving_out_holds_nothing_back() -> None:
    """Listeners and routes wait for clusters that come, not for the answer to those that go."""
    bench, routes = replaced()
    bench.ack(routes)
    assert shown(bench.expect()) == (CLUSTER, ["b"])
    bench.publish(clusters={"b": "1"}, routes={"r": "changed"})
    assert bench.accept() == (ROUTES, ["r"])


def test_a_rejected_cluster_is_not_kept() -> None:
    """Of what Envoy never took there is nothing to keep."""
    bench = SotwBench()
    bench.publish(clusters={"a": "1", "bad": "1"}, routes={"r": "1"})
    for type_url in (ROUTES, CLUSTER):
        bench.request(type_url)
    clusters = bench.expect()
    bench.request(CLUSTER, clusters.nonce, error="bad is bad")
    bench.publish(clusters={"a": "1"}, routes={"r": "2"})
    assert bench.accept() == (CLUSTER, ["a"])


def test_a_client_that_comes_back_is_known_at_once() -> None:
    """What its version says that it has is noted before the next publication, not after it."""
    bench = SotwBench()
    bench.publish(clusters={"a": "1"}, routes={"r": "to a"})
    version, routes = bench.view.version(CLUSTER), bench.view.version(ROUTES)
    bench.request(CLUSTER, version=version)
    bench.request(ROUTES, version=routes)
    bench.publish(clusters={"b": "1"}, routes={"r": "to b"})
    assert bench.accept() == (CLUSTER, ["a", "b"])


def test_each_removal_waits_for_a_time_of_its_own() -> None:
    """A cluster that was put back has not begun the waiting for one that goes later."""
    bench, routes = replaced()
    bench.publish(clusters={"a": "1", "b": "1"}, routes={"r": "to b"})
    bench.ack(routes)
    assert bench.send() is None
    bench.now += PATIENCE
    bench.publish(clusters={"b": "1"}, routes={"r": "to c"})
    assert bench.accept() == (ROUTES, ["r"])
    assert bench.accept() == (CLUSTER, ["b"])
