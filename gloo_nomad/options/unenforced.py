"""Protections that cannot be enforced: what asks for one is rejected, and never served without it.

Tokens (``jwt``), roles (``rbac``), the web application firewall (``waf``) and data loss prevention (``dlp``) have no
filter here. A warning would leave open what its owner believes to be closed, so a route, virtual host or gateway that
asks for one of them has an error, and its last good version, which may be open, is not served either. Switching one of
them off (``disabled: true``) asks for nothing and is fine.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from gloo_nomad.api.gen import route_options_pb2, virtual_host_options_pb2
from gloo_nomad.options.hooks import Claims, ListenerContext, RouteContext, VirtualHostContext
from gloo_nomad.options.stages import StagedFilter
from gloo_nomad.reports import Finding, Findings, unprotected

REFUSED: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("waf", "dlp"),
    "gloo.solo.io.VirtualHostOptions": ("jwt", "jwt_staged", "rbac", "waf", "dlp"),
    "gloo.solo.io.RouteOptions": ("jwt", "jwt_staged", "jwt_providers_staged", "rbac", "waf", "dlp"),
}

_ASKS: Final[dict[str, Callable[[Any], bool]]] = {
    "rbac.options.gloo.solo.io.ExtensionSettings": lambda rbac: not rbac.disable,
    "waf.options.gloo.solo.io.Settings": lambda waf: not waf.disabled,
    "dlp.options.gloo.solo.io.Config": lambda dlp: bool(dlp.actions),
    "dlp.options.gloo.solo.io.FilterConfig": lambda dlp: bool(dlp.dlp_rules),
    "jwt.options.gloo.solo.io.RouteExtension": lambda _jwt: False,
    "jwt.options.gloo.solo.io.JwtStagedRouteExtension": lambda _jwt: False,
}
"""Whether a message asks for something; those that are not here always do. A route's ``jwt`` only switches it off."""


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    return _refuse(options)


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    return _refuse(options)


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    return _refuse(context.options)


def _refuse(options: Any) -> Iterator[Finding]:
    for name in REFUSED[options.DESCRIPTOR.full_name]:
        if options.HasField(name) and _asks(getattr(options, name)):
            field = options.DESCRIPTOR.fields_by_name[name].camelcase_name
            text = f"cannot be enforced, and nothing is served without it; remove {field} to serve it unprotected"
            yield unprotected(field, text)


def _asks(message: Any) -> bool:
    asks = _ASKS.get(message.DESCRIPTOR.full_name)
    return asks is None or asks(message)
