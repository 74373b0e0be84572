"""``gloo.regexMaxProgramSize``: how many steps a compiled regular expression may have, wherever it stands.

Without it large expressions are allowed up to ``acceptance.regexes.MAX_PROGRAM_SIZE``, and Envoy is told so. With it
each expression says the limit to Envoy, and one above it is refused here, on the object that has it.
https://www.envoyproxy.io/docs/envoy/latest/api-v3/type/matcher/v3/regex.proto
"""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import any_pb2, symbol_database
from google.protobuf.message import Message

from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.acceptance.regexes import program_size
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.messages import TYPE_URL_PREFIX, typed_config
from gloo_nomad.reports import Finding, error

FIELDS: Final = {"gloo.solo.io.GlooOptions": ("regex_max_program_size",)}

_MATCHER: Final = "envoy.type.matcher.v3.RegexMatcher"


def apply_regex_limit(settings: settings_pb2.Settings, out: Any) -> Iterator[Finding]:
    """Tells Envoy the limit with each regular expression in a message, and yields an error for each one above it."""
    if settings.gloo.HasField("regex_max_program_size"):
        yield from _walk(out, settings.gloo.regex_max_program_size.value)


def _walk(out: Any, limit: int) -> Iterator[Finding]:
    if out.DESCRIPTOR.full_name == _MATCHER:
        yield from _limit(out, limit)
    elif isinstance(out, any_pb2.Any):
        yield from _walk_packed(out, limit)
    else:
        for descriptor, value in out.ListFields():
            for inner in _messages(descriptor, value):
                yield from _walk(inner, limit)


def _limit(out: Any, limit: int) -> Iterator[Finding]:
    out.google_re2.max_program_size.value = limit
    steps = program_size(out.regex)
    if steps > limit:
        text = f"the regular expression {quote(out.regex)} has {steps} steps where {limit} are allowed"
        yield error("", f"{text} by gloo.regexMaxProgramSize of the Settings; make it simpler")


def _walk_packed(out: any_pb2.Any, limit: int) -> Iterator[Finding]:
    inner = symbol_database.Default().GetSymbol(out.type_url.removeprefix(TYPE_URL_PREFIX))()
    inner.ParseFromString(out.value)
    yield from _walk(inner, limit)
    out.CopyFrom(typed_config(inner))


def _messages(descriptor: Any, value: Any) -> Iterator[Any]:
    if descriptor.message_type is None:
        return
    if not descriptor.is_repeated:
        yield value
        return
    entries = value.values() if hasattr(value, "values") else value
    yield from (entry for entry in entries if isinstance(entry, Message))
