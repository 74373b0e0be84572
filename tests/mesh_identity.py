"""An identity in a mesh, for tests that need no Consul."""

from gloo_nomad.api.gen import secret_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.mesh import MESH_IDENTITY, MeshIdentity, MeshPlace
from tests.pipeline.certificates import Pair

PLACE = MeshPlace("trust.example", "default", "default", "dc1")


def identity_change(leaf: Pair, root: Pair, place: MeshPlace = PLACE, service: str = "gateway-proxy") -> Change:
    """What the source of identities says."""
    secret = secret_pb2.Secret()
    secret.tls.cert_chain = leaf.certificate
    secret.tls.private_key = leaf.key
    secret.tls.root_ca = root.certificate
    return Change(
        "consul-mesh-identity", MESH_IDENTITY, {Ref("", service): Entry(MeshIdentity(place, secret))}, complete=True
    )
