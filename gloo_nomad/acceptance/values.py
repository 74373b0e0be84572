"""Checks of single values, made from the rules of a field of Envoy's API.

The kinds of rules that Envoy's API uses are here, and no others (a test looks through the whole API).
"""

import operator
import re
from collections.abc import Callable
from typing import Any, Final

import re2
from google.protobuf.descriptor import FieldDescriptor

Check = Callable[[Any], str]
"""Why a value breaks a rule, or "" if it does not."""

MAX_DURATION_SECONDS: Final = 9_223_372_035
"""Envoy counts durations in nanoseconds of 64 bits: some 292 years."""

_PATTERNS: Final = {
    (1, True): (r"^:?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+\Z", "is no name of an HTTP header"),
    (1, False): (r"^[^\x00\n\r]*\Z", "must not have a line break or NUL"),
    (2, True): (r"^[^\x00-\x08\x0A-\x1F\x7F]*\Z", "is no value of an HTTP header"),
    (2, False): (r"^[^\x00\n\r]*\Z", "must not have a line break or NUL"),
}
"""By well-known pattern (1 HTTP_HEADER_NAME, 2 HTTP_HEADER_VALUE), and whether it is meant strictly."""


def value_check(rules: Any, field: FieldDescriptor) -> Check | None:
    """The check of one value of a field, None when it has no rule; a wrapper is checked by what it holds."""
    type_name = field.message_type.full_name if field.message_type is not None else ""
    if type_name == "google.protobuf.Duration":
        return _duration_check(rules.duration)
    kind = rules.WhichOneof("type")
    if kind in (None, "message", "any"):
        return None
    plain = _scalar_check(kind, getattr(rules, kind), field)
    if plain is None or not type_name:
        return plain
    return lambda wrapper: plain(wrapper.value)


def count_check(rules: Any, suffix: str, unit: str) -> Check | None:
    """The check of ``min_<suffix>`` and ``max_<suffix>``: how many entries, characters or bytes there may be."""
    least = getattr(rules, f"min_{suffix}")
    most = getattr(rules, f"max_{suffix}") if rules.HasField(f"max_{suffix}") else None
    unique = getattr(rules, "unique", False)
    if not least and most is None and not unique:
        return None

    def check(value: Any) -> str:
        if len(value) < least:
            return "must not be empty" if least == 1 else f"needs at least {least} {unit}"
        if unique and len(set(value)) < len(value):
            return f"{unit} must differ from each other"
        return f"may have at most {most} {unit}" if most is not None and len(value) > most else ""

    return check


def _scalar_check(kind: str, rules: Any, field: FieldDescriptor) -> Check | None:
    if kind == "string":
        return _string_check(rules)
    if kind == "bytes":
        return count_check(rules, "len", "bytes")
    if kind == "enum":
        return _enum_check(rules, field)
    if kind == "bool":
        return lambda value: "" if value == rules.const else f"must be {str(rules.const).lower()}"
    return _number_check(rules)


def _enum_check(rules: Any, field: Any) -> Check:
    known = frozenset(field.enum_type.values_by_number)
    refused = frozenset(rules.not_in)

    def check(value: int) -> str:
        if value in refused or (rules.defined_only and value not in known):
            return f"{value} is none of the values that are possible here"
        return ""

    return check


_LIMITS: Final[tuple[tuple[str, str, Callable[[float, float], bool]], ...]] = (
    ("gt", "greater than", operator.gt),
    ("gte", "at least", operator.ge),
    ("lt", "less than", operator.lt),
    ("lte", "at most", operator.le),
)


def _number_check(rules: Any, measure: Callable[[Any], float] = float, unit: str = "") -> Check:
    """The check of limits; *measure* turns a limit or a value into a number in *unit*."""
    limits = [(words, holds, measure(getattr(rules, name))) for name, words, holds in _LIMITS if rules.HasField(name)]

    def check(value: Any) -> str:
        number = measure(value)
        broken = (f"must be {words} {limit:.15g}{unit}" for words, holds, limit in limits if not holds(number, limit))
        return next(broken, "")

    return check


def duration_fault(value: Any) -> str:
    """Why Envoy takes a Duration nowhere, or ""; a negative one makes it refuse the resource, rule or not."""
    if value.seconds < 0 or value.nanos < 0:
        return "must not be negative"
    if value.seconds > MAX_DURATION_SECONDS:
        return f"must be at most {MAX_DURATION_SECONDS}s"
    return ""


def _duration_check(rules: Any) -> Check:
    within = _number_check(rules, lambda value: float(value.seconds + value.nanos / 1e9), "s")

    return lambda value: duration_fault(value) or within(value)


def _string_check(rules: Any) -> Check:
    possible = (
        count_check(rules, "len", "characters"),
        _encoded(count_check(rules, "bytes", "bytes")),
        _pattern_check(rules),
        _affix_check(rules),
    )
    checks = tuple(check for check in possible if check is not None)

    def check(value: str) -> str:
        if rules.ignore_empty and not value:
            return ""
        return next((reason for one in checks if (reason := one(value))), "")

    return check


def _encoded(check: Check | None) -> Check | None:
    return None if check is None else lambda value: check(value.encode())


def _pattern_check(rules: Any) -> Check | None:
    """The well-known patterns are looked for by Python's engine: they are everywhere, and it answers much sooner."""
    if rules.well_known_regex:
        expression, reason = _PATTERNS[rules.well_known_regex, rules.strict]
        known = re.compile(expression)
        return lambda value: "" if known.match(value) else reason
    if not rules.pattern:
        return None
    pattern = re2.compile(rules.pattern)
    return lambda value: "" if pattern.search(value) else f"must match {rules.pattern}"


def _affix_check(rules: Any) -> Check | None:
    allowed = tuple(getattr(rules, "in"))
    if not (rules.prefix or rules.suffix or allowed):
        return None

    def check(value: str) -> str:
        if not value.startswith(rules.prefix) or not value.endswith(rules.suffix):
            return f"must look like {rules.prefix}...{rules.suffix}"
        return "" if not allowed or value in allowed else f"must be one of {', '.join(allowed)}"

    return check
