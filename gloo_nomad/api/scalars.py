"""One value of a document to one value of a message, strictly: text is text and a number is a number.

What protobuf's JSON mapping allows is allowed (whole numbers as text or as ``3.0``, enums by name or number, base64 of
both alphabets), see https://protobuf.dev/programming-guides/json/. Two deviations: durations may also be written as Go
writes them (``500ms``, ``1m30s``), because the objects of Gloo Edge's users do; and NaN and infinity are refused,
because no field of the contract means anything by them.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from gloo_nomad.api.mistakes import FieldError, mismatch, quoted

Parse = Callable[[Any], Any]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_DECIMAL: Final = re.compile(r"-?[0-9]{1,40}(\.[0-9]{0,40})?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]*={0,2}", re.ASCII)
_SECONDS: Final = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{0,9}))?s", re.ASCII)
_GO_DURATION: Final = re.compile(r"([-+]?)((?:[0-9]{1,12}(?:\.[0-9]{0,9})?(?:h|m|s|ms|us|µs|μs|ns))+)", re.ASCII)
_GO_PART: Final = re.compile(r"([0-9]+)(?:\.([0-9]*))?(h|ms|m|s|us|µs|μs|ns)", re.ASCII)
_NANOSECONDS: Final = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ns": 1,
}
_MAX_SECONDS: Final = 315_576_000_000
_MAX_FLOAT: Final = 3.4028234663852886e38
_SHOWN_NAMES: Final = 12


def parse_text(value: Any) -> str:
    """Text; a number is refused with the remedy, because YAML takes ``1.10`` for a number."""
    if type(value) is str:
        if not value.isascii() and _SURROGATE.search(value):
            raise FieldError("contains half of a character (an unpaired surrogate)")
        return value
    error = mismatch("text", value)
    if isinstance(value, int | float):
        error.message += "; put it in quotes"
    raise error


def parse_bool(value: Any) -> bool:
    """``true`` or ``false``."""
    if type(value) is bool:
        return value
    raise mismatch("true or false", value)


def parse_bytes(value: Any) -> bytes:
    """Base64 of either alphabet, padded or not; line breaks are skipped."""
    if type(value) is not str:
        raise mismatch("text in base64", value)
    packed = "".join(value.split())
    if not _BASE64.fullmatch(packed):
        raise FieldError("is not base64")
    bare = packed.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except (binascii.Error, ValueError) as failure:
        raise FieldError("is not base64: its length is wrong") from failure


def integer_parser(low: int, high: int) -> Parse:
    """A parser of whole numbers within bounds, the bounds included."""

    def parse_integer(value: Any) -> int:
        number = value if type(value) is int else _whole(value)
        if low <= number <= high:
            return number
        raise FieldError(f"{quoted(number)} is out of range ({low} to {high})")

    return parse_integer


def _whole(value: Any) -> int:
    if type(value) is str:
        if _INTEGER.fullmatch(value):
            return int(value)
        if not _DECIMAL.fullmatch(value):
            raise FieldError("expected a whole number, found text")
        value = float(value)
    if type(value) is not float:
        raise mismatch("a whole number", value)
    if not value.is_integer():
        raise FieldError(f"expected a whole number, found {value}")
    return int(value)


def float_parser(*, single: bool) -> Parse:
    """A parser of numbers; *single* for 32 bits."""

    def parse_float(value: Any) -> float:
        if type(value) is str and _DECIMAL.fullmatch(value):
            value = float(value)
        if type(value) is not float and type(value) is not int:
            raise mismatch("a number", value)
        if not math.isfinite(value):
            raise FieldError(f"expected a finite number, found {value}")
        if single and abs(value) > _MAX_FLOAT:
            raise FieldError(f"{quoted(value)} is out of range for 32 bits")
        return float(value)

    return parse_float


def enum_parser(numbers: Mapping[str, int]) -> Parse:
    """A parser of enum values by name or by a number that has a name."""
    valid = frozenset(numbers.values())
    known = ", ".join(list(numbers)[:_SHOWN_NAMES]) + (", …" if len(numbers) > _SHOWN_NAMES else "")

    def parse_enum(value: Any) -> int:
        found = numbers.get(value) if type(value) is str else None
        if found is not None:
            return found
        if type(value) is str and _INTEGER.fullmatch(value):
            value = int(value)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and value in valid:
            return value
        if type(value) is str or type(value) is int:
            raise FieldError(f"{quoted(value)} is not one of {known}")
        error = mismatch("a name", value)
        error.message += f"; one of {known}"
        raise error

    return parse_enum


def parse_duration(value: Any) -> dict[str, int]:
    """A span of time as the fields of a ``google.protobuf.Duration``: ``1.5s``, ``500ms``, ``1m30s``."""
    if type(value) is not str:
        error = mismatch("a duration", value)
        error.message += "; write for example 1.5s"
        raise error
    match = _SECONDS.fullmatch(value)
    if match is None:
        return _go_duration(value)
    sign, whole, fraction = match.groups()
    seconds = int(whole)
    nanos = int((fraction or "").ljust(9, "0"))
    return _duration(-1 if sign else 1, seconds, nanos, value)


def _go_duration(value: str) -> dict[str, int]:
    match = _GO_DURATION.fullmatch(value) if len(value) <= 100 else None
    if match is None and value not in {"0", "+0", "-0"}:
        raise FieldError(f"{quoted(value)} is not a duration; write for example 1.5s")
    if match is None:
        return {}
    total = 0
    for whole, fraction, unit in _GO_PART.findall(match[2]):
        scale = _NANOSECONDS[unit]
        total += int(whole) * scale + int((fraction or "0").ljust(9, "0")) * scale // 1_000_000_000
    seconds, nanos = divmod(total, 1_000_000_000)
    return _duration(-1 if match[1] == "-" else 1, seconds, nanos, value)


def _duration(sign: int, seconds: int, nanos: int, value: str) -> dict[str, int]:
    if seconds + (nanos > 0) > _MAX_SECONDS:
        raise FieldError(f"{quoted(value)} is longer than {_MAX_SECONDS}s")
    return {"seconds": sign * seconds, "nanos": sign * nanos}
