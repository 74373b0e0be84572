"""Names in Consul's mesh, and what the values of its certificates show of themselves."""

import pytest

from gloo_nomad.api.gen import secret_pb2
from gloo_nomad.clients.consul_answers import LeafAnswer, Root, RootsAnswer
from gloo_nomad.store.mesh import MeshIdentity, MeshPlace, parse_spiffe


@pytest.mark.parametrize(
    "place", [MeshPlace("t.consul", "default", "default", "dc1"), MeshPlace("t.consul", "billing", "b", "dc2")]
)
def test_places_are_read_as_they_are_written(place: MeshPlace) -> None:
    """The place of a service is what its URI says."""
    assert parse_spiffe(place.spiffe("web")) == place


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://t.consul",
        "https://t.consul/ns/default/dc/dc1/svc/web",
        "spiffe://t.consul/ns/default/dc/dc1/svc/",
        "spiffe://t.consul/ns/default/dc/dc1/svc/web/more",
        "spiffe://t.consul/agent/client/dc/dc1/id/web",
        "spiffe:///ns/default/dc/dc1/svc/web",
    ],
)
def test_other_identities(uri: str) -> None:
    """What is no service of a mesh has no place."""
    assert parse_spiffe(uri) is None


def test_keys_are_not_in_representations() -> None:
    """A key that gets into a message or a log by accident is not in it."""
    secret = secret_pb2.Secret()
    secret.tls.private_key = "canary"
    identity = MeshIdentity(MeshPlace("t", "default", "default", "dc1"), secret)
    leaf = LeafAnswer(cert_pem="certificate", private_key_pem="canary", service_uri="spiffe://t")
    assert "canary" not in f"{identity!r} {identity} {leaf!r} {leaf}"


def test_roots_have_one_order() -> None:
    """The order in which Consul names roots, and spaces around them, make no other text."""
    one, two = Root("1\n"), Root("2", active=True)
    assert RootsAnswer((one, two)).pem == RootsAnswer((two, one, two)).pem == "1\n2\n"
