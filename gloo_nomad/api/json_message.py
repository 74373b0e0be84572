"""A document (mappings, lists, text, numbers) to a message, by tables that are made once per message type.

protobuf's own ``json_format`` does the same with poor error texts and at a quarter of the speed. Here the path of an
error is what the user wrote, and the message is built by one call of its constructor.
"""

import difflib
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from envoy.extensions.health_checkers.redis.v3 import redis_pb2
from envoy.extensions.health_checkers.thrift.v3 import thrift_pb2
from google.protobuf import any_pb2, json_format, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gloo_nomad.api.mistakes import FieldError, MapKey, mismatch, quoted
from gloo_nomad.api.scalars import (
    Parse,
    enum_parser,
    float_parser,
    integer_parser,
    parse_bool,
    parse_bytes,
    parse_duration,
    parse_text,
)

M = TypeVar("M", bound=Message)

ANY_TYPES: Final = (redis_pb2.Redis, thrift_pb2.Thrift)
"""Messages of Envoy's that the contract lets people write with an ``@type``: only what is imported can be read."""

_LONGEST_GUESS: Final = 64
"""A longer name is no slip of the pen, and comparing it would cost."""
_LISTED_FIELDS: Final = 12
_MAX_DEPTH: Final = 64

_SCALARS: Final[dict[int, Parse]] = {
    FieldDescriptor.TYPE_STRING: parse_text,
    FieldDescriptor.TYPE_BOOL: parse_bool,
    FieldDescriptor.TYPE_BYTES: parse_bytes,
    FieldDescriptor.TYPE_DOUBLE: float_parser(single=False),
    FieldDescriptor.TYPE_FLOAT: float_parser(single=True),
    FieldDescriptor.TYPE_INT32: integer_parser(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: integer_parser(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: integer_parser(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: integer_parser(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: integer_parser(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: integer_parser(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: integer_parser(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: integer_parser(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: integer_parser(0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: integer_parser(0, 2**64 - 1),
}
_WRAPPERS: Final = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Bool", "Int32", "Int64", "UInt32", "UInt64", "Float", "Double", "String", "Bytes")
)


class _Field(NamedTuple):
    name: str
    parse: Parse
    oneof: str | None
    takes_null: bool


class _Table:
    """What a mapping may hold where a message of one type is expected."""

    __slots__ = ("fields", "listed", "title")

    def __init__(self, descriptor: Any) -> None:
        self.title: str = descriptor.name
        self.listed: list[str] = [field.json_name for field in descriptor.fields if field.name != "namespaced_statuses"]
        self.fields: dict[str, _Field] = {}

    def fill(self, descriptor: Any) -> None:
        for field in descriptor.fields:
            rivals = field.containing_oneof
            entry = _Field(
                field.name,
                _field_parser(field),
                rivals.name if rivals is not None and len(rivals.fields) > 1 else None,
                _is(field, "google.protobuf.Value"),
            )
            self.fields[field.name] = entry
            self.fields[field.json_name] = entry

    def parse(self, value: Any) -> dict[str, Any]:
        """The arguments of the message's constructor."""
        if type(value) is not dict:
            raise mismatch("a mapping", value)
        fields = self.fields
        result: dict[str, Any] = {}
        chosen: dict[str, str] = {}
        for key, item in value.items():
            field = fields.get(key)
            if field is None:
                raise self._unknown(key)
            if item is None and not field.takes_null:
                continue  # null says: not set
            if field.name in result:
                raise self._twice(field, value, key)
            if field.oneof is not None and chosen.setdefault(field.oneof, key) != key:
                raise _at(key, f"only one of {quoted(chosen[field.oneof])} and {quoted(key)} may be set; remove one")
            try:
                result[field.name] = field.parse(item)
            except FieldError as error:
                error.within(key)
                raise
        return result

    def _twice(self, field: _Field, value: dict[str, Any], key: str) -> FieldError:
        first = next(name for name in value if self.fields[name] is field)
        return _at(key, f"{quoted(first)} and {quoted(key)} are the same field; remove one")

    def _unknown(self, key: str) -> FieldError:
        guesses = difflib.get_close_matches(key, self.listed, 1) if len(key) <= _LONGEST_GUESS else []
        if guesses:
            remedy = f"did you mean {quoted(guesses[0])}?"
        elif not self.listed:
            remedy = f"{self.title} has no fields, write {{}}"
        elif len(self.listed) <= _LISTED_FIELDS:
            remedy = f"{self.title} has {', '.join(self.listed)}"
        else:
            remedy = f"{self.title} has no such field"
        return _at(key, f"unknown field; {remedy}")


def build_message(message: type[M], document: dict[str, Any]) -> M:
    """The message that the document describes; raises ``FieldError`` with the path of what is wrong."""
    arguments = _table(message.DESCRIPTOR).parse(document)
    try:
        return message(**arguments)
    except (TypeError, ValueError) as failure:
        raise FieldError(f"cannot be kept: {_one_line(failure)}") from failure


def _at(key: str, message: str) -> FieldError:
    error = FieldError(message)
    error.within(key)
    return error


_TABLES: Final[dict[str, _Table]] = {}


def _table(descriptor: Any) -> _Table:
    known = _TABLES.get(descriptor.full_name)
    if known is not None:
        return known
    table = _Table(descriptor)
    _TABLES[descriptor.full_name] = table  # before it is filled: messages contain themselves
    table.fill(descriptor)
    return table


def _field_parser(field: Any) -> Parse:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_parser(field.message_type)
    parse = _value_parser(field)
    return _list_parser(parse) if field.is_repeated else parse


def _value_parser(field: Any) -> Parse:
    if field.enum_type is not None:
        return enum_parser({value.name: value.number for value in field.enum_type.values})
    if field.message_type is None:
        return _SCALARS[field.type]
    special = _SPECIAL.get(field.message_type.full_name)
    if special is not None:
        return special
    if field.message_type.full_name in _WRAPPERS:
        inner = _SCALARS[field.message_type.fields_by_name["value"].type]
        return lambda value: {"value": inner(value)}
    return _table(field.message_type).parse


def _list_parser(parse: Parse) -> Parse:
    def parse_list(value: Any) -> list[Any]:
        if type(value) is not list:
            raise mismatch("a list", value)
        result: list[Any] = []
        try:
            for item in value:
                result.append(parse(item))  # noqa: PERF401  # its length says which item failed
        except FieldError as error:
            error.within(len(result))
            raise
        return result

    return parse_list


def _map_parser(entry: Any) -> Parse:
    parse_key = _SCALARS[entry.fields_by_name["key"].type]
    if parse_key is parse_bool:
        parse_key = _parse_bool_key
    parse = _value_parser(entry.fields_by_name["value"])

    def parse_map(value: Any) -> dict[Any, Any]:
        if type(value) is not dict:
            raise mismatch("a mapping", value)
        result: dict[Any, Any] = {}
        for key, item in value.items():
            try:
                result[parse_key(key)] = parse(item)
            except FieldError as error:
                error.within(MapKey(key))
                raise
        return result

    return parse_map


def _parse_bool_key(key: str) -> bool:
    if key not in {"true", "false"}:
        raise FieldError("expected true or false as the key")
    return key == "true"


def _library_parser(message: type[Message], shape: type[Any], expected: str) -> Parse:
    """A parser of a well-known type that is rare enough to be left to protobuf."""

    def parse_well_known(value: Any) -> Message:
        if shape is not object and not isinstance(value, shape):
            raise mismatch(expected, value)
        out = message()
        try:
            json_format.ParseDict(value, out, max_recursion_depth=_MAX_DEPTH)
        except (json_format.ParseError, TypeError, ValueError, AttributeError, OverflowError) as failure:
            raise FieldError(f"cannot be read as {expected}: {_one_line(failure)}") from failure
        return out

    return parse_well_known


def _parse_any(value: Any) -> Message:
    if isinstance(value, dict) and not isinstance(value.get("@type"), str):
        raise FieldError(
            'needs "@type", the type of the message, for example type.googleapis.com/google.protobuf.Struct'
        )
    return _any(value)  # type: ignore[no-any-return]


_any: Final = _library_parser(any_pb2.Any, dict, "a mapping with @type")
_SPECIAL: Final[dict[str, Callable[[Any], Any]]] = {
    "google.protobuf.Duration": parse_duration,
    "google.protobuf.Any": _parse_any,
    "google.protobuf.Struct": _library_parser(struct_pb2.Struct, dict, "a mapping"),
    "google.protobuf.ListValue": _library_parser(struct_pb2.ListValue, list, "a list"),
    "google.protobuf.Value": _library_parser(struct_pb2.Value, object, "a value"),
    "google.protobuf.Timestamp": _library_parser(timestamp_pb2.Timestamp, str, "a time like 2026-01-31T12:00:00Z"),
}


def _is(field: Any, full_name: str) -> bool:
    return field.message_type is not None and not field.is_repeated and field.message_type.full_name == full_name


def _one_line(failure: BaseException) -> str:
    return " ".join(str(failure).split())[:200]
