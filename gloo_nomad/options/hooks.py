"""What an option module may define. Each hook is one function; a module has the ones it needs and no others.

``FIELDS``
    Message name to the fields of it that this option makes work. A field that an object sets and no module claims
    becomes a warning on the object; two claimants of one field fail at start.
``READS``
    The same for messages below those fields, which several options may share. ``EVERY`` stands for all fields.
``REFUSED``
    Fields that cannot be made to work, and that the module answers with an error wherever they are set.
``WARNED``
    Fields that cannot be made to work and may be left out: message name to field to the reason, which says what helps.
``ROUTES_READ``
    The fields of HttpListenerOptions that hooks of virtual hosts, routes and destinations look at.
``EXTENSIONS``
    The names in ``extensions.configs`` that it reads, of those messages whose ``extensions`` it claims.

A hook changes nothing but its parameter ``out``, keeps no state, and returns what it has to say about the object
(``reports.error`` rejects, ``reports.warning`` does not; paths are relative to the options message).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gloo_nomad.api.gen import (
    dfp_pb2,
    http_listener_options_pb2,
    listener_options_pb2,
    route_options_pb2,
    settings_pb2,
    ssl_pb2,
    tcp_listener_options_pb2,
    upstream_pb2,
    virtual_host_options_pb2,
    weighted_destination_options_pb2,
)
from gloo_nomad.api.kinds import ARTIFACT, SECRET, UPSTREAM
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.options.stages import StagedFilter
from gloo_nomad.reports import Finding, Findings
from gloo_nomad.store.memo import Reads

EVERY: Final = ("*",)
CLUSTER_HEADER: Final = "cluster_header:"
EXTENSIONS_MESSAGE: Final = "gloo.solo.io.Extensions"
Claims = dict[str, tuple[str, ...]]


def extension_claims(message: str) -> str:
    """Under which the names of a message's extensions stand among the claims."""
    return f"{message}.extensions"


@dataclass(frozen=True, slots=True)
class Context:
    """What every hook may look at: the settings, the object at hand, and other objects through ``reads``.

    Everything that is looked up becomes an input of the result, so an option never has to think of invalidation.
    """

    settings: settings_pb2.Settings
    reads: Reads
    source: ObjectRef
    """The object that the options belong to."""

    def upstream_namespaces(self) -> frozenset[str]:
        """Where the Upstreams are that the options are for; none where that is not known."""
        return frozenset()

    def upstream(self, ref: Ref) -> upstream_pb2.Upstream | None:
        """The Upstream of that name."""
        found: upstream_pb2.Upstream | None = self.reads.get(UPSTREAM.name, ref)
        return found

    def secret(self, ref: Ref) -> Any:
        """The Secret of that name, or None."""
        return self.reads.get(SECRET.name, ref)

    def artifact(self, ref: Ref) -> Any:
        """The Artifact of that name, or None."""
        return self.reads.get(ARTIFACT.name, ref)


NO_LISTENER: Final = http_listener_options_pb2.HttpListenerOptions()


@dataclass(frozen=True, slots=True)
class _InsideListener(Context):
    """What virtual hosts and routes may look at beside that."""

    listener: http_listener_options_pb2.HttpListenerOptions = field(default_factory=lambda: NO_LISTENER, kw_only=True)
    """Of the options of the HTTP gateway around, those that some module names in ``ROUTES_READ``."""
    find_cluster: Callable[[Ref], str] = field(default=lambda _ref: "", kw_only=True)
    """The name of an Upstream's cluster; "" if it does not exist. What is asked for counts as reachable."""


@dataclass(frozen=True, slots=True)
class VirtualHostContext(_InsideListener):
    """For hooks of virtual hosts."""

    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteContext(_InsideListener):
    """For hooks of routes and weighted destinations."""

    virtual_host: virtual_host_options_pb2.VirtualHostOptions = field(
        default_factory=virtual_host_options_pb2.VirtualHostOptions
    )
    """Options of the virtual host around the route."""
    has_route_action: bool = True
    """Whether requests are forwarded; redirects and direct responses are not."""
    namespaces: Callable[[], frozenset[str]] = field(default=frozenset, kw_only=True)
    """What ``upstream_namespaces`` answers."""

    def upstream_namespaces(self) -> frozenset[str]:
        """Those of the route's destinations, or of the one that the options are for."""
        return self.namespaces()


@dataclass(frozen=True, slots=True)
class ListenerContext(Context):
    """For hooks of listeners, connection managers and filters."""

    options: http_listener_options_pb2.HttpListenerOptions = field(
        default_factory=http_listener_options_pb2.HttpListenerOptions
    )
    used_filters: frozenset[str] = frozenset()
    """Names of all filters that some virtual host, route or destination behind the listener configures.

    Among them, with ``CLUSTER_HEADER`` in front, the headers that name the cluster of a request.
    """
    find_cluster: Callable[[Ref], str] = lambda _ref: ""
    """The name of an Upstream's cluster; "" if there is none, because it does not exist or is rejected.

    Envoy refuses a listener that names a cluster it does not have. What is asked for counts as reachable.
    """
    listener: listener_options_pb2.ListenerOptions = field(default_factory=listener_options_pb2.ListenerOptions)
    """Options of the gateway as a whole; what is wrong with them is said by ``apply_listener`` alone."""
    tcp_options: tcp_listener_options_pb2.TcpListenerOptions = field(
        default_factory=tcp_listener_options_pb2.TcpListenerOptions
    )
    """For a TCP gateway its options, in place of ``options``; paths of findings are relative to them."""
    tls_port: int = 0
    """The port, if TLS ends there; 0 for plain text, and for hooks that are not about an HTTP gateway."""

    @property
    def cluster_headers(self) -> tuple[str, ...]:
        """The headers by which routes behind the listener choose a cluster, sorted."""
        found = (name for name in self.used_filters if name.startswith(CLUSTER_HEADER))
        return tuple(sorted(name.removeprefix(CLUSTER_HEADER) for name in found))

    def needs(self, filter_name: str) -> bool:
        """Whether a filter that only acts where something configures it belongs in the chain.

        The reference adds them always unless ``gloo.removeUnusedFilters``; here leaving out is the default.
        """
        policy = self.settings.gloo
        remove = not policy.HasField("remove_unused_filters") or policy.remove_unused_filters.value
        return filter_name in self.used_filters or not remove


@dataclass(frozen=True, slots=True)
class ClusterContext(Context):
    """For hooks of clusters."""

    build_socket: Callable[[ssl_pb2.UpstreamSslConfig, str], tuple[Any, Findings]] = lambda _config, _name: (None, ())
    """TLS towards a host with the name to send in the handshake: Envoy's TransportSocket, and what is wrong with it,
    relative to the configuration. The secrets that it names are served."""

    def upstream_namespaces(self) -> frozenset[str]:
        """That of the Upstream itself."""
        return frozenset({self.source.namespace})


@dataclass(frozen=True, slots=True)
class GeneratedCluster:
    """A cluster that no Upstream stands for, such as that of a collector of logs."""

    cluster: Any
    """Envoy's Cluster, without TLS; its name begins with ``solo_io_generated_``."""
    ssl: ssl_pb2.UpstreamSslConfig | None = None
    """How TLS is spoken to it; None for plain text."""
    server_name: str = ""
    """The name to send in the handshake unless ``ssl`` has one."""
    path: str = ""
    """Where its options stand, relative to the hook's; what is wrong with the TLS is said there."""


class ApplyRoute(Protocol):
    """``apply_route``: options of a route onto Envoy's Route."""

    def __call__(self, options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
        """See the module."""
        ...


class ApplyVirtualHost(Protocol):
    """``apply_virtual_host``: options of a virtual host onto Envoy's VirtualHost."""

    def __call__(
        self, options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
    ) -> Findings:
        """See the module."""
        ...


class ApplyDestination(Protocol):
    """``apply_destination``: options of a weighted destination onto Envoy's WeightedCluster.ClusterWeight."""

    def __call__(
        self, options: weighted_destination_options_pb2.WeightedDestinationOptions, out: Any, context: RouteContext
    ) -> Findings:
        """See the module."""
        ...


class ApplyUpstream(Protocol):
    """``apply_upstream``: the ``serviceSpec`` of the Upstream that a route or a weighted destination leads to.

    *out* is Envoy's Route, or its ClusterWeight. Errors become warnings of the route: it is the Upstream that is wrong.
    """

    def __call__(self, upstream: upstream_pb2.Upstream, out: Any, context: RouteContext) -> Findings:
        """See the module."""
        ...


class ApplyForwardProxy(Protocol):
    """``apply_forward_proxy``: a route to whatever host the request names, onto Envoy's Route."""

    def __call__(self, wanted: dfp_pb2.PerRouteConfig, out: Any, context: RouteContext) -> Findings:
        """See the module; paths are relative to the destination."""
        ...


class HttpFilters(Protocol):
    """``http_filters``: the HTTP filters that a listener needs for this option."""

    def __call__(self, context: ListenerContext) -> Iterable[StagedFilter | Finding]:
        """See the module."""
        ...


class ApplyRouteConfiguration(Protocol):
    """``apply_route_configuration``: options of an HTTP gateway onto Envoy's RouteConfiguration, for all its routes.

    There is no ``find_cluster``, and nothing is rejected: what is wrong with the options the other hooks say.
    """

    def __call__(
        self, options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
    ) -> None:
        """See the module."""
        ...


class ApplyConnectionManager(Protocol):
    """``apply_connection_manager``: options of an HTTP gateway onto Envoy's HttpConnectionManager."""

    def __call__(
        self, options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
    ) -> Findings:
        """See the module."""
        ...


class ApplyListener(Protocol):
    """``apply_listener``: options of a gateway onto Envoy's Listener."""

    def __call__(self, options: listener_options_pb2.ListenerOptions, out: Any, context: ListenerContext) -> Findings:
        """See the module."""
        ...


class ApplyTcpProxy(Protocol):
    """``apply_tcp_proxy``: options of a TCP gateway onto Envoy's TcpProxy."""

    def __call__(
        self, options: tcp_listener_options_pb2.TcpListenerOptions, out: Any, context: ListenerContext
    ) -> Findings:
        """See the module."""
        ...


class BuildQuic(Protocol):
    """``build_quic``: Envoy's QuicDownstreamTransport, without TLS, if an HTTP gateway is to be there by HTTP/3 too."""

    def __call__(self, options: http_listener_options_pb2.HttpListenerOptions) -> Any | None:
        """Asked for gateways with TLS alone, and without a word: ``http_filters`` says what is wrong."""
        ...


class ExtraClusters(Protocol):
    """``extra_clusters``: the clusters that are generated for options of a listener or of an HTTP gateway.

    It is asked once for each listener, with ``context.listener``, and once for each HTTP gateway, with
    ``context.options``; the other is empty. The same cluster may come from several of them.
    """

    def __call__(self, context: ListenerContext) -> Iterable[GeneratedCluster | Finding]:
        """See the module."""
        ...


class NetworkFilters(Protocol):
    """``network_filters``: the network filters before the connection manager or TCP proxy."""

    def __call__(self, context: ListenerContext) -> Iterable[StagedFilter | Finding]:
        """See the module."""
        ...


class ApplyEndpoints(Protocol):
    """``apply_endpoints``: options of an Upstream onto the ClusterLoadAssignment that it is served apart from."""

    def __call__(self, upstream: upstream_pb2.Upstream, out: Any) -> None:
        """Cheap, and without a word: what is wrong is said by ``apply_cluster``."""
        ...


class ApplyCluster(Protocol):
    """``apply_cluster``: options of an Upstream onto Envoy's Cluster."""

    def __call__(self, upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
        """See the module."""
        ...


HOOK_NAMES: Final = (
    "apply_route",
    "apply_virtual_host",
    "apply_destination",
    "apply_upstream",
    "apply_forward_proxy",
    "http_filters",
    "apply_route_configuration",
    "apply_connection_manager",
    "apply_listener",
    "apply_tcp_proxy",
    "build_quic",
    "extra_clusters",
    "network_filters",
    "apply_cluster",
    "apply_endpoints",
)
