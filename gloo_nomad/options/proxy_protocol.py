"""The PROXY protocol: a load balancer in front says who the client is, in a header before anything else.

``proxyProtocol`` asks for it, with rules that keep some of what the header tells as metadata; so does the Gateway's
deprecated ``useProxyProto``, and both together are one filter.
https://www.envoyproxy.io/docs/envoy/latest/configuration/listeners/listener_filters/proxy_protocol
"""

from collections.abc import Iterator
from typing import Any, Final

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2 as envoy_proxy_protocol_pb2

from gloo_nomad.api.gen import listener_options_pb2, proxy_protocol_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

FILTER: Final = "envoy.filters.listener.proxy_protocol"
MAX_TYPE: Final = 255
"""The type of a value in the header is one byte."""

FIELDS: Claims = {"gloo.solo.io.ListenerOptions": ("proxy_protocol",)}
READS: Claims = {
    "proxy_protocol.options.gloo.solo.io.ProxyProtocol": EVERY,
    "proxy_protocol.options.gloo.solo.io.ProxyProtocol.Rule": EVERY,
    "proxy_protocol.options.gloo.solo.io.ProxyProtocol.KeyValuePair": EVERY,
}


def apply_listener(options: listener_options_pb2.ListenerOptions, out: Any, context: ListenerContext) -> Findings:
    if not options.HasField("proxy_protocol"):
        return ()
    findings = [*_check(options.proxy_protocol)]
    if not is_rejected(findings):
        filters = [item for item in out.listener_filters if item.name != FILTER]
        built = listener_components_pb2.ListenerFilter(
            name=FILTER, typed_config=typed_config(_build(options.proxy_protocol))
        )
        kept = [listener_components_pb2.ListenerFilter.FromString(item.SerializeToString()) for item in filters]
        del out.listener_filters[:]
        out.listener_filters.extend([built, *kept])
    return findings


def _check(options: proxy_protocol_pb2.ProxyProtocol) -> Iterator[Finding]:
    for index, rule in enumerate(options.rules):
        path = f"proxyProtocol.rules[{index}]"
        if rule.tlv_type > MAX_TYPE:
            yield error(f"{path}.tlvType", f"{rule.tlv_type} is no type of a value; it must be 0 to {MAX_TYPE}")
        if not rule.HasField("on_tlv_present"):
            yield warning(path, "keeps nothing; onTlvPresent says under which name")
        elif not rule.on_tlv_present.key:
            yield error(f"{path}.onTlvPresent.key", "is required: the name under which the value is kept")


def _build(options: proxy_protocol_pb2.ProxyProtocol) -> Any:
    built = envoy_proxy_protocol_pb2.ProxyProtocol(
        allow_requests_without_proxy_protocol=options.allow_requests_without_proxy_protocol
    )
    for rule in (rule for rule in options.rules if rule.HasField("on_tlv_present")):
        added = built.rules.add(tlv_type=rule.tlv_type)
        added.on_tlv_present.metadata_namespace = rule.on_tlv_present.metadata_namespace
        added.on_tlv_present.key = rule.on_tlv_present.key
    return built
