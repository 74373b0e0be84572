"""The engine and who we are in Consul's mesh: waited for, translated with, translated again."""

import asyncio

from gloo_nomad.api.refs import Ref
from gloo_nomad.resources import CLUSTER, SECRET
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.mesh import MESH_SERVICE
from gloo_nomad.store.services import Instance, ServiceInstances
from tests.engine_scene import Scene, run
from tests.mesh_identity import identity_change
from tests.pipeline.certificates import make_pair
from tests.pipeline.envoy_world import GATEWAY, ROLE

WEB = "web_gloo-system"
UPSTREAM = (
    "{kind: Upstream, metadata: {name: web, namespace: gloo-system}, consul: {serviceName: web, connectEnabled: %s}}"
)
ROUTE = """
kind: VirtualService
metadata: {name: vs, namespace: gloo-system}
virtualHost:
  domains: ["*"]
  routes: [{matchers: [{prefix: /}], routeAction: {single: {upstream: {name: web, namespace: gloo-system}}}}]
"""


def arrive(scene: Scene, number: int = 1) -> None:
    """An identity arrives, another one for another number."""
    scene.engine.services.put_nowait(identity_change(make_pair(f"gateway-{number}"), make_pair(f"root-{number}")))


def instances(scene: Scene) -> None:
    """The sidecars of the service arrive."""
    found = Entry(ServiceInstances((Instance("127.0.0.1", 21000, "i"),)))
    scene.engine.services.put_nowait(Change("consul-mesh-services", MESH_SERVICE, {Ref("", "web"): found}))


def test_the_first_publication_has_the_mesh() -> None:
    """It waits for the identity, and then for the instances that only a cluster with an identity wants."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, ROUTE, UPSTREAM % "true")
        await scene.engine.begin()
        await scene.until(lambda: bool(scene.wanted))
        arrive(scene)
        await scene.until(lambda: (MESH_SERVICE, Ref("", "web")) in scene.wanted)
        assert scene.published == []
        instances(scene)
        await scene.until(lambda: bool(scene.published))
        assert WEB in scene.published[0][ROLE].of(CLUSTER)
        assert b"127.0.0.1" in scene.served(WEB)

    run(scenario)


def test_moving_into_the_mesh_takes_no_cluster_away() -> None:
    """An upstream that is put into the mesh stays served until the mesh can be asked."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, ROUTE, UPSTREAM % "false")
        scene.instances("web", 8080)
        await scene.engine.begin()
        await scene.until(lambda: len(scene.published) == 1)
        scene.put(UPSTREAM % "true")
        await scene.until(lambda: any(kind != "consul.Service" for kind, _ in scene.wanted))
        arrive(scene)
        instances(scene)
        await scene.until(lambda: len(scene.published) == 2)
        assert all(WEB in published[ROLE].of(CLUSTER) for published in scene.published)
        assert b"spiffe" in scene.published[1][ROLE].of(CLUSTER)[WEB].body

    run(scenario)


def test_rotations_are_published() -> None:
    """Another identity is published at once, and needs no change of an object."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, ROUTE, UPSTREAM % "true")
        arrive(scene)
        instances(scene)
        await scene.engine.begin()
        await scene.until(lambda: len(scene.published) == 1)
        arrive(scene, 2)
        await scene.until(lambda: len(scene.published) == 2)
        before, after = (published[ROLE] for published in scene.published)
        assert after.of(CLUSTER)[WEB] is before.of(CLUSTER)[WEB]
        assert {secret.version for secret in after.of(SECRET).values()}.isdisjoint(
            secret.version for secret in before.of(SECRET).values()
        )
        await asyncio.sleep(0.1)
        assert len(scene.published) == 2

    run(scenario)


def test_no_identity_holds_nothing_for_ever() -> None:
    """Where none comes, everything else is served in time."""

    async def scenario(scene: Scene) -> None:
        scene.put(GATEWAY, ROUTE, UPSTREAM % "true")
        await scene.engine.begin()
        await scene.until(lambda: bool(scene.published))
        assert WEB not in scene.published[0][ROLE].of(CLUSTER)
        assert any("connect.enabled" in problem.message for problem in scene.engine.problems())

    run(scenario, {"gloo": {"endpointsWarmingTimeout": "0.2s"}})
