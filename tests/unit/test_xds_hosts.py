"""Virtual hosts on a delta stream: after their RouteConfiguration, all at once, and what becomes of a rejection."""

from gloo_nomad.resources import CLUSTER, ROUTES, VIRTUAL_HOST
from gloo_nomad.xds.wire import Outgoing
from tests.unit.test_xds_sessions import Bench, Texts

ROUTED: Texts = {"r": "1", "s": "1"}


def names(outgoing: Outgoing | None) -> tuple[str, list[str], list[str]]:
    """Type, updates and removals of a response."""
    assert outgoing is not None
    return outgoing.type_url.rpartition(".")[2], [wire.name for wire in outgoing.wires], list(outgoing.removed)


def serving(hosts: Texts, *routes: str) -> Bench:
    """A client that has these RouteConfigurations and all of their virtual hosts."""
    bench = Bench()
    bench.publish(routes=ROUTED, hosts=hosts)
    bench.ask(ROUTES, *routes)
    bench.settle()
    bench.ask(VIRTUAL_HOST)
    bench.settle()
    return bench


def test_virtual_hosts_come_with_their_routes() -> None:
    """Those of a RouteConfiguration that the client does not have are not sent; they follow it."""
    bench = Bench()
    bench.publish(routes=ROUTED, hosts={"r/a": "1", "r/b": "1", "s/a": "1"})
    bench.ask(ROUTES, "r")
    bench.settle()
    bench.ask(VIRTUAL_HOST)
    first = bench.send()
    assert names(first) == ("VirtualHost", ["r/a", "r/b"], [])
    assert first is not None
    bench.ack(first)
    bench.publish(routes=ROUTED, hosts={"r/a": "1", "r/b": "1", "s/a": "2"})
    assert bench.send() is None
    bench.ask(ROUTES, "s")
    assert names(bench.send()) == ("RouteConfiguration", ["s"], [])
    assert names(bench.send()) == ("VirtualHost", ["s/a"], [])


def test_updates_and_removals_are_one_response() -> None:
    """A domain that moves from one that goes to one that comes is in one of them at any time."""
    bench = serving({"r/a": "1"}, "r")
    bench.publish(routes=ROUTED, hosts={"r/b": "1"})
    assert names(bench.send()) == ("VirtualHost", ["r/b"], ["r/a"])


def test_they_wait_for_clusters_together() -> None:
    """While a cluster of an update is warmed, what goes stays as well."""
    bench = serving({"r/a": "1"}, "r")
    bench.ask(CLUSTER)
    bench.settle()
    bench.publish(clusters={"c": "1"}, routes=ROUTED, hosts={"r/b": "1"})
    cluster = bench.expect()
    assert names(cluster)[0] == "Cluster"
    assert bench.send() is None
    bench.ack(cluster)
    assert names(bench.send()) == ("VirtualHost", ["r/b"], ["r/a"])


def test_a_cluster_goes_after_the_virtual_host_that_named_it() -> None:
    """It is taken away when the client has accepted the virtual host that leads elsewhere."""
    bench = Bench()
    bench.publish(clusters={"old": "1", "new": "1"}, routes=ROUTED, hosts={"r/a": "1"})
    bench.ask(CLUSTER)
    bench.ask(ROUTES, "r")
    bench.settle()
    bench.ask(VIRTUAL_HOST)
    bench.settle()
    bench.publish(clusters={"new": "1"}, routes=ROUTED, hosts={"r/a": "2"})
    host = bench.expect()
    assert names(host) == ("VirtualHost", ["r/a"], [])
    assert bench.send() is None
    bench.ack(host)
    assert names(bench.send()) == ("Cluster", [], ["old"])


def test_routes_that_are_sent_again_bring_all() -> None:
    """Envoy may have made its table anew."""
    bench = serving({"r/a": "1", "r/b": "1"}, "r")
    bench.publish(routes={"r": "2", "s": "1"}, hosts={"r/a": "1", "r/c": "1"})
    assert names(bench.send()) == ("RouteConfiguration", ["r"], [])
    assert names(bench.send()) == ("VirtualHost", ["r/a", "r/c"], ["r/b"])


def test_a_listener_that_drains_keeps_its_virtual_hosts() -> None:
    """Those of a RouteConfiguration that is served no longer are not taken away while the client still has it."""
    bench = serving({"r/a": "1", "r/b": "1"}, "r")
    bench.publish(routes={"s": "1"}, hosts={})
    assert bench.settle() == ["RouteConfiguration"]
    bench.publish(routes=ROUTED, hosts={"r/c": "1"})
    assert names(bench.send()) == ("RouteConfiguration", ["r"], [])
    assert names(bench.send()) == ("VirtualHost", ["r/c"], ["r/a", "r/b"])


def test_routes_that_the_client_gave_up() -> None:
    """Their virtual hosts are forgotten, and come again with them."""
    bench = serving({"r/a": "1"}, "r", "s")
    bench.ask(ROUTES, drop=("r",))
    bench.publish(routes=ROUTED, hosts={"r/b": "1"})
    assert bench.send() is None
    bench.ask(ROUTES, "r")
    assert names(bench.send()) == ("RouteConfiguration", ["r"], [])
    assert names(bench.send()) == ("VirtualHost", ["r/b"], [])


def test_routes_that_come_back_at_once() -> None:
    """A virtual host that went while its RouteConfiguration was away is taken from a client that noticed nothing."""
    bench = serving({"r/a": "1"}, "r")
    bench.publish(routes={}, hosts={})
    bench.publish(routes=ROUTED, hosts={})
    assert names(bench.send()) == ("VirtualHost", [], ["r/a"])
    assert bench.send() is None


def test_a_pending_update_of_what_is_gone() -> None:
    """A slow client is not sent a virtual host that was taken away together with its RouteConfiguration."""
    bench = serving({"r/a": "1"}, "r")
    bench.publish(routes=ROUTED, hosts={"r/a": "2"})
    bench.publish(routes={"s": "1"}, hosts={})
    assert bench.settle() == ["RouteConfiguration"]


def test_who_is_at_fault_is_found() -> None:
    """What was rejected together is tried in halves; only the one that remains is reported, and it is not repeated."""
    bench = serving({"r/gone": "1"}, "r")
    bench.publish(routes=ROUTED, hosts={f"r/{name}": "2" for name in "abcdefg"})
    reported, accepted, tries = [], set(), 0
    while (outgoing := bench.send()) is not None:
        tries += 1
        sent = [wire.name for wire in outgoing.wires]
        if "r/d" in sent:
            reported.append(bench.nack(outgoing))
        else:
            accepted.update(sent)
            bench.ack(outgoing)
    assert accepted == {f"r/{name}" for name in "abcefg"}
    assert [answer.nack.names for answer in reported if answer is not None] == [("r/d",)]
    assert tries <= 7
    assert [name for _, name, _ in bench_rejections(bench)] == ["r/d"]
    bench.publish(routes=ROUTED, hosts={f"r/{name}": "3" if name == "d" else "2" for name in "abcdefg"})
    mended = bench.expect()
    assert names(mended) == ("VirtualHost", ["r/d"], [])
    bench.ack(mended)
    assert bench_rejections(bench) == []


def test_a_rejection_that_names_one() -> None:
    """Then the others are sent again at once, in one response."""
    bench = serving({"r/x": "1"}, "r")
    bench.publish(routes=ROUTED, hosts={"r/a": "1", "r/b": "1", "r/c": "1"})
    answer = bench.nack(bench.expect(), "r/b: nonsense")
    assert answer.nack.names == ("r/b",)
    assert names(bench.send()) == ("VirtualHost", ["r/a", "r/c"], ["r/x"])


def bench_rejections(bench: Bench) -> list[tuple[str, str, str]]:
    """What the client rejects at present."""
    return [
        (state.type_url, name, nack.message)
        for state in bench.session.states()
        for name, nack in state.rejected.items()
    ]
