"""Compresses answers: gzip, and beside it Brotli and Zstandard, for which the contract has no field.

These two stand in ``extensions.configs.compression`` of the HTTP gateway's options::

    extensions:
      configs:
        compression:
          brotli: {quality: 5, windowBits: 18, contentLength: 100, contentType: [text/html]}
          zstd: {compressionLevel: 3}

Both also know ``disableOnEtagHeader`` and ``removeAcceptEncodingHeader``. Where a client likes several equally, they
are preferred to gzip. https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/compressor_filter
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from envoy.extensions.compression.brotli.compressor.v3 import brotli_pb2
from envoy.extensions.compression.gzip.compressor.v3 import gzip_pb2
from envoy.extensions.compression.zstd.compressor.v3 import zstd_pb2
from envoy.extensions.filters.http.compressor.v3 import compressor_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import json_format

from gloo_nomad.acceptance.headers import value_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import envoy_gzip_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import field_path, refuse_enum
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.stages import Stage, StagedFilter
from gloo_nomad.reports import Finding, error

FILTER: Final = "envoy.filters.http.compressor"
EXTENSION: Final = "compression"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("gzip",),
    "solo.io.envoy.config.filter.http.gzip.v2.Gzip": EVERY,
}
READS: Claims = {"gloo.solo.io.HttpListenerOptions": ("extensions",)}
EXTENSIONS: Final = (EXTENSION,)

_GZIP: Final = gzip_pb2.Gzip
_GZIP_NAME: Final = "gzip"
_LEVELS: Final = (_GZIP.DEFAULT_COMPRESSION, _GZIP.BEST_COMPRESSION, _GZIP.BEST_SPEED)
_STRATEGIES: Final = (_GZIP.DEFAULT_STRATEGY, _GZIP.FILTERED, _GZIP.HUFFMAN_ONLY, _GZIP.RLE)
"""Envoy's values, by the contract's numbers."""
_COMMON_KEYS: Final = frozenset({"contentLength", "contentType", "disableOnEtagHeader", "removeAcceptEncodingHeader"})


@dataclass(frozen=True, slots=True)
class _Compressor:
    """One way to compress: its name, the library and Envoy's ResponseDirectionConfig."""

    name: str
    library: Any
    direction: Any


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    options = context.options
    found: list[_Compressor] = []
    if options.HasField("gzip"):
        findings = [*_check_gzip(options.gzip)]
        yield from findings
        if not findings:
            found.append(_Compressor(_GZIP_NAME, _build_gzip(options.gzip), _direction_of_gzip(options.gzip)))
    if options.HasField("extensions") and EXTENSION in options.extensions.configs:
        written = json_format.MessageToDict(options.extensions.configs[EXTENSION])
        for finding in _parse_extension(written, found):
            yield finding.under(f"extensions.configs[{EXTENSION}]")
    removes = any(one.direction.remove_accept_encoding_header for one in found)
    for one in found:
        # Only the last one may hide accept-encoding from the service, or the others would not see it either.
        one.direction.remove_accept_encoding_header = removes and one is found[-1]
        yield _build_filter(one)


def _check_gzip(gzip: Any) -> Iterator[Finding]:
    for name, least, most in (("memory_level", 1, 9), ("window_bits", 9, 15)):
        if gzip.HasField(name) and not least <= getattr(gzip, name).value <= most:
            yield error(field_path(gzip, name, "gzip"), f"must be between {least} and {most}")
    yield from refuse_enum(gzip, "compression_level", "gzip")
    yield from refuse_enum(gzip, "compression_strategy", "gzip")
    yield from _check_types(gzip.content_type, "gzip.contentType")


def _check_types(types: Iterable[str], path: str) -> Iterator[Finding]:
    for index, content_type in enumerate(types):
        if not content_type or value_fault(content_type):
            yield error(f"{path}[{index}]", f"{quote(content_type)} is no media type, like text/html")


def _build_gzip(gzip: envoy_gzip_pb2.Gzip) -> Any:
    library = gzip_pb2.Gzip(
        compression_level=_LEVELS[gzip.compression_level], compression_strategy=_STRATEGIES[gzip.compression_strategy]
    )
    for name in ("memory_level", "window_bits"):
        if gzip.HasField(name):
            getattr(library, name).value = getattr(gzip, name).value
    return library


def _direction_of_gzip(gzip: envoy_gzip_pb2.Gzip) -> Any:
    direction = compressor_pb2.Compressor.ResponseDirectionConfig(
        disable_on_etag_header=gzip.disable_on_etag_header,
        remove_accept_encoding_header=gzip.remove_accept_encoding_header,
    )
    direction.common_config.content_type.extend(gzip.content_type)
    if gzip.HasField("content_length"):
        direction.common_config.min_content_length.value = gzip.content_length.value
    return direction


def _parse_extension(written: Mapping[str, Any], out: list[_Compressor]) -> Iterator[Finding]:
    for name in sorted(written):
        if name not in _LIBRARIES:
            yield error(name, f"is no way to compress that is known here; these are {', '.join(sorted(_LIBRARIES))}")
            continue
        findings = [*_check_library(name, written[name])]
        yield from findings
        if not findings:
            out.append(_Compressor(name, _build_library(name, written[name]), _direction_of(written[name])))


_LIBRARIES: Final[Mapping[str, tuple[Callable[[], Any], Mapping[str, tuple[str, int, int]]]]] = {
    "brotli": (brotli_pb2.Brotli, {"quality": ("quality", 0, 11), "windowBits": ("window_bits", 10, 24)}),
    "zstd": (zstd_pb2.Zstd, {"compressionLevel": ("compression_level", 1, 22)}),
}
"""By name Envoy's message, and for each number its field and its limits."""


def _check_library(name: str, wanted: Any) -> Iterator[Finding]:
    if not isinstance(wanted, dict):
        yield error(name, "must be a mapping; {} for the defaults")
        return
    numbers = {**_LIBRARIES[name][1], "contentLength": ("", 1, 2**32 - 1)}
    for key, value in sorted(wanted.items()):
        if key in numbers:
            _, least, most = numbers[key]
            if isinstance(value, bool) or not isinstance(value, float) or value % 1 or not least <= value <= most:
                yield error(f"{name}.{key}", f"must be a whole number between {least} and {most}")
        elif key == "contentType":
            yield from _check_list(value, f"{name}.{key}")
        elif key in _COMMON_KEYS:
            if not isinstance(value, bool):
                yield error(f"{name}.{key}", "must be true or false")
        else:
            known = ", ".join(sorted({*numbers, *_COMMON_KEYS}))
            yield error(f"{name}.{key}", f"is not known; what can be set is {known}")


def _check_list(value: Any, path: str) -> Iterator[Finding]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        yield error(path, "must be a list of media types, like [text/html]")
    else:
        yield from _check_types(value, path)


def _build_library(name: str, wanted: Mapping[str, Any]) -> Any:
    build, numbers = _LIBRARIES[name]
    library = build()
    for key, (field, _, _) in numbers.items():
        if key in wanted:
            getattr(library, field).value = int(wanted[key])
    return library


def _direction_of(wanted: Mapping[str, Any]) -> Any:
    direction = compressor_pb2.Compressor.ResponseDirectionConfig(
        disable_on_etag_header=wanted.get("disableOnEtagHeader", False),
        remove_accept_encoding_header=wanted.get("removeAcceptEncodingHeader", False),
    )
    direction.common_config.content_type.extend(wanted.get("contentType", ()))
    if "contentLength" in wanted:
        direction.common_config.min_content_length.value = int(wanted["contentLength"])
    return direction


def _build_filter(one: _Compressor) -> StagedFilter:
    gzip = one.name == _GZIP_NAME
    config = compressor_pb2.Compressor(response_direction_config=one.direction, choose_first=not gzip)
    config.compressor_library.name = one.name
    config.compressor_library.typed_config.CopyFrom(typed_config(one.library))
    name = FILTER if gzip else f"{FILTER}.{one.name}"
    built = http_connection_manager_pb2.HttpFilter(name=name, typed_config=typed_config(config))
    return StagedFilter(Stage.FAULT, built)
