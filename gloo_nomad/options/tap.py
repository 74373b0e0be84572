"""Writes whole requests and answers to files beside Envoy, for debugging: ``extensions.configs["tap"]``.

It stands in the options of an HTTP gateway. Each exchange becomes a file ``<pathPrefix>_<number>.json``:

    extensions:
      configs:
        tap:
          pathPrefix: /var/tmp/tap/orders       # a folder that Envoy may write, and how names of files begin
          requestHeaders: {x-debug: "1"}        # only requests that have all of these; everything if left out
          responseHeaders: {":status": "503"}   # and only if the answer has these
          maxBufferedRxBytes: 4096              # of a request's body, and of an answer's; by default 1024
          maxBufferedTxBytes: 4096
          format: JSON_BODY_AS_STRING           # or JSON_BODY_AS_BYTES, PROTO_BINARY, PROTO_TEXT
          recordHeadersReceivedTime: true
          recordDownstreamConnection: true

Files hold what requests hold, also tokens and passwords: match few of them, and take the option away afterwards. Taps
that are asked for at Envoy's admin address are not offered: an Envoy 1.40 without that address crashes on them.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/tap_filter
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from envoy.config.route.v3 import route_components_pb2
from envoy.config.tap.v3 import common_pb2
from envoy.extensions.filters.http.tap.v3 import tap_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import json_format

from gloo_nomad.acceptance.headers import name_fault, value_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, error

FILTER: Final = "envoy.filters.http.tap"
EXTENSION: Final = "tap"
EXTENSIONS: Final = (EXTENSION,)
READS: Claims = {"gloo.solo.io.HttpListenerOptions": ("extensions",), "gloo.solo.io.Extensions": EVERY}
WARNED: Final = {
    "gloo.solo.io.HttpListenerOptions": {
        "tap": "its servers have a protocol that stock Envoy does not know; `extensions.configs[tap]` writes files"
    }
}
MAX_BYTES: Final = 16 * 1024 * 1024

_PATH: Final = f"extensions.configs[{EXTENSION}]"
_FORMATS: Final = ("JSON_BODY_AS_STRING", "JSON_BODY_AS_BYTES", "PROTO_BINARY", "PROTO_TEXT")
_SIZES: Final = {"maxBufferedRxBytes": "max_buffered_rx_bytes", "maxBufferedTxBytes": "max_buffered_tx_bytes"}
_FLAGS: Final = {
    "recordHeadersReceivedTime": "record_headers_received_time",
    "recordDownstreamConnection": "record_downstream_connection",
}
_HEADERS: Final = {
    "requestHeaders": "http_request_headers_match",
    "responseHeaders": "http_response_headers_match",
}
_KNOWN: Final = ("pathPrefix", "format", *_HEADERS, *_SIZES, *_FLAGS)


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    options = context.options
    if not options.HasField("extensions") or EXTENSION not in options.extensions.configs:
        return
    written = json_format.MessageToDict(options.extensions.configs[EXTENSION])
    findings = [finding.under(_PATH) for finding in _check(written)]
    yield from findings
    if not findings:
        config = typed_config(_build_tap(written))
        built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config)
        yield StagedFilter(Stage.FAULT, built, Position.BEFORE)


def _check(written: Mapping[str, Any]) -> Iterator[Finding]:
    for name in sorted(written.keys() - set(_KNOWN)):
        yield error("", f"has no field {quote(name)}; it has {', '.join(_KNOWN)}")
    prefix = written.get("pathPrefix")
    if not isinstance(prefix, str) or not prefix.startswith("/") or "\0" in prefix:
        yield error("pathPrefix", "is required: an absolute path, to which a number is added for each file")
    if written.get("format", _FORMATS[0]) not in _FORMATS:
        yield error("format", f"must be one of {', '.join(_FORMATS)}")
    for name in _SIZES:
        value = written.get(name, 0)
        if isinstance(value, bool) or value not in range(MAX_BYTES + 1):
            yield error(name, f"must be a whole number of bytes, at most {MAX_BYTES}")
    for name in _FLAGS:
        if not isinstance(written.get(name, False), bool):
            yield error(name, "must be true or false")
    for name in _HEADERS:
        yield from _check_headers(name, written.get(name, {}))


def _check_headers(path: str, headers: Any) -> Iterator[Finding]:
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        yield error(path, "must be a map of names of headers to texts")
        return
    for name, value in sorted(headers.items()):
        if fault := name_fault(name.removeprefix(":")) or value_fault(value):
            yield error(f"{path}[{name}]", fault)


def _build_tap(written: Mapping[str, Any]) -> Any:
    built = tap_pb2.Tap()
    for name, field in _FLAGS.items():
        setattr(built, field, written.get(name, False))
    config = built.common_config.static_config
    output = config.output_config
    sink = output.sinks.add(format=written.get("format", _FORMATS[0]))
    sink.file_per_tap.path_prefix = written["pathPrefix"]
    for name, field in _SIZES.items():
        if name in written:
            getattr(output, field).value = int(written[name])
    _apply_matches(written, config.match)
    return built


def _apply_matches(written: Mapping[str, Any], out: common_pb2.MatchPredicate | Any) -> None:
    """All of them have to hold; Envoy wants two at least for that."""
    asked = [name for name in _HEADERS if written.get(name)]
    if not asked:
        out.any_match = True
    for name in asked:
        rule = out if len(asked) == 1 else out.and_match.rules.add()
        for header, value in sorted(written[name].items()):
            matcher = route_components_pb2.HeaderMatcher(name=header.lower())
            matcher.string_match.exact = value
            getattr(rule, _HEADERS[name]).headers.append(matcher)
