"""Instances as endpoint sets: who belongs, weights, subsets, and that only what changed is made again."""

from google.protobuf import json_format

from gloo_nomad.envoy.endpoints import endpoint_problems
from gloo_nomad.resources import CLUSTER, ENDPOINTS
from gloo_nomad.store.services import Instance
from tests.pipeline.envoy_world import GATEWAY, World, make_world, upstream, virtual_service

WEB = "web_gloo-system"


def world_of(spec: str, *instances: Instance) -> World:
    """A world with one Consul upstream and its instances."""
    return make_world(GATEWAY, upstream("web", f"consul: {spec}")).put_instances("web", *instances)


def addresses(world: World, cluster: str = WEB) -> list[tuple[str, int]]:
    """Where a cluster's endpoints are."""
    found = []
    for locality in world.endpoints(cluster).endpoints:
        for endpoint in locality.lb_endpoints:
            address = endpoint.endpoint.address.socket_address
            found.append((address.address, address.port_value))
    return found


def labels(world: World) -> list[dict[str, str]]:
    """The subset metadata of each endpoint."""
    (locality,) = world.endpoints(WEB).endpoints
    return [json_format.MessageToDict(entry.metadata.filter_metadata["envoy.lb"]) for entry in locality.lb_endpoints]


def test_cluster_asks_for_endpoints_over_ads() -> None:
    """The name of the endpoint set is the cluster's."""
    cluster = world_of("{serviceName: web}").cluster(WEB)

    assert cluster.type == cluster.EDS
    assert cluster.eds_cluster_config.eds_config.HasField("ads")
    assert cluster.eds_cluster_config.service_name == ""
    assert not cluster.HasField("lb_subset_config")


def test_no_instances_is_an_empty_set() -> None:
    """A cluster without endpoints is told so: it would wait otherwise."""
    world = world_of("{serviceName: web}")

    assert world.names(ENDPOINTS) == [WEB]
    assert addresses(world) == []


def test_instances_are_sorted_and_weighted() -> None:
    """One endpoint for each address, with Consul's weight."""
    world = world_of(
        "{serviceName: web}",
        Instance("10.0.0.2", 80, "b", weight=5),
        Instance("10.0.0.1", 80, "a"),
        Instance("10.0.0.1", 80, "a-again"),
    )
    entries = world.endpoints(WEB).endpoints[0].lb_endpoints

    assert addresses(world) == [("10.0.0.1", 80), ("10.0.0.2", 80)]
    assert [entry.load_balancing_weight.value for entry in entries] == [1, 5]


def test_instance_tags_and_blacklist() -> None:
    """InstanceTags must all be there, instanceBlacklistTags must not."""
    world = world_of(
        "{serviceName: web, instanceTags: [a, b], instanceBlacklistTags: [x]}",
        Instance("10.0.0.1", 80, "1", ("a", "b", "c")),
        Instance("10.0.0.2", 80, "2", ("a",)),
        Instance("10.0.0.3", 80, "3", ("a", "b", "x")),
    )

    assert addresses(world) == [("10.0.0.1", 80)]


def test_subsets_of_a_stored_upstream() -> None:
    """A key for each tag and datacenter that the upstream names, "1" or "0"."""
    world = world_of(
        "{serviceName: web, subsetTags: [v2, v1], serviceTags: [other], dataCenters: [dc1]}",
    ).put_instances("web", Instance("10.0.0.1", 80, "1", ("v1", "z"), "dc1"), datacenter="dc1")
    subsets = world.cluster(WEB).lb_subset_config

    assert subsets.fallback_policy == subsets.ANY_ENDPOINT
    assert [list(selector.keys) for selector in subsets.subset_selectors] == [
        ["dc_dc1"],
        ["tag_v1", "tag_v2"],
        ["dc_dc1", "tag_v1", "tag_v2"],
    ]
    assert labels(world) == [{"tag_v1": "1", "tag_v2": "0", "dc_dc1": "1"}]


def test_datacenters_are_put_together() -> None:
    """Instances of all datacenters of the upstream."""
    world = world_of("{serviceName: web, dataCenters: [dc1, dc2]}")
    world.put_instances("web", Instance("10.1.0.1", 80, "1", datacenter="dc1"), datacenter="dc1")
    world.put_instances("web", Instance("10.2.0.1", 80, "1", datacenter="dc2"), datacenter="dc2")

    assert addresses(world) == [("10.1.0.1", 80), ("10.2.0.1", 80)]


def test_instances_that_envoy_cannot_be_told() -> None:
    """Host names, ports out of range and weights of zero are left out, with a warning each."""
    world = world_of(
        "{serviceName: web}",
        Instance("10.0.0.1", 80, "good"),
        Instance("db.internal", 80, "name"),
        Instance("10.0.0.2", 0, "port"),
        Instance("10.0.0.3", 80, "weight", weight=0),
    )
    problems = endpoint_problems(world.translation.clusters, world.store.snapshot)

    assert addresses(world) == [("10.0.0.1", 80)]
    assert [problem.message.split(" ")[1] for problem in problems] == ["port", "weight", "name"]
    assert {problem.ref.name for problem in problems} == {"web"}


def test_only_the_changed_set_is_made_again() -> None:
    """Everything else is the same object, and so is the whole mapping if nothing changed."""
    world = make_world(
        GATEWAY, upstream("web", "consul: {serviceName: web}"), upstream("db", "consul: {serviceName: db}")
    )
    world.put_instances("web", Instance("10.0.0.1", 80, "1")).put_instances("db", Instance("10.0.0.9", 80, "1"))
    before = world.snapshot()
    again = world.snapshot()
    computed = world.endpoint_memo.computed

    world.put_instances("web", Instance("10.0.0.2", 80, "1"))

    after = world.snapshot()
    assert again.of(ENDPOINTS) is before.of(ENDPOINTS)
    assert after.of(ENDPOINTS)["db_gloo-system"] is before.of(ENDPOINTS)["db_gloo-system"]
    assert after.of(ENDPOINTS)[WEB].version != before.of(ENDPOINTS)[WEB].version
    assert world.endpoint_memo.computed - computed <= 3
    assert after.of(CLUSTER)[WEB] is before.of(CLUSTER)[WEB]


def test_memory_follows_the_services() -> None:
    """What is gone is forgotten: a thousand changes leave no trace."""
    world = world_of("{serviceName: web}")
    for number in range(50):
        world.put_instances("web", Instance(f"10.0.0.{number}", 80, "1")).snapshot()

    assert len(world.endpoint_memo._entries) < 10


def test_services_without_an_allowed_tag() -> None:
    """Behind a route to a service by name there are instances only if one of them has a tag of the list."""
    route = "{routeAction: {single: {consul: {serviceName: %s}}}}"
    settings = {"consulDiscovery": {"serviceTagsAllowlist": ["public", "a,b"]}}
    names = ("tagged", "odd", "other")
    world = make_world(GATEWAY, virtual_service(*(route % name for name in names)), settings=settings)
    world.put_instances("tagged", Instance("10.0.0.1", 80, "1", ("public",)), Instance("10.0.0.2", 80, "2"))
    world.put_instances("odd", Instance("10.0.0.3", 80, "3", ("a,b",)))
    world.put_instances("other", Instance("10.0.0.4", 80, "4", ("a", "b")))

    assert [addresses(world, f"consul-svc:{name}_gloo-system") for name in names] == [
        [("10.0.0.1", 80), ("10.0.0.2", 80)],
        [("10.0.0.3", 80)],
        [],
    ]
