"""TCP gateways: hosts that connections are forwarded to, told apart by their server names.

https://docs.solo.io/gloo-edge/latest/guides/traffic_management/listener_configuration/tcp_proxy/.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from gloo_nomad.api.gen import gateway_pb2, proxy_pb2, ssl_pb2
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.gateway.filling import apply_missing
from gloo_nomad.gateway.scene import Scene
from gloo_nomad.proxies import TcpGroup
from gloo_nomad.reports import Finding, error, is_rejected

FIELDS: Final = {
    "gateway.solo.io.TcpGateway": ("tcp_hosts", "options"),
    "gloo.solo.io.TcpHost": ("name", "ssl_config", "destination"),
}


@dataclass(frozen=True, slots=True)
class TcpPart:
    """A TCP gateway and where it stands: alone on its listener, or one of several behind matchers."""

    tcp: gateway_pb2.TcpGateway
    source: ObjectRef
    origin: Message
    """The whole object that it is in; the same object as long as it does not change."""
    path: str = "tcpGateway"
    matcher: proxy_pb2.Matcher | None = None

    @property
    def key(self) -> tuple[ObjectRef, str]:
        """What tells it apart from others on the listener."""
        return self.source, self.path


def translate_tcp(part: TcpPart, scene: Scene) -> tuple[TcpGroup, ...]:
    """The group of a TCP gateway; none without a host that can be served."""
    group, findings = scene.world.memo.get(
        ("tcp", *scene.key, *part.key), (part.origin, part.matcher), lambda: _translate(part)
    )
    for finding in findings:
        scene.report(finding, part.path, part.source)
    return (group,) if group is not None else ()


def _translate(part: TcpPart) -> tuple[TcpGroup | None, tuple[Finding, ...]]:
    allowed = part.matcher.ssl_config if part.matcher is not None and part.matcher.HasField("ssl_config") else None
    findings: list[Finding] = []
    hosts, places = [], []
    for index, host in enumerate(part.tcp.tcp_hosts):
        found = [finding.under(f"tcpHosts[{index}]") for finding in _check_host(host, allowed)]
        findings += found
        if not is_rejected(found):
            hosts.append(_build_host(host, allowed))
            places.append(index)
    if not part.tcp.tcp_hosts:
        findings.append(error("tcpHosts", "is empty; name at least one host"))
    if not hosts:
        return None, tuple(findings)
    group = TcpGroup(part.source, tuple(hosts), part.tcp.options, part.matcher, part.path, tuple(places))
    return group, tuple(findings)


def _check_host(host: proxy_pb2.TcpHost, allowed: ssl_pb2.SslConfig | None) -> Iterator[Finding]:
    if host.destination.WhichOneof("destination") is None:
        yield error("destination", "is required; set single, multi, upstreamGroup or forwardSniClusterName")
    if allowed is None or not allowed.sni_domains:
        return
    for index, name in enumerate(host.ssl_config.sni_domains):
        if name not in allowed.sni_domains:
            names = ", ".join(allowed.sni_domains)
            yield error(f"sslConfig.sniDomains[{index}]", f"{name} is none of the matcher's sniDomains ({names})")


def _build_host(host: proxy_pb2.TcpHost, allowed: ssl_pb2.SslConfig | None) -> proxy_pb2.TcpHost:
    """The host with the TLS of the matcher where it leaves something unset."""
    if allowed is None:
        return host
    built = proxy_pb2.TcpHost()
    built.CopyFrom(host)
    apply_missing(allowed, built.ssl_config)
    return built
