"""Services in Consul's mesh: what Envoy is told, and what a rotation touches."""

from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.secret_users import find_secret_users
from gloo_nomad.reports import Severity
from gloo_nomad.resources import CLUSTER, SECRET
from gloo_nomad.store.change import Change
from gloo_nomad.store.mesh import MESH_IDENTITY, MESH_SERVICE, MeshPlace
from tests.golden.world import parse_settings
from tests.mesh_identity import PLACE, identity_change
from tests.pipeline.certificates import make_pair
from tests.pipeline.envoy_world import GATEWAY, World

UPSTREAMS = """
kind: Upstream
metadata: {name: web, namespace: gloo-system}
consul: {serviceName: web, connectEnabled: true}
---
kind: Upstream
metadata: {name: plain, namespace: gloo-system}
consul: {serviceName: plain}
"""
VIRTUAL_SERVICE = """
kind: VirtualService
metadata: {name: vs, namespace: gloo-system}
virtualHost:
  domains: ["*"]
  routes:
  - matchers: [{prefix: /}]
    routeAction: {single: {upstream: {name: web, namespace: gloo-system}}}
"""
WEB = "web_gloo-system"
IDENTITY = (MESH_IDENTITY, Ref("", "gateway-proxy"))


def meshed(world: World, place: MeshPlace = PLACE, number: int = 1) -> World:
    """The world with an identity, another one for another number."""
    world.store.apply(identity_change(make_pair(f"gateway-{number}"), make_pair(f"root-{number}"), place))
    return world.translate()


def test_without_an_identity() -> None:
    """Without one there is no cluster, but the wish for it; other upstreams are served."""
    world = World().put(GATEWAY, UPSTREAMS, VIRTUAL_SERVICE)
    assert world.names(CLUSTER) == ["plain_gloo-system"]
    assert world.translation.services == {IDENTITY}
    assert any(said.startswith("warning") and "connect.enabled" in said for said in world.said("Upstream", "web"))
    assert world.problems(Severity.ERROR) == []
    assert world.said("Upstream", "plain") == []


def test_only_as_long_as_somebody_needs_it() -> None:
    """The identity and the mesh's instances are wanted by upstreams in the mesh only."""
    world = meshed(World().put(GATEWAY, UPSTREAMS, VIRTUAL_SERVICE))
    assert world.translation.services == {IDENTITY, (MESH_SERVICE, Ref("", "web"))}
    world.remove("Upstream", "web")
    assert world.translation.services == frozenset()


def test_a_rotation_touches_secrets_only() -> None:
    """Another certificate and other roots are other secrets; clusters are the same, down to the object."""
    world = meshed(World().put(GATEWAY, UPSTREAMS, VIRTUAL_SERVICE))
    before = world.snapshot()
    after = meshed(world, number=2).snapshot()
    assert after.of(CLUSTER)[WEB] is before.of(CLUSTER)[WEB]
    assert before.of(SECRET).keys() == after.of(SECRET).keys()
    assert all(after.of(SECRET)[name].version != before.of(SECRET)[name].version for name in after.of(SECRET))
    changed = [url for url in after.types if dict(after.of(url)) != dict(before.of(url))]
    assert changed == [SECRET]


def test_an_identity_goes() -> None:
    """Without the identity that was there the cluster goes: it is never without TLS."""
    world = meshed(World().put(GATEWAY, UPSTREAMS, VIRTUAL_SERVICE))
    world.store.apply(Change("consul-mesh-identity", MESH_IDENTITY, complete=True))
    assert world.translate().names(CLUSTER) == ["plain_gloo-system"]
    assert world.names(SECRET) == []


def test_a_certificate_that_envoy_would_refuse() -> None:
    """A key that is not the certificate's is told, and nothing is served with it."""
    world = World().put(GATEWAY, UPSTREAMS, VIRTUAL_SERVICE)
    leaf, other = make_pair("gateway"), make_pair("other")
    world.store.apply(identity_change(leaf._replace(key=other.key), make_pair("root")))
    assert world.translate().names(CLUSTER) == ["plain_gloo-system"]
    assert any("does not belong" in said for said in world.said("Upstream", "web"))


def test_partitions() -> None:
    """In an admin partition of Consul Enterprise the names say so."""
    world = meshed(World().put(GATEWAY, UPSTREAMS, VIRTUAL_SERVICE), PLACE._replace(partition="billing", namespace="b"))
    body = world.snapshot().of(CLUSTER)[WEB].body
    assert b"spiffe://trust.example/ap/billing/ns/b/dc/dc1/svc/web" in body
    assert b"web.b.billing.dc1.internal-v1.trust.example" in body


def test_a_gateway_without_a_name() -> None:
    """A setting that names no service is told, and nobody is asked for a certificate."""
    own = {"extensions": {"configs": {"gloo-nomad": {"meshServiceName": "a/../b"}}}}
    world = World(parse_settings(own)).put(GATEWAY, UPSTREAMS, VIRTUAL_SERVICE)
    assert world.translation.services == frozenset()
    assert any("meshServiceName is 'a/../b'" in said for said in world.said("Upstream", "web"))


def test_who_uses_a_secret_of_the_mesh() -> None:
    """If Envoy does not take it, the upstreams in the mesh are told."""
    world = meshed(World().put(GATEWAY, UPSTREAMS, VIRTUAL_SERVICE))
    for name in world.names(SECRET):
        assert list(find_secret_users(name, world.store.snapshot)) == [UPSTREAM.object_ref(Ref("gloo-system", "web"))]
