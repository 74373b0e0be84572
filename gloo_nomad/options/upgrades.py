"""Protocols that a request may change to: websockets, and CONNECT, passed on or ended here.

Websockets may be used on every gateway unless it forbids them; a route decides for itself. ``connectTerminate`` is for
routes alone: the payload of CONNECT goes to the service as plain TCP.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/http/upgrades
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.api.gen import http_listener_options_pb2, route_options_pb2
from gloo_nomad.options.guards import refuse_unforwarded
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FIELDS: Claims = {
    "gloo.solo.io.RouteOptions": ("upgrades",),
    "hcm.options.gloo.solo.io.HttpConnectionManagerSettings": ("upgrades",),
}
READS: Claims = {
    "protocol_upgrade.options.gloo.solo.io.ProtocolUpgradeConfig": EVERY,
    "protocol_upgrade.options.gloo.solo.io.ProtocolUpgradeConfig.ProtocolUpgradeSpec": EVERY,
}

_CONNECT: Final = "CONNECT"
_TYPES: Final = {"websocket": "websocket", "connect": _CONNECT, "connect_terminate": _CONNECT}
"""Envoy's name of each protocol; two of ours share one."""


def apply_connection_manager(
    options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    upgrades = options.http_connection_manager_settings.upgrades
    if not upgrades:
        return ()
    findings = [*_check(upgrades, "httpConnectionManagerSettings.upgrades")]
    findings += _refuse_termination(upgrades)
    if not is_rejected(findings):
        _apply_to_manager(upgrades, out)
    return findings


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if not options.upgrades:
        return ()
    findings = [*refuse_unforwarded(options, ("upgrades",), context), *_check(options.upgrades, "upgrades")]
    if is_rejected(findings):
        return findings
    for upgrade in options.upgrades:
        kind = str(upgrade.WhichOneof("upgrade_type"))
        added = out.route.upgrade_configs.add(upgrade_type=_TYPES[kind])
        added.enabled.value = _is_enabled(upgrade, kind)
        if kind == "connect_terminate":
            added.connect_config.SetInParent()
    return findings


def _check(upgrades: Any, path: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, upgrade in enumerate(upgrades):
        kind = upgrade.WhichOneof("upgrade_type")
        if kind is None:
            yield error(f"{path}[{index}]", "names no protocol; write websocket, connect or connectTerminate")
        elif _TYPES[kind] in seen:
            yield error(f"{path}[{index}]", f"upgrade config {_TYPES[kind]} is not unique: name each protocol once")
        else:
            seen.add(_TYPES[kind])


def _refuse_termination(upgrades: Any) -> Iterator[Finding]:
    for index, upgrade in enumerate(upgrades):
        if upgrade.WhichOneof("upgrade_type") == "connect_terminate":
            path = f"httpConnectionManagerSettings.upgrades[{index}].connectTerminate"
            yield error(path, "is for routes only; write it into options.upgrades of the routes that end CONNECT")


def _apply_to_manager(upgrades: Any, out: Any) -> None:
    """The named protocols, and websockets unless they are among them."""
    kinds = {str(upgrade.WhichOneof("upgrade_type")): upgrade for upgrade in upgrades}
    if "websocket" in kinds:
        del out.upgrade_configs[:]
    for kind, upgrade in kinds.items():
        added = out.upgrade_configs.add(upgrade_type=_TYPES[kind])
        added.enabled.value = _is_enabled(upgrade, kind)
        if kind == "connect" and added.enabled.value:
            out.http2_protocol_options.allow_connect = True


def _is_enabled(upgrade: Any, kind: str) -> bool:
    spec = getattr(upgrade, kind)
    return not spec.HasField("enabled") or bool(spec.enabled.value)
