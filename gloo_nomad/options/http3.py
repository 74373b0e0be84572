"""HTTP/3 beside TLS, on the same address and the UDP port of the same number: ``extensions.configs["http3"]``.

It stands in the options of the HTTP gateway, and may be empty (``http3: {}``). Clients learn of it by the header
``alt-svc`` of every answer. ``port`` is the one that they are told, where something in front maps ports (by default the
Gateway's own); ``maxAgeSeconds`` is how long they remember it (by default a day); ``earlyData: true`` accepts requests
in the first packet of a resumed session, which whoever recorded one can send again. Certificates and client
certificates are those of TLS. The contract has no field for this, so it is an extension.

The UDP port has to be reachable; the PROXY protocol, socket options and connection balance are for TCP alone.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/http/http3
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.quic.v3 import quic_transport_pb2
from google.protobuf import json_format

from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import http_listener_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, error, warning

FILTER: Final = "gloo_nomad.http3"
EXTENSION: Final = "http3"
EXTENSIONS: Final = (EXTENSION,)
READS: Claims = {"gloo.solo.io.HttpListenerOptions": ("extensions",), "gloo.solo.io.Extensions": EVERY}

DAY_SECONDS: Final = 86_400
YEAR_SECONDS: Final = 365 * DAY_SECONDS
_PATH: Final = f"extensions.configs[{EXTENSION}]"


def build_quic(options: http_listener_options_pb2.HttpListenerOptions) -> Any | None:
    written = _written(options)
    if written is None or any(_check(written)):
        return None
    built = quic_transport_pb2.QuicDownstreamTransport()
    built.enable_early_data.value = written.get("earlyData", False)
    return built


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    written = _written(context.options)
    if written is None:
        return
    findings = [*_check(written)]
    yield from findings
    if not context.tls_port:
        yield warning(_PATH, "has no effect without TLS, which HTTP/3 always has; set ssl on the Gateway")
    elif not findings:
        yield _build_filter(written, context.tls_port)


def _written(options: http_listener_options_pb2.HttpListenerOptions) -> dict[str, Any] | None:
    if not options.HasField("extensions") or EXTENSION not in options.extensions.configs:
        return None
    found: dict[str, Any] = json_format.MessageToDict(options.extensions.configs[EXTENSION])
    return found


def _check(written: Mapping[str, Any]) -> Iterable[Finding]:
    for name in sorted(written.keys() - {"port", "maxAgeSeconds", "earlyData"}):
        yield error(_PATH, f"has no field {quote(name)}; it has port, maxAgeSeconds and earlyData")
    for name, most in (("port", 65535), ("maxAgeSeconds", YEAR_SECONDS)):
        value = written.get(name, 1)
        if isinstance(value, bool) or value not in range(1, most + 1):
            yield error(f"{_PATH}.{name}", f"must be a whole number from 1 to {most}")
    if not isinstance(written.get("earlyData", False), bool):
        yield error(f"{_PATH}.earlyData", "must be true or false")


def _build_filter(written: Mapping[str, Any], tls_port: int) -> StagedFilter:
    """The first of all filters, so that answers of the others have the header as well."""
    config = header_mutation_pb2.HeaderMutation()
    option = config.mutations.response_mutations.add().append
    option.header.key = "alt-svc"
    port, age = int(written.get("port", tls_port)), int(written.get("maxAgeSeconds", DAY_SECONDS))
    option.header.value = f'h3=":{port}"; ma={age}'
    option.append_action = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=typed_config(config))
    return StagedFilter(Stage.FAULT, built, Position.BEFORE)
