"""What several options refuse in the same words."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from envoy.type.v3 import percent_pb2

from gloo_nomad.acceptance.regexes import regex_fault, substitution_fault
from gloo_nomad.acceptance.rules import broken_rules
from gloo_nomad.acceptance.values import duration_fault
from gloo_nomad.options.hooks import RouteContext
from gloo_nomad.reports import Finding, error, warning

ONLY_FORWARDED: Final = (
    "works only on a route with a routeAction; a redirect or direct response forwards nothing. "
    "Remove it here, or where this route inherits it from"
)


def refuse_unforwarded(options: Any, names: Iterable[str], context: RouteContext) -> Iterator[Finding]:
    """An error for each of these options that is set on a route without a routeAction."""
    if context.has_route_action:
        return
    for name in names:
        if _is_set(options, name):
            yield error(field_path(options, name), ONLY_FORWARDED)


def refuse_durations(message: Any, names: Iterable[str], path: str = "") -> Iterator[Finding]:
    """An error for each of these durations of *message* that Envoy takes nowhere, such as a negative one."""
    for name in names:
        if message.HasField(name) and (fault := duration_fault(getattr(message, name))):
            yield error(field_path(message, name, path), fault)


def refuse_enum(message: Any, name: str, path: str = "") -> Iterator[Finding]:
    """An error for a number that stands for none of the values of an enum."""
    value = getattr(message, name)
    known = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
    if value not in known:
        names = ", ".join(known[number].name for number in sorted(known))
        yield error(field_path(message, name, path), f"{value} is none of its values; these are {names}")


def refuse_percentage(message: Any, name: str, path: str) -> Iterator[Finding]:
    """An error for a percentage outside of 0 to 100."""
    value = getattr(message, name)
    number = getattr(value, "value", value)
    if not 0 <= number <= 100:
        yield error(field_path(message, name, path), f"must be between 0 and 100, not {number:g}")


def refuse_breaches(message: Any, path: str, *, written: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """An error for each rule of Envoy's API that *message*, one of Envoy's, breaks; for what is packed into an Any.

    *written* says which field of the user a field of Envoy comes from (paths below *path*); others are told as theirs.
    """
    for breach in broken_rules(message):
        known = (written or {}).get(breach.path)
        if known is not None:
            yield error(f"{path}.{known}", breach.reason)
        else:
            yield error(path, f"Envoy refuses it: {breach.path} {breach.reason}")


def check_rewrite(rewrite: Any, path: str) -> Iterator[Finding]:
    """What is wrong with a RegexMatchAndSubstitute; a substitution that never takes place is a warning."""
    pattern = rewrite.pattern.regex
    if fault := regex_fault(pattern):
        yield error(f"{path}.pattern.regex", fault)
    elif fault := substitution_fault(pattern, rewrite.substitution):
        yield warning(f"{path}.substitution", f"{fault}; Envoy leaves such requests as they are")
    if any(character in rewrite.substitution for character in "\r\n\0"):
        yield error(f"{path}.substitution", "must not have a line break or NUL")


def build_percentage(percent: float) -> Any:
    """Envoy's FractionalPercent, in millionths."""
    return percent_pb2.FractionalPercent(
        numerator=round(percent * 10_000), denominator=percent_pb2.FractionalPercent.MILLION
    )


def field_path(message: Any, name: str, path: str = "") -> str:
    """The path of a field as the user writes it, behind another path."""
    written = message.DESCRIPTOR.fields_by_name[name].camelcase_name
    return f"{path}.{written}" if path else str(written)


def _is_set(message: Any, name: str) -> bool:
    descriptor = message.DESCRIPTOR.fields_by_name[name]
    return bool(getattr(message, name)) if descriptor.is_repeated else bool(message.HasField(name))
