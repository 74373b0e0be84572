"""Protobuf as this project uses it: bytes that are the same for the same content, Any, durations, matchers."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from envoy.type.matcher.v3 import regex_pb2, string_pb2
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message

from gloo_nomad.acceptance.regexes import MAX_PROGRAM_SIZE, UNSAID_PROGRAM_SIZE, program_size

TYPE_URL_PREFIX = "type.googleapis.com/"


def type_url(message: Message | type[Message]) -> str:
    """The name under which a message travels in an Any."""
    return TYPE_URL_PREFIX + str(message.DESCRIPTOR.full_name)


def to_bytes(message: Message) -> bytes:
    """The message in wire format; the same content always gives the same bytes (maps sorted by key)."""
    return message.SerializeToString(deterministic=True)


def typed_config(message: Message) -> any_pb2.Any:
    """The message packed into an Any, deterministically."""
    return any_pb2.Any(type_url=type_url(message), value=to_bytes(message))


def digest(*parts: bytes) -> bytes:
    """A 16-byte digest of byte strings in their order."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def version_of(*parts: bytes) -> str:
    """A version string for a resource: the hash of its bytes, so that equal bytes have equal versions."""
    return digest(*parts).hex()


def varint(value: int) -> bytes:
    """A non-negative integer in protobuf's base-128 encoding."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


@lru_cache(maxsize=64)
def length_delimited_tag(number: int) -> bytes:
    """The tag of a field of type string, bytes or message."""
    return varint(number << 3 | 2)


def delimited(number: int, payload: bytes) -> bytes:
    """A field of type string, bytes or message in wire format: tag, length, payload.

    Repeated message fields concatenate, which is what lets one changed virtual host be spliced into a
    RouteConfiguration without serialising its neighbours again.
    """
    return length_delimited_tag(number) + varint(len(payload)) + payload


def duration(seconds: float) -> duration_pb2.Duration:
    """A Duration from seconds."""
    nanoseconds = round(seconds * 1_000_000_000)
    return duration_pb2.Duration(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def seconds(value: duration_pb2.Duration) -> float:
    """A Duration in seconds."""
    return value.seconds + value.nanos / 1_000_000_000


def regex_matcher(regex: str) -> Any:
    """A RegexMatcher of Envoy; it matches the whole input, with the RE2 engine.

    A large expression has to say that it may be large: by default Envoy refuses those of more than 100 steps
    (runtime key ``re2.max_program_size.error_level``).
    """
    matcher = regex_pb2.RegexMatcher(regex=regex)
    if program_size(regex) > UNSAID_PROGRAM_SIZE:
        matcher.google_re2.max_program_size.value = MAX_PROGRAM_SIZE
    return matcher


def exact_matchers(values: Iterable[str]) -> list[Any]:
    """One StringMatcher for each value, matching exactly it."""
    return [string_pb2.StringMatcher(exact=value) for value in values]
