"""YAML text to a document and back, on libyaml's events.

PyYAML's loaders build a tree of nodes first and resolve each by YAML 1.1; reading the events is faster, and lets this
module do what a user expects of a configuration file: keys are text as written (``on:`` is not ``true``), a key that
stands twice is an error, ``1e3`` is a number, ``12:30`` and ``2026-01-31`` are text, and what aliases repeat counts.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml
from yaml._yaml import CParser

from gloo_nomad.api.mistakes import DocumentError, FieldError, MapKey, Segment, quoted

MAX_DEPTH: Final = 64
MAX_NODES: Final = 200_000

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_NUMERIC: Final = frozenset("0123456789+-.")
_INTEGER: Final = re.compile(
    r"[-+]?(0|[1-9][0-9_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0b_*[01][01_]*|0o?_*[0-7][0-7_]*)", re.ASCII
)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?", re.ASCII)
_SPECIAL_FLOAT: Final = re.compile(r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)", re.ASCII)
_LONGEST_NUMBER: Final = 40
_SEARCHED_BYTES: Final = 64 * 1024
"""Lines of errors are looked for in texts up to this size; it takes about as long as parsing again."""
_TAG: Final = "tag:yaml.org,2002:"
_QUOTE_ALWAYS: Final = re.compile(
    r"[-+.0-9][-+.:0-9_eExXoObBa-fA-F]*|[yYnN]|=|<<|[-+]?\.(inf|nan)", re.ASCII | re.IGNORECASE
)


def parse_yaml(text: bytes) -> Any:
    """The one document in *text*, as mappings, lists, text and numbers.

    Raises ``DocumentError`` for text that is not YAML or beyond the bounds, ``FieldError`` for a key that stands twice.
    """
    try:
        text.decode()
    except UnicodeDecodeError as failure:
        raise DocumentError(f"not UTF-8 text: byte {failure.start + 1} is {text[failure.start]:#04x}") from failure
    try:
        return _Reader(CParser(text).get_event).document()
    except yaml.YAMLError as failure:
        raise DocumentError(f"not valid YAML: {_explain(failure)}") from failure


class _Reader:
    """Reads one stream of events; recursion is bounded by MAX_DEPTH."""

    __slots__ = ("anchors", "get", "nodes")

    def __init__(self, get: Callable[[], Any]) -> None:
        self.get = get
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.nodes = 0

    def document(self) -> Any:
        get = self.get
        get()  # the stream starts
        if type(get()) is not yaml.DocumentStartEvent:
            return None
        value = self.value(get(), 0)
        get()  # the document ends
        after = get()
        if type(after) is yaml.DocumentStartEvent:
            raise DocumentError(f"line {_line(after)}: a second document begins; one object belongs into one value")
        return value

    def value(self, event: Any, depth: int) -> Any:
        kind = type(event)
        before = self.nodes
        self.nodes = before + 1
        value: Any
        if kind is yaml.ScalarEvent:
            value = event.value if event.implicit[1] else _scalar(event)
        elif kind is yaml.AliasEvent:
            return self.alias(event, depth)
        elif depth >= MAX_DEPTH:
            raise DocumentError(f"line {_line(event)}: nested deeper than {MAX_DEPTH} levels")
        elif event.tag not in {None, "!", f"{_TAG}map", f"{_TAG}seq"}:
            raise _unknown_tag(event)
        elif kind is yaml.MappingStartEvent:
            value = self.mapping(depth + 1)
        else:
            value = self.sequence(depth + 1)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, self.nodes - before, _height(value))
        return value

    def alias(self, event: Any, depth: int) -> Any:
        found = self.anchors.get(event.anchor)
        if found is None:
            raise DocumentError(
                f"line {_line(event)}: the alias *{event.anchor} names nothing that is complete before it"
            )
        value, nodes, height = found
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise DocumentError(f"line {_line(event)}: more than {MAX_NODES} values after resolving aliases")
        if depth + height > MAX_DEPTH:
            raise DocumentError(f"line {_line(event)}: nested deeper than {MAX_DEPTH} levels after resolving aliases")
        return value

    def sequence(self, depth: int) -> list[Any]:
        get = self.get
        result: list[Any] = []
        try:
            while type(event := get()) is not yaml.SequenceEndEvent:
                result.append(self.value(event, depth))
        except FieldError as error:
            error.within(len(result))
            raise
        return result

    def mapping(self, depth: int) -> dict[str, Any]:
        get = self.get
        result: dict[str, Any] = {}
        merged: list[Any] = []
        while type(event := get()) is not yaml.MappingEndEvent:
            if type(event) is not yaml.ScalarEvent:
                raise DocumentError(f"line {_line(event)}: a key must be plain text")
            key = event.value
            if key in result:
                raise _twice(key, event)
            try:
                value = self.value(get(), depth)
            except FieldError as error:
                error.within(key)
                raise
            if key == "<<" and event.implicit[0]:
                merged.append((event, value))
            else:
                result[key] = value
        for event, value in merged:
            result = {**_merge(event, value), **result}
        return result


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag is None or event.implicit[0]:
        return _plain(text)
    if event.tag in {"!", f"{_TAG}str"}:
        return text
    if event.tag in {f"{_TAG}{name}" for name in ("int", "float", "bool", "null")}:
        return _plain(text)
    raise _unknown_tag(event)


def _plain(text: str) -> Any:
    if text[:1] in _NUMERIC:
        return _number(text)
    return _WORDS.get(text, text)


def _number(text: str) -> Any:
    if not text:
        return None
    if len(text) <= _LONGEST_NUMBER:
        if _INTEGER.fullmatch(text):
            return _integer(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            return number if math.isfinite(number) else text
        if _SPECIAL_FLOAT.fullmatch(text):
            return float(text.replace(".", "").lower())
    return text


def _integer(text: str) -> int | str:
    """A whole number; with a prefix (``0x``) and beyond 64 bits it is text, which Go's YAML writes without quotes."""
    digits = text.replace("_", "")
    bare = digits.lstrip("+-")
    octal = bare[:1] == "0" and bare[1:].isdigit()
    number = int(digits, 8 if octal else 0)
    fits = -(1 << 63) <= number < 1 << 64
    return number if fits or bare.isdigit() else text


def _merge(event: Any, value: Any) -> dict[str, Any]:
    """What ``<<`` brings into a mapping: one mapping, or several of which the first wins."""
    sources = value if isinstance(value, list) else [value]
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        if not isinstance(source, dict):
            raise DocumentError(f"line {_line(event)}: << takes a mapping or a list of mappings")
        merged.update(source)
    return merged


def _height(value: Any) -> int:
    """Levels of mappings and lists below and including *value*; only asked for what has an anchor."""
    level, height = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        height += 1
        distinct = {id(item): item for item in level}.values()
        level = [child for item in distinct for child in (item.values() if isinstance(item, dict) else item)]
    return height


def _twice(key: str, event: Any) -> FieldError:
    text = f"the key {quoted(key)} stands twice, the second time in line {_line(event)}; remove one"
    error = FieldError(text, names_line=True)
    error.within(key)
    return error


def _unknown_tag(event: Any) -> DocumentError:
    return DocumentError(f"line {_line(event)}: the tag {quoted(event.tag)} has no meaning here; remove it")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _explain(failure: yaml.YAMLError) -> str:
    mark = getattr(failure, "problem_mark", None) or getattr(failure, "context_mark", None)
    problem = getattr(failure, "problem", None) or getattr(failure, "reason", None) or "cannot be read"
    if mark is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    position = getattr(failure, "position", None)
    return f"byte {position}: {problem}" if position is not None else str(problem)


def line_of(text: bytes, trail: list[Segment]) -> int | None:
    """The line in which the value at *trail* begins; None if that cannot be told, or would cost too much.

    *text* must have been read by ``parse_yaml`` before: PyYAML's own recursion has no bound.
    """
    if len(text) > _SEARCHED_BYTES:
        return None
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    line = None
    for segment in trail:
        child = _child(node, segment)
        if child is None:
            break
        marked, node = child
        line = marked.start_mark.line + 1
    return line


def _child(node: Any, segment: Segment) -> tuple[Any, Any] | None:
    if isinstance(segment, int):
        found = isinstance(node, yaml.SequenceNode) and segment < len(node.value)
        return (node.value[segment], node.value[segment]) if found else None
    name = segment.key if isinstance(segment, MapKey) else segment
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                return key, value
    return None


class _Dumper(yaml.CSafeDumper):
    """Quotes whatever some reader of YAML might not take for text, writes long text as blocks, and never aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: Any, value: str) -> Any:
    style = None
    if _QUOTE_ALWAYS.fullmatch(value):
        style = "'"
    elif "\n" in value.rstrip("\n") and "\t" not in value:
        style = "|"
    return dumper.represent_scalar(f"{_TAG}str", value, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_multi_representer(dict, yaml.CSafeDumper.represent_dict)


def dump_yaml(document: Mapping[str, Any]) -> str:
    """A document as YAML, in the order of its keys."""
    text: str = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
