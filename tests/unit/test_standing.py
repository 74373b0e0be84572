"""Which object is part of which proxy, and which objects have a status at all."""

from collections.abc import Callable

from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.app.engine import Engine
from gloo_nomad.app.standing import Standings
from gloo_nomad.app.statuses import reported
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Change, Entry
from tests.pipeline.envoy_world import GATEWAY, SSL_GATEWAY, TO_UP, World, make_world, upstream, virtual_service

PROXY = Ref("gloo-system", "gateway-proxy")
TO_TABLE = "{matchers: [{prefix: /}], delegateAction: {ref: {name: rt, namespace: gloo-system}}}"
TABLE = f"kind: RouteTable\nmetadata: {{name: rt, namespace: gloo-system}}\nroutes: [{TO_UP}]\n"


def ref(kind: str, name: str) -> ObjectRef:
    """The name of an object."""
    return ObjectRef(kind, "gloo-system", name)


def standings(world: World) -> Standings:
    """Standings after one round."""
    found = Standings()
    found.update(world.translation.proxies, world.translation.problems)
    return found


def test_members_of_a_proxy() -> None:
    """The Gateway, the virtual service and the route table it delegates to are part of it; an Upstream is not."""
    found = standings(make_world(GATEWAY, upstream(), TABLE, virtual_service(TO_TABLE)))

    for kind, name in (("Gateway", "gw"), ("VirtualService", "vs"), ("RouteTable", "rt")):
        assert found.of(ref(kind, name)).proxies == {PROXY}
    assert found.of(ref("Upstream", "up")).proxies == frozenset()


def test_who_is_in_no_proxy() -> None:
    """A virtual service that no gateway takes, and a name that nobody knows, stand alone and without problems."""
    found = standings(make_world(SSL_GATEWAY, upstream(), virtual_service(TO_UP)))

    assert found.of(ref("VirtualService", "vs")) == ((), frozenset())
    assert found.of(ref("VirtualService", "unknown")) == ((), frozenset())


def test_each_has_its_own_problems() -> None:
    """A broken virtual service does not blame its Gateway or its neighbour."""
    bad = virtual_service(
        "{matchers: [{prefix: '//'}], directResponseAction: {status: 200}}", name="bad", domains="[b]"
    )
    found = standings(make_world(GATEWAY, upstream(), virtual_service(TO_UP), bad))

    assert len(found.of(ref("VirtualService", "bad")).problems) == 1
    assert found.of(ref("VirtualService", "vs")).problems == ()
    assert found.of(ref("Gateway", "gw")).problems == ()


def test_a_second_round_replaces_the_first() -> None:
    """What is no longer part of a proxy, or no longer wrong, is not any more."""
    world = make_world(GATEWAY, TABLE, virtual_service(TO_TABLE))
    found = standings(world)
    assert found.of(ref("RouteTable", "rt")).problems != ()

    world.put(upstream(), virtual_service(TO_UP))
    changed = found.update(world.translation.proxies, world.translation.problems)
    assert {ref("RouteTable", "rt"), ref("VirtualService", "vs")} <= changed
    assert found.of(ref("RouteTable", "rt")) == ((), frozenset())
    assert found.of(ref("VirtualService", "vs")).proxies == {PROXY}
    assert found.update(world.translation.proxies, world.translation.problems) == set()
    assert found.update((), ()) == {ref("VirtualService", "vs"), ref("Gateway", "gw")}
    assert found.of(ref("VirtualService", "vs")).proxies == frozenset()


def test_whatever_changes_is_named() -> None:
    """After each of many steps the standings are those from scratch, and those that are others were named."""
    world, known = make_world(GATEWAY, upstream()), Standings()
    bad = "{matchers: [{prefix: '//'}], directResponseAction: {status: 200}}"
    steps: list[Callable[[], object]] = [
        lambda: world.put(TABLE, virtual_service(TO_TABLE)),
        lambda: world.put(virtual_service(TO_UP, name="other", domains="[b]")),
        lambda: world.put(virtual_service(bad, name="other", domains="[b]")),
        lambda: world.put(SSL_GATEWAY),
        lambda: world.put(virtual_service(TO_TABLE, name="third", domains="[b]")),
        lambda: world.remove("VirtualService", "vs"),
        lambda: world.remove("RouteTable", "rt"),
        lambda: world.put(virtual_service(TO_UP)),
        lambda: world.remove("Gateway", "gw"),
        lambda: world.put(GATEWAY),
    ]
    everything = [ref(kind, name) for kind in KINDS for name in ("gw", "ssl", "vs", "other", "third", "rt", "up")]
    for step in steps:
        before = {each: known.of(each) for each in everything}
        step()
        changed = known.update(world.translation.proxies, world.translation.problems)
        fresh = standings(world)
        assert [known.of(each) for each in everything] == [fresh.of(each) for each in everything]
        assert {each for each in everything if known.of(each) != before[each]} <= changed


def engine(world: World) -> Engine:
    """An engine that has translated a world."""
    made = Engine(RuntimeSettings(settings_pb2.Settings(), Ref("gloo-system", "default")), store=world.store)
    made.translation = world.translation
    return made


def test_upstreams_have_a_status_once_there_is_a_proxy() -> None:
    """Without any proxy nobody can say what becomes of an Upstream; everything else has a status at once."""
    world = make_world(upstream(), virtual_service(TO_UP))
    assert [str(ref) for ref, _ in reported(engine(world))] == ["VirtualService gloo-system.vs"]

    world.put(GATEWAY)
    assert {ref.kind for ref, _ in reported(engine(world))} == {"VirtualService", "Upstream", "Gateway"}


def test_what_can_have_no_status() -> None:
    """A key that names no object, and a Secret, have none; an unreadable object has one."""
    world = make_world(GATEWAY)
    rejected = Entry(None, Rejection("", "broken"))
    world.store.apply(Change("s", "VirtualService", {Ref("", "x"): rejected, Ref("gloo-system", "bad"): rejected}))
    world.store.apply(Change("s", "Secret", {Ref("gloo-system", "s"): rejected}))
    found = {str(ref) for ref, _ in reported(engine(world))}

    assert found == {"Gateway gloo-system.gw", "VirtualService gloo-system.bad"}
