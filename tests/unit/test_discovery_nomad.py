"""Which Upstreams discovery writes and deletes for services of Nomad."""

from typing import Any

from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.discovery.nomad_upstreams import NomadServices, plan_nomad_upstreams
from gloo_nomad.discovery.upstreams import Plan
from gloo_nomad.store.change import Entry

NAMESPACE = "gloo-system"
WEB: NomadServices = {"default": {"web": ("canary", "live")}}


def plan(services: NomadServices, has: dict[Ref, Entry] | None = None, to: dict[str, Any] | None = None) -> Plan:
    """What follows from services, stored Upstreams and settings."""
    settings = json_format.ParseDict(to or {}, settings_pb2.Settings())
    return plan_nomad_upstreams(services, has or {}, settings, NAMESPACE)


def stored(services: NomadServices) -> dict[Ref, Entry]:
    """What is stored after the plan for these services was carried out."""
    return {ref: Entry(message, version=7) for ref, (message, _) in plan(services).puts.items()}


def test_a_new_service() -> None:
    """One Upstream with the label, the annotations and the tags; the namespace only if it is not the default one."""
    found = plan({**WEB, "shop": {"web": ()}}, to={"upstreamOptions": {"globalAnnotations": {"team": "x"}}}).puts

    assert {ref.name: json_format.MessageToDict(message) for ref, (message, _) in found.items()} == {
        "nomad-web": {
            "metadata": {
                "name": "nomad-web",
                "namespace": NAMESPACE,
                "labels": {"discovered_by": "nomadplugin"},
                "annotations": {"gloo-nomad/provider": "nomad", "team": "x"},
            },
            "consul": {"serviceName": "web", "serviceTags": ["canary", "live"]},
        },
        "nomad-shop-web": {
            "metadata": {
                "name": "nomad-shop-web",
                "namespace": NAMESPACE,
                "labels": {"discovered_by": "nomadplugin"},
                "annotations": {"gloo-nomad/provider": "nomad", "gloo-nomad/nomad-namespace": "shop", "team": "x"},
            },
            "consul": {"serviceName": "web"},
        },
    }
    assert {version for _, version in found.values()} == {0}


def test_names_that_meet() -> None:
    """Two services whose Upstreams would have one name both have one."""
    found = plan({"a": {"b-web": ()}, "a-b": {"web": ()}}).puts

    assert len(found) == 2
    assert Ref(NAMESPACE, "nomad-a-b-web") in found


def test_nothing_to_do() -> None:
    """What is stored as it is wanted is not written again."""
    assert plan(WEB, stored(WEB)) == Plan()


def test_what_the_user_set_stays() -> None:
    """Tags and place are discovery's, the rest of a discovered Upstream is the user's."""
    before = stored(WEB)
    message: upstream_pb2.Upstream = before[Ref(NAMESPACE, "nomad-web")].value
    message.connection_config.connect_timeout.seconds = 3
    message.metadata.annotations["mine"] = "kept"
    message.metadata.annotations["gloo-nomad/nomad-namespace"] = "elsewhere"

    ((merged, version),) = plan({"default": {"web": ("v2",)}}, before).puts.values()

    assert version == 7
    assert merged.connection_config.connect_timeout.seconds == 3
    assert dict(merged.metadata.annotations) == {"gloo-nomad/provider": "nomad", "mine": "kept"}
    assert list(merged.consul.service_tags) == ["v2"]


def test_only_its_own_are_removed() -> None:
    """A service that is gone takes its Upstream with it; those of Consul's services and of users stay."""
    before = stored({"default": {"web": (), "gone": ()}})
    for name, label in (("consul-web", "consulplugin"), ("own", "")):
        other = upstream_pb2.Upstream()
        other.metadata.labels["discovered_by"] = label
        before[Ref(NAMESPACE, name)] = Entry(other, version=9)

    found = plan({"default": {"web": ()}}, before)

    assert (found.puts, found.deletes) == ({}, {Ref(NAMESPACE, "nomad-gone"): 7})


def test_watch_labels() -> None:
    """udsOptions.watchLabels are tags."""
    to = {"discovery": {"udsOptions": {"watchLabels": {"team": "edge"}}}}

    found = plan({"default": {"web": ("team=edge",), "other": ("team=core",)}}, to=to)

    assert [ref.name for ref in found.puts] == ["nomad-web"]
