"""Which Upstreams discovery writes and deletes."""

from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.catalogs import merge_datacenters
from gloo_nomad.discovery.upstreams import FoundService, Plan, object_name, plan_upstreams
from gloo_nomad.store.change import Entry

NAMESPACE = "gloo-system"
TLS = {"consulDiscovery": {"useTlsTagging": True, "rootCa": {"name": "ca", "namespace": "ns"}}}
SPLIT = {"consulDiscovery": {**TLS["consulDiscovery"], "splitTlsServices": True}}


def settings(document: dict[str, Any] | None = None) -> settings_pb2.Settings:
    """Settings."""
    return json_format.ParseDict(document or {}, settings_pb2.Settings())


def service(name: str, *tags: str, datacenters: tuple[str, ...] = ("dc1",)) -> FoundService:
    """A service of the catalog."""
    return FoundService(name, frozenset(tags), frozenset(datacenters))


def stored(name: str, document: dict[str, Any], version: int = 7, **more: Any) -> dict[Ref, Entry]:
    """A stored Upstream; ``discovered=False`` leaves the label out."""
    labels = {"discovered_by": "consulplugin"} if more.pop("discovered", True) else {}
    metadata = {"name": name, "namespace": more.pop("namespace", NAMESPACE), "labels": labels}
    message = json_format.ParseDict({"metadata": metadata, **document}, upstream_pb2.Upstream())
    return {Ref(metadata["namespace"], name): Entry(message, version=version, **more)}


def plan(*services: FoundService, has: dict[Ref, Entry] | None = None, to: dict[str, Any] | None = None) -> Plan:
    """What follows from services, stored Upstreams and settings."""
    return plan_upstreams({each.name: each for each in services}, has or {}, settings(to), NAMESPACE)


def written(found: Plan) -> dict[str, Any]:
    """The Upstreams to write, by name, as documents without their metadata's name and namespace."""
    documents = {}
    for ref, (message, _) in found.puts.items():
        document = json_format.MessageToDict(message)
        assert document["metadata"].pop("name") == ref.name
        assert document["metadata"].pop("namespace") == ref.namespace == NAMESPACE
        documents[ref.name] = document
    return documents


def current(*services: FoundService, to: dict[str, Any] | None = None) -> dict[Ref, Entry]:
    """What is stored after the plan for these services was carried out."""
    return {ref: Entry(message, version=7) for ref, (message, _) in plan(*services, to=to).puts.items()}


def test_a_new_service() -> None:
    """One Upstream with the label, sorted tags and datacenters, created only if there is none."""
    found = plan(service("web", "v2", "v1", datacenters=("dc2", "dc1")))

    assert written(found) == {
        "web": {
            "metadata": {"labels": {"discovered_by": "consulplugin"}},
            "consul": {"serviceName": "web", "dataCenters": ["dc1", "dc2"], "serviceTags": ["v1", "v2"]},
        }
    }
    assert [version for _, version in found.puts.values()] == [0]
    assert found.deletes == {}


def test_settings_go_into_it() -> None:
    """Consistency, query options and global annotations are those of the Settings."""
    found = plan(
        service("web"),
        to={
            "consulDiscovery": {"consistencyMode": "StaleMode", "queryOptions": {"useCache": False}},
            "upstreamOptions": {"globalAnnotations": {"team": "edge"}},
        },
    )

    assert written(found)["web"]["consul"]["consistencyMode"] == "StaleMode"
    assert written(found)["web"]["consul"]["queryOptions"] == {"useCache": False}
    assert written(found)["web"]["metadata"]["annotations"] == {"team": "edge"}


@pytest.mark.parametrize("to", [None, TLS, SPLIT])
def test_nothing_to_do_the_second_time(to: dict[str, Any] | None) -> None:
    """What was written is what is wanted, with any settings: no write causes another."""
    services = service("web", "glooUseTls", "v1"), service("plain"), service("My_Service")

    assert plan(*services, has=current(*services, to=to), to=to) == Plan()


def test_what_the_user_set_stays() -> None:
    """Tags change, everything else of the object and its version stay the user's."""
    own = {
        "consul": {"serviceName": "web", "dataCenters": ["dc1"], "subsetTags": ["s"], "instanceTags": ["mine"]},
        "connectionConfig": {"connectTimeout": "3s"},
        "useHttp2": True,
        "protocolSelection": "USE_DOWNSTREAM_PROTOCOL",
    }
    found = plan(service("web", "v2"), has=stored("web", own))

    assert written(found)["web"] == {
        "metadata": {"labels": {"discovered_by": "consulplugin"}},
        **own,
        "consul": {**own["consul"], "serviceTags": ["v2"]},  # type: ignore[dict-item]
    }
    assert [version for _, version in found.puts.values()] == [7]


def test_a_users_own_fields_are_no_difference() -> None:
    """As long as the service is the same nothing is written, whatever the user added."""
    own = {
        "consul": {"serviceName": "web", "dataCenters": ["dc1"], "instanceTags": ["mine"]},
        "sslConfig": {"sni": "x"},
    }

    assert plan(service("web"), has=stored("web", own)) == Plan()


@pytest.mark.parametrize(
    "to",
    [
        {"consulDiscovery": {"consistencyMode": "ConsistentMode"}},
        {"consulDiscovery": {"queryOptions": {"useCache": True}}},
    ],
)
def test_other_settings_are_a_difference(to: dict[str, Any]) -> None:
    """What the Settings say of queries reaches Upstreams that exist."""
    has = current(service("web"))

    assert list(plan(service("web"), has=has, to=to).puts) == [Ref(NAMESPACE, "web")]
    assert list(plan(service("web"), has=current(service("web"), to=to)).puts) == [Ref(NAMESPACE, "web")]


def test_a_service_that_vanished() -> None:
    """Its Upstream is deleted at the version that was seen."""
    assert plan(has=stored("web", {"consul": {"serviceName": "web"}})) == Plan({}, {Ref(NAMESPACE, "web"): 7})


@pytest.mark.parametrize(
    "foreign",
    [
        stored("web", {"static": {"hosts": [{"addr": "a", "port": 1}]}}, discovered=False),
        stored("web", {"consul": {"serviceName": "web"}}, namespace="team"),
        {Ref(NAMESPACE, "web"): Entry(None, Rejection("", "broken"), version=7)},
    ],
)
def test_foreign_objects_are_not_touched(foreign: dict[Ref, Entry]) -> None:
    """Without the label, in another namespace or unreadable, an object is neither written nor deleted."""
    assert plan(has=foreign) == Plan()
    assert Ref(NAMESPACE, "web") not in {ref for ref in plan(service("web"), has=foreign).puts if ref in foreign}
    assert plan(service("web"), has=foreign).deletes == {}


def test_a_broken_edit_is_left_to_its_author() -> None:
    """An Upstream whose text is broken is not overwritten, though its last good version would differ."""
    has = stored("web", {"consul": {"serviceName": "web"}}, rejection=Rejection("", "broken"))

    assert plan(service("web", "new-tag"), has=has) == Plan()


def test_allowed_tags() -> None:
    """With a list, a service needs one of its tags; one that lost it is deleted."""
    to = {"consulDiscovery": {"serviceTagsAllowlist": ["public", "edge"]}}
    services = service("a", "public", "x"), service("b", "edge"), service("c", "x"), service("d")
    has = stored("c", {"consul": {"serviceName": "c"}})

    found = plan(*services, has=has, to=to)
    assert sorted(written(found)) == ["a", "b"]
    assert found.deletes == {Ref(NAMESPACE, "c"): 7}


def test_tls_tagging() -> None:
    """A tagged service is one Upstream with TLS; others are plain."""
    found = written(plan(service("web", "glooUseTls"), service("plain"), to=TLS))

    assert sorted(found) == ["plain", "web-tls"]
    assert found["web-tls"]["sslConfig"] == {"secretRef": {"name": "ca", "namespace": "ns"}}
    assert "instanceTags" not in found["web-tls"]["consul"]
    assert "sslConfig" not in found["plain"]


def test_tls_tagging_with_a_tag_of_ones_own() -> None:
    """The tag's name is a setting, and without the switch no tag means anything."""
    to = {"consulDiscovery": {**TLS["consulDiscovery"], "tlsTagName": "https"}}

    assert sorted(written(plan(service("web", "https"), service("x", "glooUseTls"), to=to))) == ["web-tls", "x"]
    assert sorted(written(plan(service("web", "glooUseTls")))) == ["web"]


def test_tls_without_a_root() -> None:
    """Without ``rootCa`` there is TLS, and no reference to a Secret without a name."""
    found = written(plan(service("web", "glooUseTls"), to={"consulDiscovery": {"useTlsTagging": True}}))

    assert found["web-tls"]["sslConfig"] == {}


def test_split_services() -> None:
    """Instances with the tag are one Upstream, those without it the other."""
    found = written(plan(service("web", "glooUseTls", "v1"), to=SPLIT))

    assert sorted(found) == ["web", "web-tls"]
    assert found["web-tls"]["consul"]["instanceTags"] == ["glooUseTls"]
    assert found["web"]["consul"]["instanceBlacklistTags"] == ["glooUseTls"]
    assert "sslConfig" not in found["web"]


def test_split_off_again() -> None:
    """Without the split the tag goes out of the Upstream, and what the user wanted of instances stays in it."""
    own = {
        "consul": {
            "serviceName": "web",
            "dataCenters": ["dc1"],
            "serviceTags": ["glooUseTls"],
            "instanceBlacklistTags": ["mine", "glooUseTls"],
        }
    }
    (document,) = written(plan(service("web", "glooUseTls"), has=stored("web", own))).values()

    assert document["consul"]["instanceBlacklistTags"] == ["mine"]


def test_names_of_objects() -> None:
    """A service's name becomes one that an object may have: lower case, no other characters, not too long."""
    assert object_name("web") == "web"
    assert object_name("My_Service.v1") == "my-service.v1"
    assert object_name("-_-") == "service"
    assert object_name("ünïcode/../x") == "n-code-..-x"
    assert len(object_name("x" * 1000)) == 240
    assert object_name("x" * 239 + ".y").endswith("x")


def test_two_services_of_one_name() -> None:
    """The service with exactly that name has it; the other one is not lost, and its name is always the same."""
    services = service("Web"), service("web"), service("we.b")
    found = {ref.name: message.consul.service_name for ref, (message, _) in plan(*services).puts.items()}

    assert found.pop("web") == "web"
    assert found.pop("we.b") == "we.b"
    ((name, found_service),) = found.items()
    assert (name[:4], found_service) == ("web-", "Web")
    assert plan(*services, has=current(*services)) == Plan()


def test_a_service_named_like_anothers_tls_upstream() -> None:
    """``web-tls`` the service and ``web-tls`` of the service ``web`` both get an Upstream."""
    services = service("web", "glooUseTls"), service("web-tls")
    found = [message.consul.service_name for message, _ in plan(*services, to=SPLIT).puts.values()]

    assert sorted(found) == ["web", "web", "web-tls"]


def test_datacenters_are_united() -> None:
    """A service of several datacenters is one, with the tags of all."""
    found = merge_datacenters({"dc1": {"web": ("a",), "x": ()}, "dc2": {"web": ("b", "a")}})

    assert found == {"web": service("web", "a", "b", datacenters=("dc1", "dc2")), "x": service("x")}


def test_watched_labels() -> None:
    """``udsOptions.watchLabels`` are tags that a service needs, all of them; the Upstream of another one goes."""
    to = {"discovery": {"udsOptions": {"watchLabels": {"team": "edge", "public": ""}}}}
    services = service("a", "team=edge", "public", "x"), service("b", "team=edge"), service("c", "public", "team=other")
    has = stored("b", {"consul": {"serviceName": "b"}})

    found = plan(*services, has=has, to=to)
    assert sorted(written(found)) == ["a"]
    assert found.deletes == {Ref(NAMESPACE, "b"): 7}
