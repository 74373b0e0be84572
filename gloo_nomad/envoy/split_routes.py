"""A RouteConfiguration whose virtual hosts are resources of their own (VHDS, for delta streams).

Envoy asks for them when it gets a RouteConfiguration with ``vhds``, all at once and without names, and takes those
named ``<RouteConfiguration>/<anything>``. It removes them by the name in the message, so both are the same.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/vhds
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from envoy.config.route.v3 import route_pb2

from gloo_nomad.envoy.names import split_host_name, split_routes_name
from gloo_nomad.envoy.resources import ads, pack_resource
from gloo_nomad.envoy.routes import TranslatedHost
from gloo_nomad.messages import delimited
from gloo_nomad.resources import ROUTES, VIRTUAL_HOST, Resource, Resources
from gloo_nomad.store.memo import Memo

NAME_FIELD: Final = 1
"""Number of ``VirtualHost.name``."""


@dataclass(frozen=True, slots=True, eq=False)
class SplitRoutes:
    """A RouteConfiguration that says where its virtual hosts are, and these."""

    resource: Resource
    virtual_hosts: Resources


def split_hosts(route_config: str, chunks: Sequence[Sequence[TranslatedHost]], memo: Memo) -> Resources | None:
    """The virtual hosts as resources of their own; None if they cannot be.

    Two of one name would be one, and for none at all Envoy would wait in vain before it opens the port.
    """
    routes = split_routes_name(route_config)
    found: dict[str, Resource] = {}
    for chunk in chunks:
        found.update(_split_chunk(routes, tuple(chunk), memo))
    return found if found and len(found) == sum(map(len, chunks)) else None


def _split_chunk(routes: str, hosts: tuple[TranslatedHost, ...], memo: Memo) -> Mapping[str, Resource]:
    if not hosts:
        return {}
    key = ("split hosts", routes, id(hosts[0]), len(hosts))
    return memo.get(key, hosts, lambda: dict(_split(routes, host, memo) for host in hosts))


def _split(routes: str, host: TranslatedHost, memo: Memo) -> tuple[str, Resource]:
    """A virtual host under its longer name: of a field that is there twice, the last one counts."""
    name, version = split_host_name(routes, host.name), host.digest.hex()

    def build() -> Resource:
        return Resource(name, version, host.wire[-host.size :] + delimited(NAME_FIELD, name.encode()))

    return name, memo.get(("resource", VIRTUAL_HOST, name, version), (), build)


def pack_split_frame(frame: Any, memo: Memo) -> Resource:
    """The RouteConfiguration itself, from one without virtual hosts."""
    out = route_pb2.RouteConfiguration()
    out.CopyFrom(frame)
    out.vhds.config_source.CopyFrom(ads())
    return pack_resource(memo, ROUTES, out.name, out)
