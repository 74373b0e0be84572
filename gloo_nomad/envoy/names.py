"""Every name that Envoy sees is made here: clusters, virtual hosts, routes, secrets, filters.

Clusters, virtual hosts and routes are named as the reference names them, so that dashboards and ``cluster_header``
clients go on working.
"""

from typing import Final

from gloo_nomad.api.refs import Ref
from gloo_nomad.messages import version_of
from gloo_nomad.upstreams.consul import TWIN_PREFIX

CONSUL_NAMESPACE: Final = "gloo-system"
"""Where the reference's in-memory upstreams of Consul services live, whatever the write namespace is."""

HTTP_CONNECTION_MANAGER: Final = "envoy.filters.network.http_connection_manager"
TCP_PROXY: Final = "envoy.filters.network.tcp_proxy"
SNI_CLUSTER: Final = "envoy.filters.network.sni_cluster"
ROUTER: Final = "envoy.filters.http.router"
TLS_INSPECTOR: Final = "envoy.filters.listener.tls_inspector"
PROXY_PROTOCOL: Final = "envoy.filters.listener.proxy_protocol"
QUIC_SOCKET: Final = "envoy.transport_sockets.quic"
TLS_SOCKET: Final = "envoy.transport_sockets.tls"
SCOPE_HEADER: Final = "x-gloo-nomad-scope"
"""Says which gateway a request came to and for which host, between connection manager and router."""
SCOPE_SEPARATOR: Final = ":"
"""Between the parts of that."""
HTTP_PROTOCOL_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_SERVICE_SEPARATOR: Final = "\n"


def cluster_name(ref: Ref) -> str:
    """``<name>_<namespace>``, the name alone without a namespace."""
    return f"{ref.name}_{ref.namespace}" if ref.namespace else ref.name


def hidden_cluster_name(cluster: str) -> str:
    """The cluster behind a tunnel: the proxy that is asked for it."""
    return f"{cluster}_original"


def tunnel_listener_name(cluster: str) -> str:
    """The listener that opens the tunnel of a cluster."""
    return f"solo_io_generated_self_listener_{cluster}"


def quic_listener_name(listener: str) -> str:
    """The listener for HTTP/3 beside one for TLS."""
    return f"{listener}-http3"


def consul_cluster_name(service: str) -> str:
    """The cluster behind ``consul`` destinations of a service."""
    return cluster_name(Ref(CONSUL_NAMESPACE, TWIN_PREFIX + service))


def consul_service_key(service: str, datacenter: str = "") -> str:
    """A Consul service, and the datacenter if one is asked for, as one text (for sets of them)."""
    return f"{service}{_SERVICE_SEPARATOR}{datacenter}" if datacenter else service


def nomad_service_key(name: str) -> str:
    """A twin of a Nomad service, as a text that no Consul service has; for the same sets."""
    return _SERVICE_SEPARATOR + name


def nomad_twin_name(key: str) -> str:
    """The name of the twin in such a text; empty for one of a Consul service."""
    return key[len(_SERVICE_SEPARATOR) :] if key.startswith(_SERVICE_SEPARATOR) else ""


def parse_consul_service_key(key: str) -> tuple[str, str]:
    """Service and datacenter ("" if none was asked for) of such a text."""
    service, _, datacenter = key.partition(_SERVICE_SEPARATOR)
    return service, datacenter


def virtual_host_name(name: str) -> str:
    """Envoy's name of a virtual host ``<namespace>.<name>``; dots would split its statistics."""
    return name.replace(".", "_")


def split_routes_name(route_config: str) -> str:
    """The RouteConfiguration whose virtual hosts are resources of their own.

    It has another name than the whole one, so that Envoy warms a listener that goes from one to the other.
    """
    return f"{route_config}-vhds"


def split_host_name(routes: str, virtual_host: str) -> str:
    """Resource and name of a virtual host that is a resource of its own; Envoy finds its RouteConfiguration by it."""
    return f"{routes}/{virtual_host}"


def scope_key(route_config: str) -> str:
    """What stands for a gateway in keys of scopes: without colons, which separate their parts."""
    return version_of(route_config.encode())


def scope_host(domain: str) -> str:
    """The host name by which requests for a domain are found; ``[`` for all addresses of IPv6."""
    return domain.partition(SCOPE_SEPARATOR)[0].lower()


def scope_name(route_config: str, host: str) -> str:
    """The RouteConfiguration for one host name of a gateway, and the scope that leads to it."""
    return f"{route_config}/{host}"


def route_name(virtual_host: str, index: int, name: str, matcher: int) -> str:
    """The name of the Envoy route for one matcher of one route."""
    named = f"-{name}" if name else ""
    return f"{virtual_host}-route-{index}{named}-matcher-{matcher}"


def certificate_name(ref: Ref) -> str:
    """The SDS name of a Secret's certificate and key; a slash, which no namespace has, keeps names apart."""
    return f"tls/{ref.namespace}/{ref.name}"


def authority_name(ref: Ref) -> str:
    """The SDS name of a Secret's root certificates."""
    return f"ca/{ref.namespace}/{ref.name}"


def mesh_secret_ref(service: str) -> Ref:
    """Under which name the identity of a service in Consul's mesh goes by SDS: no object has a slash in its names."""
    return Ref("consul/mesh", service)


def certificate_files_name(certificate: str, key: str, staple: str) -> str:
    """The SDS name of a certificate and key that Envoy reads from its own files."""
    paths = (certificate, key, staple) if staple else (certificate, key)
    return "tls-files/" + "|".join(path.replace("%", "%25").replace("|", "%7C") for path in paths)


def authority_file_name(path: str) -> str:
    """The SDS name of root certificates that Envoy reads from its own file."""
    return f"ca-file/{path}"
