"""Destinations: by weight, by group, by Consul service with tags and datacenters, by a client's header, by subset."""

from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.refs import Ref
from gloo_nomad.resources import CLUSTER
from gloo_nomad.store.services import CONSUL_SERVICE, Instance
from tests.pipeline.envoy_world import GATEWAY, TO_UP, World, make_world, upstream, virtual_service

SUBSETS = "consul: {serviceName: web, subsetTags: [v1, v2], dataCenters: [dc1]}"


def to(destination: str) -> str:
    """A route with this destination."""
    return f"{{matchers: [{{prefix: /}}], routeAction: {{{destination}}}}}"


def action(world: World) -> Any:
    """The RouteAction of the first route."""
    return world.routes()[0].route


def picked(holder: Any) -> dict[str, Any]:
    """The subset that a RouteAction or ClusterWeight asks for."""
    found: dict[str, Any] = json_format.MessageToDict(holder.metadata_match.filter_metadata["envoy.lb"])
    return found


def test_weights() -> None:
    """A weight that is not set is 0, as in the reference."""
    multi = (
        "multi: {destinations: [{weight: 3, destination: {upstream: {name: a, namespace: gloo-system}}},"
        " {destination: {upstream: {name: b}}}]}"
    )
    world = make_world(GATEWAY, upstream("a"), upstream("b"), virtual_service(to(multi)))

    assert world.said("VirtualService", "vs") == []
    assert [(entry.name, entry.weight.value) for entry in action(world).weighted_clusters.clusters] == [
        ("a_gloo-system", 3),
        ("b_gloo-system", 0),
    ]


@pytest.mark.parametrize(
    "multi",
    [
        "multi: {}",
        "multi: {destinations: [{destination: {upstream: {name: a, namespace: gloo-system}}}]}",
        (
            "multi: {destinations: [{weight: 4294967295, destination: {upstream: {name: a, namespace: gloo-system}}},"
            " {weight: 1, destination: {upstream: {name: a, namespace: gloo-system}}}]}"
        ),
    ],
)
def test_weights_must_have_a_sum(multi: str) -> None:
    """No destination, only zeros, or too much: Envoy would refuse all routes."""
    world = make_world(GATEWAY, upstream("a"), virtual_service(to(multi)))

    (said,) = world.said("VirtualService", "vs")
    assert said.startswith("error virtualHost.routes[0].routeAction.multi.destinations: ")
    assert world.routes()[0].direct_response.status == 404


def test_options_of_weighted_destinations() -> None:
    """Options of one weighted destination concern that one only."""
    options = "{headerManipulation: {requestHeadersToAdd: [{header: {key: x-a, value: b}}]}}"
    multi = (
        f"multi: {{destinations: [{{weight: 1, destination: {{upstream: {{name: a}}}}, options: {options}}},"
        " {weight: 1, destination: {upstream: {name: a}}}]}"
    )
    world = make_world(GATEWAY, upstream("a"), virtual_service(to(multi)))
    first, second = action(world).weighted_clusters.clusters

    assert [added.header.key for added in first.request_headers_to_add] == ["x-a"]
    assert not second.request_headers_to_add


GROUP = """
kind: UpstreamGroup
metadata: {name: group, namespace: gloo-system}
destinations:
  - {weight: 1, destination: {upstream: {name: a, namespace: gloo-system}}}
  - {weight: 2, destination: {upstream: {name: b}}}
"""
TO_GROUP = to("upstreamGroup: {name: group, namespace: gloo-system}")


def test_upstream_group() -> None:
    """A group is its weighted destinations; one without a namespace is in the group's."""
    world = make_world(GATEWAY, upstream("a"), upstream("b"), GROUP, virtual_service(TO_GROUP))

    assert world.problems() == []
    assert [(entry.name, entry.weight.value) for entry in action(world).weighted_clusters.clusters] == [
        ("a_gloo-system", 1),
        ("b_gloo-system", 2),
    ]


def test_missing_group_is_a_warning() -> None:
    """The route leads to a cluster that does not exist, until the group is there."""
    world = make_world(GATEWAY, virtual_service(TO_GROUP))
    (said,) = world.said("VirtualService", "vs")
    assert said.startswith("warning virtualHost.routes[0].routeAction.upstreamGroup: ")
    assert action(world).cluster == "group_gloo-system"

    world.put(upstream("a"), upstream("b"), GROUP)

    assert len(action(world).weighted_clusters.clusters) == 2


def test_group_without_weight_is_rejected_and_the_route_warned() -> None:
    """The group is at fault; routes to it are served like those to a missing one."""
    empty = "kind: UpstreamGroup\nmetadata: {name: group, namespace: gloo-system}\n"
    world = make_world(GATEWAY, empty, virtual_service(TO_GROUP))

    assert world.said("UpstreamGroup", "group")[0].startswith("error destinations: ")
    assert world.said("VirtualService", "vs")[0].startswith("warning ")
    assert action(world).cluster == "group_gloo-system"


def test_group_is_told_of_a_missing_upstream() -> None:
    """A group that leads nowhere has a warning of its own."""
    world = make_world(GATEWAY, upstream("a"), GROUP, virtual_service(TO_UP))

    assert world.said("UpstreamGroup", "group")[0].startswith("warning destinations[1].destination.upstream: ")


def test_consul_service_without_conditions() -> None:
    """A Consul service has a cluster of its own name, whether discovery stored an upstream for it or not."""
    world = make_world(GATEWAY, virtual_service(to("single: {consul: {serviceName: web}}")))

    assert world.problems() == []
    assert action(world).cluster == "consul-svc:web_gloo-system"
    assert not action(world).HasField("metadata_match")
    assert world.names(CLUSTER) == ["consul-svc:web_gloo-system"]
    assert world.translation.services == {(CONSUL_SERVICE, Ref("", "web"))}


def test_consul_tags_are_one_set() -> None:
    """The subset is exactly these tags, however they are ordered, and commas in them do no harm."""
    destination = "single: {consul: {serviceName: web, tags: [v2, 'a,b', v2]}}"
    world = make_world(GATEWAY, virtual_service(to(destination)))
    world.put_instances("web", Instance("10.0.0.1", 80, "i", ("a,b", "v2")))
    (locality,) = world.endpoints("consul-svc:web_gloo-system").endpoints
    labels = json_format.MessageToDict(locality.lb_endpoints[0].metadata.filter_metadata["envoy.lb"])

    assert picked(action(world)) == {"tags": "a%2Cb,v2"}
    assert labels == {"tags": "a%2Cb,v2", "dc": ""}


def test_consul_datacenters_are_tried_in_order() -> None:
    """Datacenters in the order written, then any instance; each of them is watched."""
    destination = "single: {consul: {serviceName: web, tags: [v1], dataCenters: [dc2, dc1]}}"
    world = make_world(GATEWAY, virtual_service(to(destination)))

    assert picked(action(world)) == {
        "tags": "v1",
        "fallback_list": [{"tags": "v1", "dc": "dc2"}, {"tags": "v1", "dc": "dc1"}, {"tags": "v1"}],
    }
    assert world.translation.services == {(CONSUL_SERVICE, Ref("dc1", "web")), (CONSUL_SERVICE, Ref("dc2", "web"))}


def test_each_weighted_entry_has_its_own_tags() -> None:
    """Canary by tag: 80 to one set of tags and 20 to another of the same service."""
    multi = (
        "multi: {destinations: [{weight: 80, destination: {consul: {serviceName: web, tags: [v1]}}},"
        " {weight: 20, destination: {consul: {serviceName: web, tags: [v2]}}}]}"
    )
    world = make_world(GATEWAY, virtual_service(to(multi)))
    found = action(world).weighted_clusters.clusters

    assert [(entry.weight.value, picked(entry)) for entry in found] == [(80, {"tags": "v1"}), (20, {"tags": "v2"})]
    assert {entry.name for entry in found} == {"consul-svc:web_gloo-system"}


def test_cluster_stays_the_same_while_tags_change() -> None:
    """New tags of instances or routes never touch the cluster, so no connection is lost."""
    world = make_world(GATEWAY, virtual_service(to("single: {consul: {serviceName: web, tags: [v1]}}")))
    world.put_instances("web", Instance("10.0.0.1", 80, "i", ("v1",)))
    before = world.snapshot().of(CLUSTER)["consul-svc:web_gloo-system"]

    world.put_instances("web", Instance("10.0.0.1", 80, "i", ("v2", "x")))
    world.put(virtual_service(to("single: {consul: {serviceName: web, tags: [v2, x]}}")))

    assert world.snapshot().of(CLUSTER)["consul-svc:web_gloo-system"] is before


def test_cluster_header_reaches_everything() -> None:
    """The client names the cluster, so every service is watched."""
    world = make_world(
        GATEWAY, upstream("a", "consul: {serviceName: web}"), virtual_service(to("clusterHeader: x-cluster"))
    )

    assert action(world).cluster_header == "x-cluster"
    assert world.translation.services == {(CONSUL_SERVICE, Ref("", "web"))}


def test_unreached_services_are_not_watched() -> None:
    """An upstream that no route leads to costs no query."""
    world = make_world(
        GATEWAY,
        upstream("a", "consul: {serviceName: web}"),
        upstream("b", "consul: {serviceName: db}"),
        virtual_service(to("single: {upstream: {name: b}}")),
    )

    assert world.translation.services == {(CONSUL_SERVICE, Ref("", "db"))}


def test_subset() -> None:
    """A subset that the upstream offers is asked for."""
    destination = "single: {upstream: {name: web}, subset: {values: {tag_v1: '1', tag_v2: '0'}}}"
    world = make_world(GATEWAY, upstream("web", SUBSETS), virtual_service(to(destination)))

    assert world.problems() == []
    assert picked(action(world)) == {"tag_v1": "1", "tag_v2": "0"}


def test_subset_of_an_upstream_without_subsets() -> None:
    """A warning: every instance gets requests."""
    world = make_world(
        GATEWAY, upstream(), virtual_service(to("single: {upstream: {name: up}, subset: {values: {a: b}}}"))
    )

    assert world.said("VirtualService", "vs")[0].startswith("warning virtualHost.routes[0].routeAction.single.subset: ")


def test_subset_by_other_keys_is_an_error() -> None:
    """Envoy would fall back silently; the keys that exist are named."""
    destination = "single: {upstream: {name: web}, subset: {values: {tag_v1: '1'}}}"
    world = make_world(GATEWAY, upstream("web", SUBSETS), virtual_service(to(destination)))

    (said,) = world.said("VirtualService", "vs")
    assert said.startswith("error virtualHost.routes[0].routeAction.single.subset: ")
    assert "tag_v1, tag_v2" in said


@pytest.mark.parametrize(
    ("destination", "path"),
    [
        ("single: {}", "routeAction.single"),
        ("single: {kube: {ref: {name: a, namespace: b}, port: 80}}", "routeAction.single.kube"),
        ("single: {consul: {tags: [a]}}", "routeAction.single.consul.serviceName"),
        ("clusterHeader: 'a b'", "routeAction.clusterHeader"),
        ("dynamicForwardProxy: {}", "routeAction.dynamicForwardProxy"),
        ("", "routeAction"),
    ],
)
def test_impossible_destinations(destination: str, path: str) -> None:
    """What leads nowhere is an error that names the field, and the route answers."""
    world = make_world(GATEWAY, virtual_service(to(destination)))

    errors = [text for text in world.said("VirtualService", "vs") if text.startswith("error")]
    assert [text.split(": ")[0] for text in errors] == [f"error virtualHost.routes[0].{path}"]
    assert world.routes()[0].direct_response.status == 404
