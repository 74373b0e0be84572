"""Sets of proto descriptors: ours is the answer of a real Envoy."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2

from gloo_nomad.acceptance.descriptors import MAX_BYTES, descriptor_fault
from gloo_nomad.demo.envoy import validate_bootstrap

_ANY = "type.googleapis.com/envoy.extensions.filters"


def shop(rule: Mapping[str, str] | None = None, *, imports: bool = True) -> bytes:
    """The descriptors of a service ``shop.Catalog`` with one method of this HTTP annotation."""
    files = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, http_pb2, annotations_pb2) if imports else ():
        module.DESCRIPTOR.CopyToProto(files.file.add())
    file = files.file.add(name="shop.proto", package="shop", syntax="proto3")
    file.dependency.append("google/api/annotations.proto")
    item = file.message_type.add(name="Item")
    item.field.add(name="name", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL", json_name="name")
    item.field.add(
        name="part", number=2, type="TYPE_MESSAGE", type_name=".shop.Item", label="LABEL_OPTIONAL", json_name="part"
    )
    method = file.service.add(name="Catalog").method.add(name="Find", input_type=".shop.Item", output_type=".shop.Item")
    for name, value in (rule or {}).items():
        setattr(method.options.Extensions[annotations_pb2.http], name, value)
    return files.SerializeToString()


def refusal(data: bytes, services: tuple[str, ...], binary: Path, folder: Path) -> str:
    """What a real Envoy says to a transcoder with these descriptors."""
    transcoder = {
        "@type": f"{_ANY}.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor_bin": base64.b64encode(data).decode(),
        "services": list(services),
    }
    router = {"@type": f"{_ANY}.http.router.v3.Router"}
    manager: dict[str, Any] = {
        "@type": f"{_ANY}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "route_config": {"name": "none"},
        "http_filters": [{"name": "transcoder", "typed_config": transcoder}, {"name": "last", "typed_config": router}],
    }
    listener = {
        "name": "one",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return validate_bootstrap(folder, {"static_resources": {"listeners": [listener]}}, binary=binary)


GOOD = ("shop.Catalog",)
ACCEPTED = {
    "no annotation": (shop(), GOOD),
    "path": (shop({"get": "/v1/items/{name}"}), GOOD),
    "root": (shop({"get": "/"}), GOOD),
    "nested": (shop({"post": "/v1/{part.name=shelves/*}/all:find", "body": "*"}), GOOD),
    "rest of the path": (shop({"put": "/v1/{name=**}", "body": "part"}), GOOD),
    "equal signs": (shop({"get": "/v1/a=b"}), GOOD),
}
REFUSED = {
    "no descriptors": (b"\xff\xff", GOOD),
    "nothing": (b"", GOOD),
    "imports missing": (shop(imports=False), GOOD),
    "other service": (shop(), ("shop.Basket",)),
    "no slash": (shop({"get": "v1"}), GOOD),
    "slash at the end": (shop({"get": "/v1/"}), GOOD),
    "two verbs": (shop({"get": "/v1:a:b"}), GOOD),
    "variable in a variable": (shop({"get": "/v1/{name={part}}"}), GOOD),
    "body that is no field": (shop({"post": "/v1", "body": "colour"}), GOOD),
    "body inside of a text": (shop({"post": "/v1", "body": "name.colour"}), GOOD),
    "response body that is no field": (shop({"get": "/v1", "response_body": "colour"}), GOOD),
    "response body of another type": (shop({"get": "/v1", "response_body": "name"}), GOOD),
}


@pytest.mark.envoy
@pytest.mark.parametrize(("data", "services"), ACCEPTED.values(), ids=ACCEPTED)
def test_good_descriptors(data: bytes, services: tuple[str, ...], envoy_binary: Path, tmp_path: Path) -> None:
    """Both take them."""
    assert descriptor_fault(data, services) == ""
    assert refusal(data, services, envoy_binary, tmp_path) == ""


@pytest.mark.envoy
@pytest.mark.parametrize(("data", "services"), REFUSED.values(), ids=REFUSED)
def test_bad_descriptors(data: bytes, services: tuple[str, ...], envoy_binary: Path, tmp_path: Path) -> None:
    """Both refuse them."""
    assert descriptor_fault(data, services) != ""
    assert refusal(data, services, envoy_binary, tmp_path) != ""


def test_size() -> None:
    """A set that would make a listener of megabytes is refused."""
    assert descriptor_fault(b"\0" * (MAX_BYTES + 1), ()) == f"has more than {MAX_BYTES} bytes"
