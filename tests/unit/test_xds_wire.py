"""Responses in wire format: what protobuf reads from the concatenated frames."""

from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from gloo_nomad.resources import CLUSTER, Resource
from gloo_nomad.xds.wire import Encoder, Outgoing, build_delta_bytes, build_sotw_bytes, build_wire

texts = st.text(max_size=40)
resource_lists = st.lists(st.builds(Resource, texts, texts, st.binary(max_size=400)), max_size=5)


@given(resource_lists, texts, texts, texts, st.lists(texts, max_size=4))
def test_delta_bytes(resources: list[Resource], type_url: str, nonce: str, version: str, removed: list[str]) -> None:
    """A delta response reads as what went in, whatever the texts and bodies are."""
    wires = tuple(build_wire(type_url, resource) for resource in resources)
    payload = build_delta_bytes(Outgoing(True, type_url, nonce, version, wires, tuple(removed)))
    response = discovery_pb2.DeltaDiscoveryResponse.FromString(payload)
    assert (response.type_url, response.nonce, response.system_version_info) == (type_url, nonce, version)
    assert list(response.removed_resources) == removed
    read = [(each.name, each.version, each.resource.type_url, each.resource.value) for each in response.resources]
    assert read == [(each.name, each.version, type_url, each.body) for each in resources]
    assert response.control_plane.identifier == "gloo-nomad"


@given(resource_lists, texts, texts, texts)
def test_sotw_bytes(resources: list[Resource], type_url: str, nonce: str, version: str) -> None:
    """A state-of-the-world response reads as what went in."""
    wires = tuple(build_wire(type_url, resource) for resource in resources)
    payload = build_sotw_bytes(Outgoing(False, type_url, nonce, version, wires))
    response = discovery_pb2.DiscoveryResponse.FromString(payload)
    assert (response.type_url, response.nonce, response.version_info) == (type_url, nonce, version)
    assert [(each.type_url, each.value) for each in response.resources] == [(type_url, each.body) for each in resources]


@given(st.builds(Resource, texts, texts, st.binary(max_size=400)))
def test_size(resource: Resource) -> None:
    """The size of a resource is what it adds to a delta response."""
    wire = build_wire(CLUSTER, resource)
    without = build_delta_bytes(Outgoing(True, CLUSTER, "n", "v", ()))
    assert len(build_delta_bytes(Outgoing(True, CLUSTER, "n", "v", (wire,)))) == len(without) + wire.size


def test_streams_that_send_the_same_share_its_bytes() -> None:
    """Equal responses are encoded once while one of them is under way, and not kept afterwards."""
    wire = build_wire(CLUSTER, Resource("a", "1", b"body"))
    encoder = Encoder()
    first = encoder.encode(Outgoing(True, CLUSTER, "1.0", "v", (wire,)))
    second = encoder.encode(Outgoing(True, CLUSTER, "1.0", "v", (wire,)))
    other = encoder.encode(Outgoing(True, CLUSTER, "1.1", "v", (wire,)))
    assert first is second
    assert other is not first
    del first, second, other
    assert len(encoder) == 0
