"""Hybrid gateways: several HTTP and TCP gateways on one address, chosen by TLS and by the client's address.

https://docs.solo.io/gloo-edge/latest/guides/traffic_management/listener_configuration/hybrid_gateway/. They are written
inside of it (``matchedGateways``), or are objects of their own that it picks (``delegatedHttpGateways`` and
``delegatedTcpGateways``, which count only without any matched one).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from gloo_nomad.api.gen import gateway_pb2, http_listener_options_pb2, proxy_pb2
from gloo_nomad.api.kinds import MATCHABLE_HTTP_GATEWAY, MATCHABLE_TCP_GATEWAY, Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.gateway.filling import apply_missing
from gloo_nomad.gateway.http import HttpPart
from gloo_nomad.gateway.labels import EVERYWHERE, admits, contains, in_namespaces, parse_expressions
from gloo_nomad.gateway.scene import Scene
from gloo_nomad.gateway.tcp import TcpPart
from gloo_nomad.messages import to_bytes
from gloo_nomad.reports import Finding, error, warning

FIELDS: Final = {
    "gateway.solo.io.HybridGateway": ("matched_gateways", "delegated_http_gateways", "delegated_tcp_gateways"),
    "gateway.solo.io.MatchedGateway": ("matcher", "http_gateway", "tcp_gateway"),
    "gateway.solo.io.Matcher": ("ssl_config", "source_prefix_ranges"),
    "gateway.solo.io.DelegatedHttpGateway": (
        "ref",
        "selector",
        "ssl_config",
        "prevent_child_overrides",
        "http_connection_manager_settings",
    ),
    "gateway.solo.io.DelegatedTcpGateway": ("ref", "selector"),
    "gateway.solo.io.MatchableHttpGateway": ("metadata", "matcher", "http_gateway"),
    "gateway.solo.io.MatchableHttpGateway.Matcher": ("ssl_config", "source_prefix_ranges"),
    "gateway.solo.io.MatchableTcpGateway": ("metadata", "matcher", "tcp_gateway"),
    "gateway.solo.io.MatchableTcpGateway.Matcher": ("ssl_config", "source_prefix_ranges"),
    "selectors.core.gloo.solo.io.Selector": ("namespaces", "labels", "expressions"),
    "selectors.core.gloo.solo.io.Selector.Expression": ("key", "operator", "values"),
}

_PATH: Final = "hybridGateway"

Part = HttpPart | TcpPart
Picked = list[tuple[Ref, Any]]


def read_hybrid(scene: Scene) -> list[Part]:
    """The gateways behind a hybrid gateway that are told apart by their matchers; others are reported."""
    hybrid = scene.gateway.hybrid_gateway
    found = _matched(hybrid, scene) if hybrid.matched_gateways else _delegated(hybrid, scene)
    parts: list[Part] = []
    seen: dict[bytes, Part] = {}
    for part in found:
        matcher = to_bytes(part.matcher) if part.matcher is not None else b""
        first = seen.setdefault(matcher, part)
        if first is part:
            parts.append(part)
        else:
            where = f"{first.source} {first.path}"
            text = f"has the matcher of {where}, which takes all of its connections; make them differ"
            scene.report(error(part.path, text), source=part.source)
    return parts


def report_unpopulated(scene: Scene) -> None:
    """Says that a hybrid gateway has nothing to serve."""
    if scene.gateway.hybrid_gateway.matched_gateways:
        text = "hybrid gateway does not have any populated matched gateways; its port stays closed"
        scene.report(error(f"{_PATH}.matchedGateways", text))
    else:
        text = "hybrid gateway does not have any populated delegated gateways; its port stays closed"
        scene.report(warning(_PATH, text))


def _matched(hybrid: gateway_pb2.HybridGateway, scene: Scene) -> Iterator[Part]:
    for index, matched in enumerate(hybrid.matched_gateways):
        path = f"{_PATH}.matchedGateways[{index}]"
        matcher = _keep_matcher(matched, (scene.gateway,), (path,), scene)
        kind = matched.WhichOneof("GatewayType")
        if kind == "http_gateway":
            ssl = matched.matcher.HasField("ssl_config")
            http = matched.http_gateway
            yield HttpPart(http, ssl, scene.source, scene.gateway, f"{path}.httpGateway", matcher)
        elif kind == "tcp_gateway":
            yield TcpPart(matched.tcp_gateway, scene.source, scene.gateway, f"{path}.tcpGateway", matcher)
        else:
            scene.report(error(path, "has no gateway; set httpGateway or tcpGateway"))


def _delegated(hybrid: gateway_pb2.HybridGateway, scene: Scene) -> Iterator[Part]:
    if hybrid.HasField("delegated_http_gateways"):
        delegated = hybrid.delegated_http_gateways
        path = f"{_PATH}.delegatedHttpGateways"
        for ref, child in _pick(delegated, MATCHABLE_HTTP_GATEWAY, path, scene):
            if child.matcher.HasField("ssl_config") == delegated.HasField("ssl_config"):
                yield _delegated_http(delegated, ref, child, scene)
    if hybrid.HasField("delegated_tcp_gateways"):
        path = f"{_PATH}.delegatedTcpGateways"
        for ref, child in _pick(hybrid.delegated_tcp_gateways, MATCHABLE_TCP_GATEWAY, path, scene):
            source = MATCHABLE_TCP_GATEWAY.object_ref(ref)
            matcher = _keep_matcher(child, (scene.gateway, child), (source,), scene)
            yield TcpPart(child.tcp_gateway, source, child, "tcpGateway", matcher)


def _delegated_http(
    delegated: gateway_pb2.DelegatedHttpGateway, ref: Ref, child: gateway_pb2.MatchableHttpGateway, scene: Scene
) -> HttpPart:
    source = MATCHABLE_HTTP_GATEWAY.object_ref(ref)
    inputs = (scene.gateway, child)
    matcher = _keep_matcher(child, inputs, (source,), scene, delegated)
    options = scene.world.memo.get(
        ("options", *scene.key, source), inputs, lambda: _build_options(delegated, child.http_gateway)
    )
    ssl = child.matcher.HasField("ssl_config")
    return HttpPart(child.http_gateway, ssl, source, child, "httpGateway", matcher, options)


def _build_options(
    delegated: gateway_pb2.DelegatedHttpGateway, http: gateway_pb2.HttpGateway
) -> http_listener_options_pb2.HttpListenerOptions:
    options = http_listener_options_pb2.HttpListenerOptions()
    options.CopyFrom(http.options)
    if delegated.HasField("http_connection_manager_settings"):
        settings = delegated.http_connection_manager_settings
        own = options.http_connection_manager_settings
        own.SetInParent()
        apply_missing(settings, own, overrides=delegated.prevent_child_overrides)
    return options


def _keep_matcher(
    matched: Any,
    inputs: tuple[Message, ...],
    key: tuple[Any, ...],
    scene: Scene,
    delegated: gateway_pb2.DelegatedHttpGateway | None = None,
) -> proxy_pb2.Matcher | None:
    """The matcher of a gateway; None if it takes all connections."""
    if not matched.HasField("matcher") or not matched.matcher.ListFields():
        return None
    return scene.world.memo.get(("matcher", *scene.key, *key), inputs, lambda: _build_matcher(matched, delegated))


def _build_matcher(matched: Any, delegated: gateway_pb2.DelegatedHttpGateway | None) -> proxy_pb2.Matcher:
    written = matched.matcher
    matcher = proxy_pb2.Matcher(source_prefix_ranges=written.source_prefix_ranges)
    if written.HasField("ssl_config"):
        matcher.ssl_config.CopyFrom(written.ssl_config)
        if delegated is not None:
            apply_missing(delegated.ssl_config, matcher.ssl_config, overrides=delegated.prevent_child_overrides)
    return matcher


def _pick(delegated: Any, kind: Kind, path: str, scene: Scene) -> Picked:
    """The objects that a hybrid gateway means: the one it names, or those that its selector picks."""
    objects: Mapping[Ref, Any] = scene.world.snapshot.of(kind.name)
    chosen = delegated.WhichOneof("selection_type")
    if chosen == "ref":
        ref = Ref(delegated.ref.namespace, delegated.ref.name)
        if ref in objects:
            return [(ref, objects[ref])]
        scene.report(warning(f"{path}.ref", f"{kind.name} {ref} missing; it is served as soon as it exists"))
    elif chosen == "selector":
        return _select(delegated.selector, objects, f"{path}.selector", scene)
    else:
        scene.report(warning(path, "picks no gateway; set ref or selector"))
    return []


def _select(selector: Any, objects: Mapping[Ref, Any], path: str, scene: Scene) -> Picked:
    """No namespaces means all of them here."""
    requirements = parse_expressions(selector.expressions, f"{path}.expressions")
    if isinstance(requirements, Finding):
        scene.report(requirements)
        return []
    namespaces = frozenset(selector.namespaces) or frozenset({EVERYWHERE})
    return [
        (ref, found)
        for ref, found in objects.items()
        if in_namespaces(ref.namespace, namespaces)
        and contains(found.metadata.labels, selector.labels.items())
        and admits(requirements, found.metadata.labels)
    ]
