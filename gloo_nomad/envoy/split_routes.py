"""A RouteConfiguration whose virtual hosts are resources of their own (VHDS, for delta streams).

Envoy asks for them when it gets a RouteConfiguration with ``vhds``, all at once and without names, and takes those
named ``<RouteConfiguration>/<anything>``. It removes them by the name in the message, so both are the same.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/vhds
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from envoy.config.route.v3 import route_pb2

from gloo_nomad.envoy.names import split_host_name, split_routes_name
from gloo_nomad.envoy.resources import ads, pack_resource
from gloo_nomad.envoy.routes import TranslatedHost
from gloo_nomad.journal import Joined
from gloo_nomad.resources import ROUTES, PrefixedResource, Resource, Resources
from gloo_nomad.store.memo import Memo


@dataclass(frozen=True, slots=True, eq=False)
class SplitRoutes:
    """A RouteConfiguration that says where its virtual hosts are, and these."""

    resource: Resource
    virtual_hosts: Resources


def split_hosts(route_config: str, hosts: Iterable[TranslatedHost], memo: Memo) -> Resources:
    """Virtual hosts as resources of their own; the same objects as long as they do not change."""
    routes = split_routes_name(route_config)
    found = (memo.get(("split host", routes, id(host)), (host,), partial(_split, routes, host)) for host in hosts)
    return {resource.name: resource for resource in found}


def _split(routes: str, host: TranslatedHost) -> Resource:
    name = split_host_name(routes, host.name)
    return PrefixedResource(name, host.digest.hex(), host.head(name), host.rest)


def join_hosts(key: tuple[Any, ...], parts: Sequence[Resources], count: int, memo: Memo) -> Resources | None:
    """All virtual hosts of a RouteConfiguration, which are so many; None if they cannot be resources of their own.

    Two of one name would be one, and for none at all Envoy would wait in vain before it opens the port.
    """
    found = memo.get(("split hosts", *key), (), Joined[str, Resource]).join(parts)
    return found if count and len(found) == count else None


def pack_split_frame(frame: Any, memo: Memo) -> Resource:
    """The RouteConfiguration itself, from one without virtual hosts."""
    out = route_pb2.RouteConfiguration()
    out.CopyFrom(frame)
    out.vhds.config_source.CopyFrom(ads())
    return pack_resource(memo, ROUTES, out.name, out)
