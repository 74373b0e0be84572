"""Statistics of TCP itself (round trips, retransmissions) for the connections of clients; Linux only.

Envoy counts in a transport socket around the one of each filter chain.
https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/transport_sockets/tcp_stats/v3/tcp_stats.proto
"""

from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tcp_stats.v3 import tcp_stats_pb2

from gloo_nomad.api.gen import listener_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import Claims, ListenerContext
from gloo_nomad.reports import Findings

SOCKET: Final = "envoy.transport_sockets.tcp_stats"
PLAIN_SOCKET: Final = "envoy.transport_sockets.raw_buffer"

FIELDS: Claims = {"gloo.solo.io.ListenerOptions": ("tcp_stats",)}


def apply_listener(options: listener_options_pb2.ListenerOptions, out: Any, context: ListenerContext) -> Findings:
    if not options.tcp_stats.value:
        return ()
    for chain in out.filter_chains:
        inner = base_pb2.TransportSocket(name=PLAIN_SOCKET, typed_config=typed_config(raw_buffer_pb2.RawBuffer()))
        if chain.HasField("transport_socket"):
            inner.CopyFrom(chain.transport_socket)
        config = typed_config(tcp_stats_pb2.Config(transport_socket=inner))
        chain.transport_socket.CopyFrom(base_pb2.TransportSocket(name=SOCKET, typed_config=config))
    return ()
