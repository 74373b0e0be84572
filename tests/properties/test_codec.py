"""The decoder agrees with protobuf's own on everything that is valid, and never fails on anything that is not."""

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gloo_nomad.api import codec, kinds
from gloo_nomad.api.json_message import build_message
from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.mistakes import FieldError

QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
KINDS = st.sampled_from(sorted(kinds.KINDS.values(), key=lambda kind: kind.name))


def scalars(field: Any) -> st.SearchStrategy[Any]:
    """Values of a field that is no message."""
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    for name, (low, high) in INTEGERS.items():
        if field.cpp_type == getattr(field, f"CPPTYPE_{name.upper()}"):
            return st.integers(low, high)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == field.CPPTYPE_STRING:
        return st.binary(max_size=8) if field.type == field.TYPE_BYTES else TEXT
    return NUMBERS


def well_known(out: Any, draw: st.DrawFn) -> bool:
    """Fills the types whose JSON is special; False for all others."""
    name = out.DESCRIPTOR.full_name
    if name == "google.protobuf.Duration":
        sign = draw(st.sampled_from([1, -1]))
        out.seconds = sign * draw(st.integers(0, 10**9))
        out.nanos = sign * draw(st.integers(0, 999_999_999))
    elif name == "google.protobuf.Timestamp":
        out.FromSeconds(draw(st.integers(0, 2**31)))
    elif name == "google.protobuf.Struct":
        out.update(draw(st.dictionaries(TEXT, st.none() | st.booleans() | NUMBERS | TEXT, max_size=2)))
    elif name in {"google.protobuf.Value", "google.protobuf.ListValue"}:
        items: Any = draw(st.lists(st.none() | st.booleans() | TEXT, max_size=2))
        json_format.ParseDict(items, out)
    elif name == "google.protobuf.Any":
        out.Pack(kinds.SECRET.message())
    else:
        return False
    return True


def fill(out: Any, draw: st.DrawFn, depth: int) -> None:
    """Sets some fields of a message, at most *depth* levels deep."""
    if well_known(out, draw):
        return
    fields = [field for field in out.DESCRIPTOR.fields if depth > 0 or field.message_type is None]
    least = min(len(fields), 2 if depth >= 3 else 0)
    for field in draw(st.lists(st.sampled_from(fields), min_size=least, max_size=5, unique=True)) if fields else ():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            fill_map(getattr(out, field.name), field.message_type.fields_by_name, draw, depth)
        elif field.is_repeated:
            fill_list(getattr(out, field.name), field, draw, depth)
        elif field.message_type is None:
            setattr(out, field.name, draw(scalars(field)))
        else:
            getattr(out, field.name).SetInParent()
            fill(getattr(out, field.name), draw, depth - 1)


def fill_map(out: Any, entry: Any, draw: st.DrawFn, depth: int) -> None:
    """Up to two entries of a map."""
    for key in draw(st.lists(scalars(entry["key"]), max_size=2, unique=True)):
        if entry["value"].message_type is None:
            out[key] = draw(scalars(entry["value"]))
        else:
            fill(out[key], draw, depth - 1)


def fill_list(out: Any, field: Any, draw: st.DrawFn, depth: int) -> None:
    """Up to two items of a list."""
    for _ in range(draw(st.integers(0, 2))):
        if field.message_type is None:
            out.append(draw(scalars(field)))
        else:
            fill(out.add(), draw, depth - 1)


@st.composite
def objects(draw: st.DrawFn) -> tuple[Kind, Message]:
    """An object of any kind with any fields."""
    kind = draw(KINDS)
    message = kind.message()
    fill(message, draw, 5)
    return kind, message


@given(objects(), st.booleans())
@QUICK
def test_agrees_with_protobuf(drawn: tuple[Kind, Message], snake_case: bool) -> None:
    """What protobuf writes is read as protobuf reads it, in both spellings."""
    kind, message = drawn
    document = json_format.MessageToDict(message, preserving_proto_field_name=snake_case)

    expected = json_format.ParseDict(document, kind.message())

    assert build_message(kind.message, document) == expected


@given(objects())
@QUICK
def test_text_round_trip(drawn: tuple[Kind, Message]) -> None:
    """Every object survives being written as YAML and as JSON, names and statuses included."""
    kind, message = drawn
    for name in ("namespaced_statuses", "metadata"):
        if name in kind.message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    message.metadata.name, message.metadata.namespace = "a", "b"  # type: ignore[attr-defined]
    document = codec.encode(message)

    for text in (codec.to_yaml(document), codec.to_json(document)):
        decoded = codec.decode(kind, text.encode())
        assert decoded.rejection is None
        assert decoded.message == message


SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | NUMBERS | TEXT
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=10
)


@given(objects(), st.data())
@QUICK
def test_any_value_anywhere(drawn: tuple[Kind, Message], data: st.DataObject) -> None:
    """A valid document with one value replaced by anything is an object, or an error with a path into the document."""
    kind, message = drawn
    document = json_format.MessageToDict(message)
    place: Any = document
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(DOCUMENTS)
            break
        place = place[key]

    error = error_of(kind, document)

    assert error is None or (error.trail and error.message)


def error_of(kind: Kind, document: dict[str, Any]) -> FieldError | None:
    """What the decoder says against a document."""
    try:
        build_message(kind.message, document)
    except FieldError as error:
        return error
    return None


@given(st.binary(max_size=200), KINDS)
@settings(max_examples=500, deadline=None)
def test_any_bytes(text: bytes, kind: Kind) -> None:
    """Whatever bytes a value has, there is an answer."""
    decoded = codec.decode(kind, text)

    assert (decoded.message is None) == (decoded.rejection is not None)


YAML_PIECES = st.sampled_from(
    [
        "metadata",
        "name",
        ":",
        ": ",
        "\n",
        "  ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<",
        "!!str ",
        "'",
        '"',
        "|\n",
        "? ",
    ]
)


@given(st.lists(YAML_PIECES | TEXT, max_size=25).map("".join), KINDS)
@settings(max_examples=500, deadline=None)
def test_any_text(text: str, kind: Kind) -> None:
    """Whatever is almost YAML gets an answer of one line."""
    decoded = codec.decode(kind, text.encode())

    assert decoded.rejection is not None
    assert "\n" not in decoded.rejection.message


@given(DOCUMENTS.filter(lambda document: isinstance(document, dict)))
@settings(max_examples=300, deadline=None)
def test_yaml_keeps_every_document(document: dict[str, Any]) -> None:
    """What is dumped as YAML is read as the same document: text stays text, numbers stay numbers."""
    text = codec.to_yaml(document).encode()

    if document:
        assert codec.parse_document(text) == document
