"""Where an Upstream is asked for its functions: at its own addresses, and nowhere else; pure.

A ``static`` one names them, a ``consul`` one has them from healthy instances (``upstreams/consul.py`` picks the same
ones for Envoy). Whatever a document says of hosts is not believed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gloo_nomad.acceptance.names import address_fault
from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.clients.address import NO_TLS, Address, Tls
from gloo_nomad.store.services import ServiceInstances
from gloo_nomad.upstreams.consul import wanted_instances
from gloo_nomad.upstreams.static import wants_tls

MAX_ORIGINS: Final = 3
"""How many of its addresses are tried, one after the other."""
MAX_PATH: Final = 1000
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """One address of a service, and how its TLS is checked (``NO_TLS`` says nothing for plain ones)."""

    address: Address
    tls: Tls = NO_TLS

    def url(self, path: str) -> str:
        """The URL of something that it serves."""
        return f"{self.address.base}{path}"


def static_origins(upstream: upstream_pb2.Upstream, *, insecure: bool) -> tuple[Origin, ...]:
    """The first hosts of a ``static`` Upstream."""
    names = [(host.addr, host.port, host.sni_addr) for host in upstream.static.hosts]
    return _origins(upstream, names, insecure=insecure)


def instance_origins(
    upstream: upstream_pb2.Upstream, instances: ServiceInstances, *, insecure: bool
) -> tuple[Origin, ...]:
    """The first instances that a ``consul`` Upstream wants, in its datacenters if it names some."""
    places = set(upstream.consul.data_centers)
    wanted = [item for item in wanted_instances(upstream, [instances]) if not places or item.datacenter in places]
    return _origins(upstream, [(item.address, item.port, "") for item in wanted], insecure=insecure)


def _origins(
    upstream: upstream_pb2.Upstream, hosts: Iterable[tuple[str, int, str]], *, insecure: bool
) -> tuple[Origin, ...]:
    secure = upstream.HasField("ssl_config") or (upstream.HasField("static") and wants_tls(upstream))
    scheme, config = "https" if secure else "http", upstream.ssl_config
    usable = [(host, port, name) for host, port, name in hosts if not address_fault(host) and 1 <= port <= 65535]
    return tuple(
        Origin(
            Address(scheme, host, port),
            Tls(ca_file=config.ssl_files.root_ca, server_name=name or config.sni, insecure=insecure),
        )
        for host, port, name in dict.fromkeys(usable)
    )[:MAX_ORIGINS]


def own_path(url: str, origins: Iterable[Origin], *, anywhere: bool = False) -> str:
    """The path and query of *url* if it leads to one of the origins, *anywhere*, or has no host; "" if not."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    if not path.startswith("/") or len(path) > MAX_PATH or not path.isascii() or not path.isprintable() or " " in path:
        return ""
    if anywhere or (not parts.scheme and not parts.netloc):
        return path
    own = {(origin.address.host.lower(), origin.address.port) for origin in origins}
    return path if parts.scheme in _PORTS and (host, port) in own else ""
