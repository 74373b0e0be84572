"""How TCP gateways pass connections on: attempts to connect, silence, tunnels by HTTP CONNECT, logs on the way.

https://www.envoyproxy.io/docs/envoy/latest/configuration/listeners/network_filters/tcp_proxy_filter
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.formats import format_fault
from gloo_nomad.acceptance.headers import value_fault
from gloo_nomad.api.gen import tcp_listener_options_pb2, tcp_pb2
from gloo_nomad.messages import seconds
from gloo_nomad.options.added_headers import build_added
from gloo_nomad.options.guards import refuse_durations
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FIELDS: Claims = {"gloo.solo.io.TcpListenerOptions": ("tcp_proxy_settings",)}
READS: Claims = {
    "tcp.options.gloo.solo.io.TcpProxySettings": EVERY,
    "tcp.options.gloo.solo.io.TcpProxySettings.TunnelingConfig": EVERY,
    "tcp.options.gloo.solo.io.HeaderValueOption": EVERY,
    "tcp.options.gloo.solo.io.HeaderValue": EVERY,
}

MIN_FLUSH_SECONDS: Final = 0.001
_PATH: Final = "tcpProxySettings"
_DURATIONS: Final = ("idle_timeout", "access_log_flush_interval")


def apply_tcp_proxy(
    options: tcp_listener_options_pb2.TcpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    if not options.HasField("tcp_proxy_settings"):
        return ()
    wanted = options.tcp_proxy_settings
    findings = [*refuse_durations(wanted, _DURATIONS, _PATH), *_check_bounds(wanted)]
    if is_rejected(findings):
        return findings
    if wanted.HasField("max_connect_attempts"):
        out.max_connect_attempts.value = wanted.max_connect_attempts.value
    if wanted.HasField("idle_timeout"):
        out.idle_timeout.CopyFrom(wanted.idle_timeout)
    if wanted.HasField("access_log_flush_interval"):
        out.access_log_options.access_log_flush_interval.CopyFrom(wanted.access_log_flush_interval)
    if wanted.HasField("tunneling_config"):
        findings += _apply_tunnel(wanted.tunneling_config, out.tunneling_config, context)
    return findings


def _check_bounds(wanted: tcp_pb2.TcpProxySettings) -> Iterator[Finding]:
    if wanted.HasField("max_connect_attempts") and not wanted.max_connect_attempts.value:
        yield error(f"{_PATH}.maxConnectAttempts", "must be at least 1")
    interval = wanted.access_log_flush_interval
    if wanted.HasField("access_log_flush_interval") and 0 <= seconds(interval) < MIN_FLUSH_SECONDS:
        yield error(f"{_PATH}.accessLogFlushInterval", "must be at least 1ms")


def _apply_tunnel(
    wanted: tcp_pb2.TcpProxySettings.TunnelingConfig, out: Any, context: ListenerContext
) -> Iterator[Finding]:
    """A CONNECT request to the destination, which is an HTTP proxy then; its name may be a format string."""
    path = f"{_PATH}.tunnelingConfig"
    out.hostname = wanted.hostname
    if not wanted.hostname:
        yield error(f"{path}.hostname", "is required: the host and port that the proxy is asked for, example.com:443")
    elif fault := value_fault(wanted.hostname) or format_fault(wanted.hostname):
        yield error(f"{path}.hostname", fault)
    findings: list[Finding] = []
    out.headers_to_add.extend(build_added(wanted.headers_to_add, f"{path}.headersToAdd", context, findings))
    yield from findings
