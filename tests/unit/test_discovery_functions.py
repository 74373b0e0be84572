"""Which Upstreams are asked for functions, where, and what is written into them."""

from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.watched_functions import NO_ADDRESS_SECONDS, Watched, pause
from gloo_nomad.clients.grpc_reflection import Reflected
from gloo_nomad.discovery.functions import (
    ANNOTATION,
    Look,
    look_for,
    usable_services,
    with_functions,
    with_services,
    without_functions,
)
from gloo_nomad.discovery.lookup import NO_ADDRESS, Outcome
from gloo_nomad.discovery.modes import LABEL, wants_functions
from gloo_nomad.discovery.origins import instance_origins, own_path, static_origins
from gloo_nomad.discovery.rest_functions import FoundFunctions, translate_document
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Entry
from gloo_nomad.store.services import Instance, ServiceInstances
from tests.described_services import build_files

FOUND = translate_document({"swagger": "2.0", "paths": {"/a": {"get": {"operationId": "a"}}}})
HOSTS = [{"addr": "10.0.0.1", "port": 80}]
SWAGGER = {"rest": {"swaggerInfo": {"url": "/mine"}}}
OWN_FUNCTION: dict[str, Any] = {"rest": {"transformations": {"own": {}}}}
TRANSCODER = {"grpcJsonTranscoder": {"services": ["a.B"], "protoDescriptorBin": ""}}


def upstream(spec: dict[str, Any] | None = None, mark: str = "", **more: Any) -> upstream_pb2.Upstream:
    """A static Upstream with that ``serviceSpec``."""
    static: dict[str, Any] = {"hosts": HOSTS, **({} if spec is None else {"serviceSpec": spec})}
    document = {"metadata": {"name": "x", **({"annotations": {ANNOTATION: mark}} if mark else {})}, "static": static}
    return json_format.ParseDict({**document, **more}, upstream_pb2.Upstream())


def settings(**fields: Any) -> settings_pb2.Settings:
    """Settings with these fields."""
    return json_format.ParseDict(fields, settings_pb2.Settings())


def labels(value: str) -> dict[str, Any]:
    """The label with that value."""
    return {"labels": {LABEL: value}} if value else {}


@pytest.mark.parametrize(
    ("discovery", "wanted"),
    [
        (None, {"enabled": True, "": False, "disabled": False, "other": False}),
        ({}, {"enabled": True, "": True, "disabled": False, "other": True}),
        ({"fdsMode": "BLACKLIST"}, {"enabled": True, "": True, "disabled": False, "other": True}),
        ({"fdsMode": "WHITELIST"}, {"enabled": True, "": False, "disabled": False, "other": False}),
        ({"fdsMode": "DISABLED"}, {"enabled": False, "": False, "disabled": False, "other": False}),
    ],
)
def test_modes(discovery: dict[str, Any] | None, wanted: dict[str, bool]) -> None:
    """The mode, whose default depends on the block, and the label in either place."""
    message = settings() if discovery is None else settings(discovery=discovery)
    for label, expected in wanted.items():
        assert wants_functions(upstream(metadata=labels(label)), message) is expected
        assert wants_functions(upstream(discoveryMetadata=labels(label)), message) is expected


def test_the_label_of_the_object_wins() -> None:
    """Where both places have the label, that in the metadata counts."""
    both = upstream(metadata=labels("disabled"), discoveryMetadata=labels("enabled"))

    assert not wants_functions(both, settings())


@pytest.mark.parametrize(
    ("spec", "mark", "look"),
    [
        (None, "", Look.ANYTHING),
        ({}, "grpc", Look.ANYTHING),
        (SWAGGER, "", Look.DOCUMENT),
        ({"rest": {**SWAGGER["rest"], **OWN_FUNCTION["rest"]}}, "", None),
        ({"rest": {**SWAGGER["rest"], **OWN_FUNCTION["rest"]}}, "openapi-document", Look.DOCUMENT),
        ({"rest": {**SWAGGER["rest"], **OWN_FUNCTION["rest"]}}, "openapi", Look.OPENAPI),
        (OWN_FUNCTION, "", None),
        (OWN_FUNCTION, "openapi", None),
        (TRANSCODER, "", None),
        (TRANSCODER, "openapi", None),
        (TRANSCODER, "grpc", Look.GRPC),
        ({"grpc": {}}, "grpc", None),
    ],
)
def test_whose_the_spec_is(spec: dict[str, Any] | None, mark: str, look: Look | None) -> None:
    """Without the annotation everything that stands there is the user's, but functions of a document are wanted."""
    assert look_for(upstream(spec, mark)) is look


def test_types_without_addresses() -> None:
    """A socket of Envoy's machine, a cloud's functions and an empty Upstream are not asked."""
    documents: tuple[dict[str, Any], ...] = ({"pipe": {"path": "/run/x"}}, {"aws": {}}, {})
    for document in documents:
        assert look_for(json_format.ParseDict(document, upstream_pb2.Upstream())) is None


def test_writing_and_taking_back() -> None:
    """What discovery writes it can take back, and everything else stays."""
    before = upstream(useHttp2=True, metadata={"name": "x", "labels": {"a": "b"}, "annotations": {"c": "d"}})
    for written in (with_functions(before, FOUND, "http://10.0.0.1/x"), with_services(before, ["a.B"], b"x")):
        assert written.use_http2.value
        assert dict(written.metadata.labels) == {"a": "b"}
        assert look_for(written) in {Look.OPENAPI, Look.GRPC}
        assert without_functions(written) == before
    assert look_for(before) is Look.ANYTHING


def test_functions_follow_the_document() -> None:
    """Functions that the document does not have any more go; the URL of the user stays."""
    written = with_functions(upstream(SWAGGER), FoundFunctions({**FOUND.functions, "b": FOUND.functions["a"]}))
    again = with_functions(written, FOUND)

    assert sorted(written.static.service_spec.rest.transformations) == ["a", "b"]
    assert [*again.static.service_spec.rest.transformations] == ["a"]
    assert again.static.service_spec.rest.swagger_info.url == "/mine"
    assert with_functions(again, FOUND) == again


def test_one_broken_service_does_not_spoil_the_others() -> None:
    """A service whose annotation Envoy would refuse is left out, and one that has no descriptor."""
    from google.api import annotations_pb2, http_pb2
    from google.protobuf import descriptor_pb2, descriptor_pool

    files = build_files()
    broken = files[1].service.add(name="Broken")
    method = broken.method.add(name="Get", input_type=".pets.PetName", output_type=".pets.Pet")
    method.options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(get="no path"))
    imported = [descriptor_pb2.FileDescriptorProto() for _ in range(3)]
    for name, file in zip(("protobuf/descriptor", "api/http", "api/annotations"), imported, strict=True):
        descriptor_pool.Default().FindFileByName(f"google/{name}.proto").CopyToProto(file)
    data = descriptor_pb2.FileDescriptorSet(file=[*imported, *files]).SerializeToString()

    assert usable_services(Reflected(("pets.Broken", "pets.Nothing", "pets.Pets"), data)) == ("pets.Pets",)
    assert usable_services(Reflected(("pets.Pets",), data)) == ("pets.Pets",)
    assert usable_services(Reflected(("pets.Pets",), b"\xff")) == ()


def test_addresses_of_hosts() -> None:
    """The first three that can be connected to; TLS by port, by useTls and by sslConfig, with the server's name."""
    many = [{"addr": f"10.0.0.{number}", "port": 80} for number in range(5)]
    odd = [{"addr": "a b", "port": 80}, {"addr": "web.test", "port": 0}, {"addr": "::1", "port": 8443}]
    named = {"hosts": [{"addr": "web.test", "port": 443, "sniAddr": "inner.test"}]}

    assert [str(item.address) for item in static_origins(upstream(static={"hosts": many}), insecure=False)] == [
        "http://10.0.0.0:80",
        "http://10.0.0.1:80",
        "http://10.0.0.2:80",
    ]
    (only,) = static_origins(upstream(static={"hosts": odd, "useTls": True}), insecure=False)
    assert only.url("/x") == "https://[::1]:8443/x"
    (only,) = static_origins(upstream(static=named), insecure=True)
    assert (only.address.scheme, only.tls.server_name, only.tls.insecure) == ("https", "inner.test", True)
    ssl: dict[str, Any] = {"sslConfig": {"sni": "s.test", "sslFiles": {"rootCa": "/ca.pem"}}}
    (only,) = static_origins(upstream(**ssl), insecure=False)
    assert (only.address.scheme, only.tls.server_name, only.tls.ca_file) == ("https", "s.test", "/ca.pem")


def test_addresses_of_instances() -> None:
    """Instances with all wanted tags and none of the unwanted ones."""
    spec = {"serviceName": "web", "instanceTags": ["a"], "instanceBlacklistTags": ["b"]}
    wanted = json_format.ParseDict({"consul": spec}, upstream_pb2.Upstream())
    tags: dict[int, tuple[str, ...]] = {1: (), 2: ("a", "b"), 3: ("a",)}
    instances = ServiceInstances(
        tuple(
            Instance(f"10.0.0.{number}", number, str(number), found, ports=(("admin", 9000 + number),))
            for number, found in tags.items()
        )
    )

    def addresses(wanted: upstream_pb2.Upstream) -> list[str]:
        return [str(item.address) for item in instance_origins(wanted, instances, insecure=False)]

    assert addresses(wanted) == ["http://10.0.0.3:3"]
    wanted.metadata.annotations["gloo-nomad/port-name"] = "admin"
    assert addresses(wanted) == ["http://10.0.0.3:9003"]
    wanted.consul.data_centers.append("elsewhere")
    assert addresses(wanted) == []


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/x", "/x"),
        ("/x?a=b", "/x?a=b"),
        ("http://10.0.0.1/x", "/x"),
        ("http://10.0.0.1:80/x", "/x"),
        ("https://10.0.0.1:80/x", "/x"),
        ("http://user:pw@10.0.0.1/x", "/x"),
        ("http://10.0.0.1:81/x", ""),
        ("http://10.0.0.2/x", ""),
        ("http://10.0.0.1@10.0.0.2/x", ""),
        ("http://169.254.169.254/latest", ""),
        ("//10.0.0.2/x", ""),
        ("file:///etc/passwd", ""),
        ("file://10.0.0.1:80/etc/passwd", ""),
        ("ftp://10.0.0.1/x", ""),
        ("x", ""),
        ("", ""),
        ("http://[broken/x", ""),
        ("http://10.0.0.1:port/x", ""),
        ("/a b", ""),
        ("/a\r\nHost: x", ""),
        ("/ü", ""),
        ("/" + "x" * 2000, ""),
    ],
)
def test_only_the_upstreams_own_addresses(url: str, path: str) -> None:
    """A URL that leads anywhere else is none, and so is one that would be more than a path in a request."""
    assert own_path(url, static_origins(upstream(), insecure=False)) == path


def test_pauses() -> None:
    """They double up to a bound while nothing is found, and are the interval as soon as something is."""
    runtime = RuntimeSettings(settings(), Ref("gloo-system", "default"))
    watched = Watched(Entry(upstream()), Look.ANYTHING, b"")

    def after(misses: int, outcome: Outcome) -> float:
        watched.misses = misses
        return pause(watched, outcome, runtime)

    silent = Outcome(reason="nothing")
    assert [after(misses, silent) for misses in (0, 1, 2, 3, 6, 7, 1000)] == [15, 15, 30, 60, 480, 600, 600]
    assert after(1000, NO_ADDRESS) == NO_ADDRESS_SECONDS
    watched.look = Look.GRPC
    assert after(0, silent) == 60
    inline = upstream({"rest": {"swaggerInfo": {"inline": "x"}}})
    assert pause(Watched(Entry(inline), Look.DOCUMENT, b""), silent, runtime) == 600


@pytest.mark.parametrize("value", [-5, 0, "soon", None])
def test_intervals_that_are_none(value: Any) -> None:
    """Whatever the Settings say, nobody is asked twice in half a second."""
    own = {"gloo-nomad": {"openApiRefreshSeconds": value, "functionDiscoveryMaxPauseSeconds": value}}
    runtime = RuntimeSettings(settings(extensions={"configs": own}), Ref("gloo-system", "default"))

    assert pause(Watched(Entry(upstream()), Look.ANYTHING, b""), Outcome(), runtime) == 0.5
