"""An xDS snapshot as a static bootstrap, and what a real Envoy (``--mode validate``) has against it.

Validation fetches nothing, so what would come over ADS is put where it is referred to: routes into connection
managers, endpoints into clusters, secrets beside them. A WebAssembly file that is not there is a small one instead.
Everything else stays byte for byte what Envoy would be sent.
"""

import subprocess
from pathlib import Path
from typing import Any, Final

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.wasm.v3 import wasm_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.quic.v3 import quic_transport_pb2
from envoy.extensions.transport_sockets.tcp_stats.v3 import tcp_stats_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2

from gloo_nomad.messages import to_bytes, typed_config
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SCOPED_ROUTES, SECRET, XdsSnapshot
from tests.wasm_module import build_module

SECONDS: Final = 60
_MANAGER: Final = http_connection_manager_pb2.HttpConnectionManager
_AROUND: Final = (tcp_stats_pb2.Config, upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport)
_TLS_CONTEXTS: Final = (tls_pb2.DownstreamTlsContext, tls_pb2.UpstreamTlsContext)


def validate_snapshot(snapshot: XdsSnapshot, envoy_binary: Path, folder: Path) -> str:
    """Why Envoy refuses the snapshot; empty if it accepts it."""
    file = folder / "bootstrap.pb"
    file.write_bytes(to_bytes(build_bootstrap(snapshot)))
    command = [str(envoy_binary), "--mode", "validate", "-l", "error", "-c", str(file)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if finished.returncode == 0:
        return ""
    return (finished.stderr + finished.stdout).strip() or f"exit code {finished.returncode}"


def build_bootstrap(snapshot: XdsSnapshot) -> Any:
    """The bootstrap of an Envoy that has the snapshot in it."""
    bootstrap = bootstrap_pb2.Bootstrap()
    bootstrap.node.id, bootstrap.node.cluster = "validated", "validated"
    static = bootstrap.static_resources
    for resource in snapshot.of(SECRET).values():
        static.secrets.append(secret_pb2.Secret.FromString(resource.body))
    for resource in snapshot.of(CLUSTER).values():
        static.clusters.append(_inline_endpoints(cluster_pb2.Cluster.FromString(resource.body), snapshot))
    for resource in snapshot.of(LISTENER).values():
        static.listeners.append(_inline_routes(listener_pb2.Listener.FromString(resource.body), snapshot))
    return bootstrap


def _inline_endpoints(cluster: Any, snapshot: XdsSnapshot) -> Any:
    if cluster.type == cluster_pb2.Cluster.EDS:
        name = cluster.eds_cluster_config.service_name or cluster.name
        found = snapshot.of(ENDPOINTS).get(name)
        cluster.ClearField("eds_cluster_config")
        cluster.type = cluster_pb2.Cluster.STATIC
        cluster.load_assignment.cluster_name = name
        if found is not None:
            cluster.load_assignment.CopyFrom(endpoint_pb2.ClusterLoadAssignment.FromString(found.body))
    if cluster.HasField("transport_socket"):
        _inline_secrets(cluster.transport_socket)
    for match in cluster.transport_socket_matches:
        _inline_secrets(match.transport_socket)
    return cluster


def _inline_routes(listener: Any, snapshot: XdsSnapshot) -> Any:
    for chain in listener.filter_chains:
        if chain.HasField("transport_socket"):
            _inline_secrets(chain.transport_socket)
        for network_filter in chain.filters:
            manager = _MANAGER()
            if network_filter.typed_config.Unpack(manager):
                _inline_route_config(manager, snapshot)
                _inline_modules(manager)
                network_filter.typed_config.CopyFrom(typed_config(manager))
    return listener


def _inline_route_config(manager: Any, snapshot: XdsSnapshot) -> None:
    """The RouteConfiguration itself; routes to clusters that do not exist are meant to be there."""
    if manager.HasField("scoped_routes"):
        _inline_scopes(manager.scoped_routes, snapshot)
    else:
        manager.route_config.CopyFrom(_route_config(manager.rds.route_config_name, snapshot))


def _inline_scopes(scoped: Any, snapshot: XdsSnapshot) -> None:
    """Every scope that there is, as connection managers get them, with its RouteConfiguration in it."""
    for resource in snapshot.of(SCOPED_ROUTES).values():
        scope = scoped.scoped_route_configurations_list.scoped_route_configurations.add()
        scope.MergeFromString(resource.body)
        scope.route_configuration.CopyFrom(_route_config(scope.route_configuration_name, snapshot))
        scope.route_configuration_name = ""


def _route_config(name: str, snapshot: XdsSnapshot) -> Any:
    config = route_pb2.RouteConfiguration.FromString(snapshot.of(ROUTES)[name].body)
    config.validate_clusters.value = False
    return config


def _inline_modules(manager: Any) -> None:
    for http_filter in manager.http_filters:
        config = wasm_pb2.Wasm()
        if http_filter.typed_config.Unpack(config):
            code = config.config.vm_config.code.local
            if not Path(code.filename).exists():
                code.inline_bytes = build_module()
            http_filter.typed_config.CopyFrom(typed_config(config))


def _inline_secrets(socket: Any) -> None:
    """Names of secrets without a source: Envoy takes them from the bootstrap. Other sources than ADS stay."""
    for shape in _AROUND:
        outer = shape()
        if socket.typed_config.Unpack(outer):
            _inline_secrets(outer.transport_socket)
            socket.typed_config.CopyFrom(typed_config(outer))
    quic = quic_transport_pb2.QuicDownstreamTransport()
    if socket.typed_config.Unpack(quic):
        _inline_sources(quic.downstream_tls_context.common_tls_context)
        socket.typed_config.CopyFrom(typed_config(quic))
    for kind in _TLS_CONTEXTS:
        context = kind()
        if socket.typed_config.Unpack(context):
            _inline_sources(context.common_tls_context)
            socket.typed_config.CopyFrom(typed_config(context))


def _inline_sources(common: Any) -> None:
    holders = (common, common.combined_validation_context)
    configs = [
        *common.tls_certificate_sds_secret_configs,
        *(
            holder.validation_context_sds_secret_config
            for holder in holders
            if holder.HasField("validation_context_sds_secret_config")
        ),
    ]
    for config in configs:
        if config.sds_config.HasField("ads"):
            config.ClearField("sds_config")
