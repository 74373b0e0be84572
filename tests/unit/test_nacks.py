"""What Envoys reject is said to the objects behind it, as long as it is so."""

from dataclasses import dataclass, field

import pytest
import yaml

from gloo_nomad.api import codec
from gloo_nomad.api.gen import secret_pb2, settings_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.app.engine import Engine
from gloo_nomad.app.nacks import MAX_TEXT, Nacks, Node
from gloo_nomad.reports import Severity
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SCOPED_ROUTES, SECRET, VIRTUAL_HOST
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Change, Entry
from tests.pipeline.envoy_world import GATEWAY, ROLE, TO_UP, make_world, upstream, virtual_service

GATEWAY_REF = ObjectRef("Gateway", "gloo-system", "gw")
UPSTREAM_REF = ObjectRef("Upstream", "gloo-system", "up")
VIRTUAL_SERVICE_REF = ObjectRef("VirtualService", "gloo-system", "vs")
SECRET_REF = ObjectRef("Secret", "gloo-system", "cert")


@dataclass
class Scene:
    """An engine that serves something, and who is connected."""

    connected: set[Node] = field(default_factory=set)
    engine: Engine = field(init=False)
    nacks: Nacks = field(init=False)

    def __post_init__(self) -> None:
        self.engine = Engine(RuntimeSettings(settings_pb2.Settings(), Ref("gloo-system", "default")))
        self.nacks = Nacks(self.engine, lambda: self.connected)
        self.engine.reporters.append(self.nacks.problems)
        world = make_world(GATEWAY, upstream(), virtual_service(TO_UP, domains="['*', 'A.test:81']"))
        self.engine.translation = world.translation
        secret = Entry(secret_pb2.Secret())
        self.engine.store.apply(Change("test", "Secret", {SECRET_REF.ref: secret}))

    def said(self) -> list[tuple[ObjectRef, str]]:
        """What is said to whom."""
        problems = self.engine.problems()
        assert all(problem.severity is Severity.ERROR for problem in problems)
        return [(problem.ref, problem.message) for problem in problems]


@pytest.mark.parametrize(
    ("type_url", "name", "target"),
    [
        (CLUSTER, "up_gloo-system", UPSTREAM_REF),
        (ENDPOINTS, "up_gloo-system", UPSTREAM_REF),
        (LISTENER, "listener-::-8080", GATEWAY_REF),
        (ROUTES, "listener-::-8080-routes", GATEWAY_REF),
        (ROUTES, "listener-::-8080-routes-vhds", GATEWAY_REF),
        (VIRTUAL_HOST, "listener-::-8080-routes-vhds/gloo-system_vs", VIRTUAL_SERVICE_REF),
        (ROUTES, "listener-::-8080-routes/a.test", VIRTUAL_SERVICE_REF),
        (SCOPED_ROUTES, "listener-::-8080-routes/a.test", VIRTUAL_SERVICE_REF),
        (SECRET, "tls/gloo-system/cert", SECRET_REF),
        (SECRET, "ca/gloo-system/cert", SECRET_REF),
    ],
)
def test_the_object_behind_a_resource(type_url: str, name: str, target: ObjectRef) -> None:
    """An error on that object names the resource, the Envoy and its words, and wakes who writes statuses."""
    scene = Scene()
    listener = scene.engine.listener()
    listener.clear()
    scene.nacks.rejected(ROLE, "envoy-1", type_url, (name,), "no\nsuch  thing")

    assert scene.said() == [(target, f"Envoy rejected {name}: no such thing (envoy-1 of {ROLE})")]
    assert listener.is_set()


def test_what_is_not_served_is_nobodys_problem() -> None:
    """A resource that is gone, or one of another role, is said to nobody."""
    scene = Scene()
    scene.nacks.rejected(ROLE, "e", CLUSTER, ("gone", ""), "x")
    scene.nacks.rejected("gloo-system~other", "e", LISTENER, ("listener-::-8080",), "x")

    assert scene.said() == []


USERS = """
kind: Upstream
metadata: {name: a, namespace: gloo-system}
static: {hosts: [{addr: 127.0.0.1, port: 80}]}
sslConfig: {sslFiles: {tlsCert: /c, tlsKey: /k, rootCa: /r}}
---
kind: Upstream
metadata: {name: b, namespace: gloo-system}
static: {hosts: [{addr: 127.0.0.1, port: 80}]}
sslConfig: {secretRef: {name: cert, namespace: gloo-system}}
---
kind: Gateway
metadata: {name: c, namespace: gloo-system}
bindAddress: "::"
bindPort: 1
tcpGateway: {tcpHosts: [{name: x, sslConfig: {sslFiles: {tlsCert: /c, tlsKey: /k}}}]}
---
kind: VirtualService
metadata: {name: d, namespace: gloo-system, labels: {a: b}}
sslConfig: {secretRef: {name: cert, namespace: gloo-system}}
---
kind: VirtualService
metadata: {name: e, namespace: gloo-system}
sslConfig: {sds: {targetUri: "127.0.0.1:1", certificatesSecretName: x}}
"""


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("tls-files//c|/k", [("Gateway", "c"), ("Upstream", "a")]),
        ("ca-file//r", [("Upstream", "a")]),
        ("tls/gloo-system/cert", [("Secret", "cert"), ("Upstream", "b"), ("VirtualService", "d")]),
        ("tls/gloo-system/other", []),
    ],
)
def test_who_uses_a_secret_is_told(name: str, users: list[tuple[str, str]]) -> None:
    """A Secret has no status, and a file has no object: those that name them are told what Envoy says."""
    scene = Scene()
    for document in yaml.safe_load_all(USERS):
        kind = KINDS[document.pop("kind")]
        decoded = codec.decode(kind, codec.to_json(document).encode())
        scene.engine.store.apply(Change("test", kind.name, {decoded.ref.ref: Entry(decoded.message)}))
    scene.nacks.rejected(ROLE, "e", SECRET, (name,), "x")

    assert sorted((ref.kind, ref.name) for ref, _ in scene.said()) == users


def test_recovery() -> None:
    """An Envoy that accepts takes its word back, another one's stays."""
    scene = Scene()
    for node in ("a", "b"):
        scene.nacks.rejected(ROLE, node, CLUSTER, ("up_gloo-system",), "x")
    assert scene.said() == [(UPSTREAM_REF, f"Envoy rejected up_gloo-system: x (a and others of {ROLE})")]

    scene.nacks.recovered(ROLE, "a", CLUSTER, ("up_gloo-system", "unknown"))
    assert scene.said() == [(UPSTREAM_REF, f"Envoy rejected up_gloo-system: x (b of {ROLE})")]
    scene.nacks.recovered(ROLE, "b", CLUSTER, ("up_gloo-system",))
    assert scene.said() == []


def test_a_thousand_envoys_say_the_same() -> None:
    """The text is one line, whoever joins; another reason is another problem."""
    scene = Scene()
    for number in range(1000):
        scene.nacks.rejected(ROLE, f"e{number:04}", LISTENER, ("listener-::-8080",), "same")
    scene.nacks.rejected(ROLE, "old", LISTENER, ("listener-::-8080",), "other")

    assert [message for _, message in scene.said()] == [
        f"Envoy rejected listener-::-8080: same (e0000 and others of {ROLE})",
        f"Envoy rejected listener-::-8080: other (old of {ROLE})",
    ]


def test_long_words_are_cut() -> None:
    """An Envoy that prints its whole configuration does not fill the status."""
    scene = Scene()
    scene.nacks.rejected(ROLE, "e", CLUSTER, ("up_gloo-system",), "x" * 10_000)

    assert len(scene.said()[0][1]) < MAX_TEXT + 100


def test_who_is_gone_is_forgotten() -> None:
    """An Envoy that is absent twice in a row is gone with what it rejected; one that reconnects meanwhile is not."""
    scene = Scene({(ROLE, "stays"), (ROLE, "returns")})
    for node in ("stays", "returns", "goes"):
        scene.nacks.rejected(ROLE, node, CLUSTER, ("up_gloo-system",), node)
    scene.connected = {(ROLE, "stays")}

    absent = scene.nacks.forget_absent(set())
    assert absent == {(ROLE, "returns"), (ROLE, "goes")}
    assert len(scene.said()) == 3
    scene.connected.add((ROLE, "returns"))
    scene.nacks.forget_absent(absent)
    assert sorted(message.split()[3] for _, message in scene.said()) == ["returns", "stays"]


def test_memory_follows_the_envoys() -> None:
    """After many Envoys came, rejected and went, nothing is left of them."""
    scene = Scene()
    absent: set[Node] = set()
    for number in range(100):
        scene.nacks.rejected(ROLE, f"e{number}", CLUSTER, ("up_gloo-system", f"other-{number}"), "x")
        absent = scene.nacks.forget_absent(absent)
    scene.nacks.forget_absent(absent)

    assert scene.nacks._rejected == {}
    assert scene.engine.problems() == ()
