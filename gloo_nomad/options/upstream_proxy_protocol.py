"""Tells an upstream who the client is, by the PROXY protocol in front of each connection.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto
"""

from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2

from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import Claims, ClusterContext
from gloo_nomad.reports import Findings, error

FIELDS: Claims = {"gloo.solo.io.Upstream": ("proxy_protocol_version",)}

_SOCKET: Final = "envoy.transport_sockets.upstream_proxy_protocol"
_RAW: Final = "envoy.transport_sockets.raw_buffer"
_VERSIONS: Final = ("V1", "V2")


def apply_cluster(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
    """Around every transport socket of the cluster, be it TLS or none."""
    if not upstream.HasField("proxy_protocol_version"):
        return ()
    version = upstream.proxy_protocol_version.value
    if version not in _VERSIONS:
        return (error("proxyProtocolVersion", f"must be V1 or V2, not {quote(version)}"),)
    _wrap(out.transport_socket, version)
    for match in out.transport_socket_matches:
        _wrap(match.transport_socket, version)
    return ()


def _wrap(out: Any, version: str) -> None:
    outer = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport()
    outer.config.version = version
    if out.name:
        outer.transport_socket.CopyFrom(out)
    else:
        raw = typed_config(raw_buffer_pb2.RawBuffer())
        outer.transport_socket.CopyFrom(base_pb2.TransportSocket(name=_RAW, typed_config=raw))
    out.CopyFrom(base_pb2.TransportSocket(name=_SOCKET, typed_config=typed_config(outer)))
