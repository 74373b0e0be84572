"""Lets only some client addresses in, on a virtual host or a route: ``extensions.configs["ipAccess"]``.

``allow`` and ``deny`` are lists of addresses and ranges (``10.0.0.0/8``, ``2001:db8::1``). An address in ``deny`` is
refused with 403; if there is an ``allow``, so is one that is not in it. A route's lists take the place of its virtual
host's as a whole. The address is the client's as Envoy knows it: see ``useRemoteAddress`` and ``xffNumTrustedHops`` of
``httpConnectionManagerSettings``. The contract has no field for this, so it is an extension.

The first list behind a gateway adds a filter to its listener. Connections that are open by then go on without it until
Envoy has drained them.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/rbac_filter
"""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3 import address_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as rbac_filter_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf.struct_pb2 import Struct, Value

from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import route_options_pb2, virtual_host_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext, VirtualHostContext
from gloo_nomad.options.stages import Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, unprotected

FILTER: Final = "gloo_nomad.ip_access"
"""A name of its own, so that roles and addresses never take each other's place."""
EXTENSION: Final = "ipAccess"
EXTENSIONS: Final = (EXTENSION,)
MAX_RANGES: Final = 10_000

READS: Claims = {
    "gloo.solo.io.RouteOptions": ("extensions",),
    "gloo.solo.io.VirtualHostOptions": ("extensions",),
    "gloo.solo.io.Extensions": EVERY,
}

_PATH: Final = f"extensions.configs[{EXTENSION}]"
_LISTS: Final = ("allow", "deny")


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    return _apply(options.extensions.configs, out) if options.HasField("extensions") else ()


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    return _apply(options.extensions.configs, out) if options.HasField("extensions") else ()


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if context.needs(FILTER):
        config = typed_config(rbac_filter_pb2.RBAC())
        yield StagedFilter(Stage.WAF, http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config))


def _apply(configs: Any, out: Any) -> Iterator[Finding]:
    if EXTENSION not in configs:
        return
    ranges: dict[str, list[Any]] = {name: [] for name in _LISTS}
    findings = [*_parse_ranges(configs[EXTENSION], ranges)]
    yield from findings
    if not findings:
        out.typed_per_filter_config[FILTER].CopyFrom(typed_config(_build_rules(ranges["allow"], ranges["deny"])))


def _parse_ranges(config: Struct, out: dict[str, list[Any]]) -> Iterator[Finding]:
    """Envoy's ranges of each list go to *out*; a mistake is an error, because the list would let others in."""
    for name in sorted(config.fields):
        if name not in _LISTS:
            yield unprotected(_PATH, f"has no field {quote(name)}; it has allow and deny")
    for name in _LISTS:
        if name in config.fields:
            yield from _parse_list(config.fields[name], f"{_PATH}.{name}", out[name])
    if not any(name in config.fields and config.fields[name].list_value.values for name in _LISTS):
        yield unprotected(_PATH, "says nothing: give it a list allow or deny")


def _parse_list(entries: Value, path: str, out: list[Any]) -> Iterator[Finding]:
    if entries.WhichOneof("kind") != "list_value" or len(entries.list_value.values) > MAX_RANGES:
        yield unprotected(path, f"must be a list of at most {MAX_RANGES} addresses and ranges")
        return
    for index, entry in enumerate(entries.list_value.values):
        found = _parse_range(entry.string_value)
        if found is None:
            said = quote(entry.string_value) if entry.HasField("string_value") else "the entry"
            text = f"{said} is neither an IP address nor a range like 10.0.0.0/8"
            yield unprotected(f"{path}[{index}]", text)
        else:
            out.append(found)


def _parse_range(text: str) -> Any:
    try:
        network = ipaddress.ip_network(text, strict=False) if "%" not in text else None
    except ValueError:
        network = None
    if network is None:
        return None
    built = address_pb2.CidrRange(address_prefix=str(network.network_address))
    built.prefix_len.value = network.prefixlen
    return built


def _build_rules(allow: list[Any], deny: list[Any]) -> Any:
    """In ``allow``, if there is one, and not in ``deny``."""
    principal = rbac_pb2.Principal()
    if allow:
        principal.and_ids.ids.append(_build_any_of(allow))
    if deny:
        principal.and_ids.ids.append(rbac_pb2.Principal(not_id=_build_any_of(deny)))
    policy = rbac_pb2.Policy(permissions=[rbac_pb2.Permission(any=True)], principals=[principal])
    rules = rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW, policies={EXTENSION: policy})
    return rbac_filter_pb2.RBACPerRoute(rbac=rbac_filter_pb2.RBAC(rules=rules))


def _build_any_of(ranges: list[Any]) -> Any:
    built = rbac_pb2.Principal()
    built.or_ids.ids.extend(rbac_pb2.Principal(remote_ip=entry) for entry in ranges)
    return built
