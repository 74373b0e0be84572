"""What Consul's service mesh is to the store: services that take part in it, and who we are in it.

Identities and names are Consul's:
https://developer.hashicorp.com/consul/docs/concept/spiffe and
https://developer.hashicorp.com/consul/docs/reference/agent/configuration-file/service-mesh
"""

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gloo_nomad.api.gen import secret_pb2

MESH_SERVICE: Final = "consul.MeshService"
"""Kind of the instances through which the mesh reaches a Consul service: its sidecars, or itself if it is native. A
Ref's namespace is the datacenter ("" for the agent's own)."""
MESH_IDENTITY: Final = "consul.MeshIdentity"
"""Kind of our own identities; a Ref's name is the service that we are, its namespace is empty."""

_SPIFFE: Final = re.compile(
    r"spiffe://(?P<domain>[^/]+)(?:/ap/(?P<partition>[^/]+))?/ns/(?P<namespace>[^/]+)/dc/(?P<datacenter>[^/]+)/svc/[^/]+"
)
_DEFAULT_PARTITION: Final = "default"


class MeshPlace(NamedTuple):
    """Where in a mesh a service is."""

    domain: str
    """The trust domain: one for all datacenters whose services trust each other."""
    partition: str
    """Consul Enterprise's admin partition; ``default`` everywhere else."""
    namespace: str
    datacenter: str

    def spiffe(self, service: str) -> str:
        """The URI that the certificate of a service at this place is for."""
        partition = "" if self.partition == _DEFAULT_PARTITION else f"/ap/{self.partition}"
        return f"spiffe://{self.domain}{partition}/ns/{self.namespace}/dc/{self.datacenter}/svc/{service}"

    def server_name(self, service: str) -> str:
        """The name that a TLS handshake with such a service asks for; mesh gateways pass it on by that."""
        if self.partition == _DEFAULT_PARTITION:
            return f"{service}.{self.namespace}.{self.datacenter}.internal.{self.domain}"
        return f"{service}.{self.namespace}.{self.partition}.{self.datacenter}.internal-v1.{self.domain}"


def parse_spiffe(uri: str) -> MeshPlace | None:
    """The place of a service out of its SPIFFE URI; None for another URI."""
    found = _SPIFFE.fullmatch(uri)
    if found is None:
        return None
    partition = found["partition"] or _DEFAULT_PARTITION
    return MeshPlace(found["domain"], partition, found["namespace"], found["datacenter"])


@dataclass(frozen=True, slots=True)
class MeshIdentity:
    """Who we are in the mesh, and whom we trust."""

    place: MeshPlace
    """Where we are."""
    secret: secret_pb2.Secret = field(repr=False)
    """A TLS Secret: our certificate and key, and the mesh's root certificates."""
