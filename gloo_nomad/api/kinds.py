"""The kinds of objects: where each is stored, and which message it is.

A Consul KV key is ``<root>/<group>/<version>/<Kind>/<namespace>/<name>``, a file is
``<dir>/<plural>/<namespace>/<name>.yaml``.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from google.protobuf.message import Message

from gloo_nomad.api.gen import (
    artifact_pb2,
    endpoint_pb2,
    extauth_pb2,
    gateway_pb2,
    proxy_pb2,
    ratelimit_api_pb2,
    secret_pb2,
    settings_pb2,
    upstream_pb2,
)
from gloo_nomad.api.refs import ObjectRef, Ref


class StatusStyle(Enum):
    """How an object carries what became of it."""

    NAMESPACED = "namespacedStatuses"
    SINGLE = "status"
    NONE = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object."""

    name: str
    group: str
    version: str
    plural: str
    message: type[Message]
    status: StatusStyle = StatusStyle.NAMESPACED

    @property
    def prefix(self) -> str:
        """The part of a Consul KV key between the root and the namespace, with a slash at its end."""
        return f"{self.group}/{self.version}/{self.name}/"

    def key(self, root: str, ref: Ref) -> str:
        """The Consul KV key of an object."""
        return f"{root}/{self.prefix}{ref.namespace}/{ref.name}"

    def object_ref(self, ref: Ref) -> ObjectRef:
        """The object's name among all kinds."""
        return ObjectRef(self.name, ref.namespace, ref.name)


_GATEWAY = "gateway.solo.io"
_GLOO = "gloo.solo.io"

GATEWAY: Final = Kind("Gateway", _GATEWAY, "v1", "gateways", gateway_pb2.Gateway)
VIRTUAL_SERVICE: Final = Kind("VirtualService", _GATEWAY, "v1", "virtualservices", gateway_pb2.VirtualService)
ROUTE_TABLE: Final = Kind("RouteTable", _GATEWAY, "v1", "routetables", gateway_pb2.RouteTable)
VIRTUAL_HOST_OPTION: Final = Kind(
    "VirtualHostOption", _GATEWAY, "v1", "virtualhostoptions", gateway_pb2.VirtualHostOption
)
ROUTE_OPTION: Final = Kind("RouteOption", _GATEWAY, "v1", "routeoptions", gateway_pb2.RouteOption)
MATCHABLE_HTTP_GATEWAY: Final = Kind(
    "MatchableHttpGateway", _GATEWAY, "v1", "httpgateways", gateway_pb2.MatchableHttpGateway
)
MATCHABLE_TCP_GATEWAY: Final = Kind(
    "MatchableTcpGateway", _GATEWAY, "v1", "tcpgateways", gateway_pb2.MatchableTcpGateway
)
UPSTREAM: Final = Kind("Upstream", _GLOO, "v1", "upstreams", upstream_pb2.Upstream)
UPSTREAM_GROUP: Final = Kind("UpstreamGroup", _GLOO, "v1", "upstreamgroups", upstream_pb2.UpstreamGroup)
PROXY: Final = Kind("Proxy", _GLOO, "v1", "proxies", proxy_pb2.Proxy)
SETTINGS: Final = Kind("Settings", _GLOO, "v1", "settings", settings_pb2.Settings)
SECRET: Final = Kind("Secret", _GLOO, "v1", "secrets", secret_pb2.Secret, StatusStyle.NONE)
ARTIFACT: Final = Kind("Artifact", _GLOO, "v1", "artifacts", artifact_pb2.Artifact, StatusStyle.NONE)
ENDPOINT: Final = Kind("Endpoint", _GLOO, "v1", "endpoints", endpoint_pb2.Endpoint, StatusStyle.NONE)
AUTH_CONFIG: Final = Kind("AuthConfig", "enterprise.gloo.solo.io", "v1", "authconfigs", extauth_pb2.AuthConfig)
RATE_LIMIT_CONFIG: Final = Kind(
    "RateLimitConfig",
    "ratelimit.solo.io",
    "v1alpha1",
    "ratelimitconfigs",
    ratelimit_api_pb2.RateLimitConfig,
    StatusStyle.SINGLE,
)

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        GATEWAY,
        VIRTUAL_SERVICE,
        ROUTE_TABLE,
        VIRTUAL_HOST_OPTION,
        ROUTE_OPTION,
        MATCHABLE_HTTP_GATEWAY,
        MATCHABLE_TCP_GATEWAY,
        UPSTREAM,
        UPSTREAM_GROUP,
        PROXY,
        SETTINGS,
        SECRET,
        ARTIFACT,
        ENDPOINT,
        AUTH_CONFIG,
        RATE_LIMIT_CONFIG,
    )
}

CONFIG_KINDS: Final[tuple[Kind, ...]] = (
    GATEWAY,
    VIRTUAL_SERVICE,
    ROUTE_TABLE,
    VIRTUAL_HOST_OPTION,
    ROUTE_OPTION,
    MATCHABLE_HTTP_GATEWAY,
    MATCHABLE_TCP_GATEWAY,
    UPSTREAM,
    UPSTREAM_GROUP,
    AUTH_CONFIG,
    RATE_LIMIT_CONFIG,
)
"""What a configuration source is watched for (secrets and artifacts may come from elsewhere)."""
