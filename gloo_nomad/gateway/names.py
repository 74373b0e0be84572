"""Names that this stage gives: listeners, RouteConfigurations, virtual hosts and routes."""

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import Message

from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.messages import to_bytes, version_of

_DIGITS: Final = 16


def listener_name(bind_address: str, bind_port: int) -> str:
    """A gateway's listener: ``listener-::-8080``."""
    return f"listener-{bind_address}-{bind_port}"


def route_config_name(listener: str, matcher: Message | None = None) -> str:
    """The RouteConfiguration behind a listener; with a suffix for each matcher where a listener has several."""
    if matcher is None:
        return f"{listener}-routes"
    return f"{listener}-routes-{version_of(to_bytes(matcher))[:_DIGITS]}"


def virtual_host_name(ref: Ref) -> str:
    """The virtual host of a virtual service."""
    return f"{ref.namespace}.{ref.name}"


def route_part(owner: ObjectRef, prefix: str, written: str, index: int) -> str:
    """One step of a route's name: the object (``vs`` or ``rt``) and its route, by number if it has no name."""
    return f"{prefix}:{owner.namespace}_{owner.name}_route:{written or f'<unnamed-{index}>'}"


def full_route_name(gateway: str, proxy: str, parts: Sequence[str]) -> str:
    """A route's name from its steps; the gateway and the proxy stand in the first one.

    Statistics and access logs of existing users show these names:
    ``vs:gateway-proxy_gateway-proxy_gloo-system_default_route:first_rt:gloo-system_petstore_route:<unnamed-0>``.
    """
    kind, _, rest = parts[0].partition(":")
    return "_".join((f"{kind}:{gateway}_{proxy}_{rest}", *parts[1:]))
