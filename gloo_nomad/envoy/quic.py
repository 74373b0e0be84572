"""The listener for HTTP/3 beside one for TLS: the same address and port number by UDP, the same filters and secrets.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/http/http3#http3-downstream
"""

from collections.abc import Iterable
from typing import Any, Final

from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.quic.v3 import quic_transport_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_common_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from gloo_nomad.envoy.filter_chains import FilterChain
from gloo_nomad.envoy.names import QUIC_SOCKET, quic_listener_name
from gloo_nomad.messages import typed_config

ALPN: Final = "h3"


def build_quic_listener(beside: Any, chains: Iterable[FilterChain]) -> Any | None:
    """The listener beside that one, with those of the chains that are for HTTP/3; None if there are none."""
    out = listener_pb2.Listener(name=quic_listener_name(beside.name), access_log=beside.access_log)
    out.address.CopyFrom(beside.address)
    out.address.socket_address.protocol = address_pb2.SocketAddress.UDP
    out.per_connection_buffer_limit_bytes.CopyFrom(beside.per_connection_buffer_limit_bytes)
    out.udp_listener_config.quic_options.SetInParent()
    out.udp_listener_config.downstream_socket_config.prefer_gro.value = True
    for chain in chains:
        if chain.quic is not None:
            _add_chain(chain, out)
    return out if out.filter_chains else None


def _add_chain(chain: FilterChain, out: Any) -> None:
    built = listener_components_pb2.FilterChain.FromString(chain.body)
    context = tls_pb2.DownstreamTlsContext()
    manager = http_connection_manager_pb2.HttpConnectionManager()
    if not built.transport_socket.typed_config.Unpack(context) or not built.filters[-1].typed_config.Unpack(manager):
        return
    common = context.common_tls_context
    common.alpn_protocols[:] = [ALPN]
    if common.HasField("tls_params"):  # QUIC speaks TLS 1.3, whose suites cannot be chosen
        common.tls_params.CopyFrom(tls_common_pb2.TlsParameters(ecdh_curves=common.tls_params.ecdh_curves))
    manager.codec_type = manager.HTTP3
    _apply_bounds(manager.http2_protocol_options, manager.http3_protocol_options.quic_protocol_options)
    built.filters[-1].typed_config.CopyFrom(typed_config(manager))
    socket = quic_transport_pb2.QuicDownstreamTransport(downstream_tls_context=context)
    socket.MergeFrom(chain.quic)
    built.transport_socket.CopyFrom(base_pb2.TransportSocket(name=QUIC_SOCKET, typed_config=typed_config(socket)))
    out.filter_chains.append(built)


def _apply_bounds(http2: Any, out: Any) -> None:
    """Streams and windows as for HTTP/2."""
    for name in ("max_concurrent_streams", "initial_stream_window_size", "initial_connection_window_size"):
        getattr(out, name).CopyFrom(getattr(http2, name))
