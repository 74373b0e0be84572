"""Lines of access logs: a text or a JSON object with commands in it, and the formatters that some commands need.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#command-operators
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3 import extension_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.formatter.metadata.v3 import metadata_pb2
from envoy.extensions.formatter.req_without_query.v3 import req_without_query_pb2
from google.protobuf import struct_pb2

from gloo_nomad.acceptance.formats import format_fault
from gloo_nomad.api.gen import als_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.reports import Finding, error

MAX_DEPTH: Final = 16
"""How deep JSON may be nested; a message that is too deep cannot be read by Envoy at all."""
MAX_PATH_BYTES: Final = 4096
_FORMATTERS: Final = (
    ("%METADATA(", "envoy.formatter.metadata", metadata_pb2.Metadata),
    ("%REQ_WITHOUT_QUERY(", "envoy.formatter.req_without_query", req_without_query_pb2.ReqWithoutQuery),
)


def check_file(sink: als_pb2.FileSink, path: str) -> Iterator[Finding]:
    """What is wrong with a log file; whether Envoy may write it shows only there."""
    if not sink.path or len(sink.path.encode()) > MAX_PATH_BYTES or not sink.path.isprintable():
        yield error(f"{path}.path", "must be the path of a file; /dev/stdout is Envoy's own output")
    if sink.HasField("json_format"):
        yield from _check_struct(sink.json_format, f"{path}.jsonFormat", 1)
    elif fault := format_fault(sink.string_format, log=True):
        yield error(f"{path}.stringFormat", fault)


def build_file(sink: als_pb2.FileSink) -> Any:
    """The log file; without a format, or with an empty one, lines look as Envoy's do."""
    built = file_pb2.FileAccessLog(path=sink.path)
    if sink.HasField("json_format"):
        built.log_format.json_format.CopyFrom(sink.json_format)
        built.log_format.formatters.extend(build_formatters(_struct_texts(sink.json_format)))
    elif sink.string_format:
        built.log_format.text_format_source.inline_string = sink.string_format
        built.log_format.formatters.extend(build_formatters((sink.string_format,)))
    return built


def build_formatters(texts: Iterable[str]) -> list[Any]:
    """The extensions that commands in these texts need."""
    joined = "\n".join(texts)
    return [
        extension_pb2.TypedExtensionConfig(name=name, typed_config=typed_config(kind()))
        for command, name, kind in _FORMATTERS
        if command in joined
    ]


def _check_struct(struct: struct_pb2.Struct, path: str, depth: int) -> Iterator[Finding]:
    for name in sorted(struct.fields):
        yield from _check_value(struct.fields[name], f"{path}[{name[:80]}]", depth)


def _check_value(value: struct_pb2.Value, path: str, depth: int) -> Iterator[Finding]:
    if depth > MAX_DEPTH:
        yield error(path, f"is nested more than {MAX_DEPTH} deep")
        return
    match value.WhichOneof("kind"):
        case "string_value":
            if fault := format_fault(value.string_value, log=True):
                yield error(path, fault)
        case "struct_value":
            yield from _check_struct(value.struct_value, path, depth + 1)
        case "list_value":
            for index, item in enumerate(value.list_value.values):
                yield from _check_value(item, f"{path}[{index}]", depth + 1)


def _struct_texts(struct: struct_pb2.Struct) -> Iterator[str]:
    for name in sorted(struct.fields):
        yield from _value_texts(struct.fields[name])


def _value_texts(value: struct_pb2.Value) -> Iterator[str]:
    if value.HasField("string_value"):
        yield value.string_value
    for item in value.list_value.values:
        yield from _value_texts(item)
    yield from _struct_texts(value.struct_value)
