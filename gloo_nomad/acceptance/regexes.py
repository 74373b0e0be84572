"""Regular expressions as Envoy reads them: RE2, asked of RE2 itself before anything is sent."""

from functools import lru_cache
from typing import Any, Final

import re2

MAX_PROGRAM_SIZE: Final = 20_000
"""How many steps a compiled expression may have; far above what people write, far below what hurts Envoy."""
UNSAID_PROGRAM_SIZE: Final = 80
"""Envoy refuses expressions of more than 100 steps unless the matcher says how many it may have; some slack below,
because two versions of RE2 may count differently."""

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False


@lru_cache(maxsize=4096)
def regex_fault(pattern: str) -> str:
    """Why Envoy would refuse *pattern*, or "" when it takes it.

    RE2 has neither look-around nor back-references (https://github.com/google/re2/wiki/Syntax).
    """
    if not pattern:
        return "the regular expression is empty"
    try:
        steps: int = _compile(pattern).programsize
    except re2.error as refusal:
        reason = refusal.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        return f"is no regular expression of RE2: {text[:200]}"
    if steps > MAX_PROGRAM_SIZE:
        return f"the regular expression is too complex: {steps} steps where {MAX_PROGRAM_SIZE} are allowed"
    return ""


def program_size(pattern: str) -> int:
    """How many steps the compiled expression has; 0 for one that does not compile."""
    try:
        return int(_compile(pattern).programsize)
    except re2.error:
        return 0


@lru_cache(maxsize=1024)
def substitution_fault(pattern: str, substitution: str) -> str:
    r"""Why a substitution never takes place, or "".

    ``\1`` to ``\9`` stand for groups of *pattern*, which is a valid one, ``\0`` for the whole match, ``\\`` for a
    backslash. Envoy loads a substitution that breaks this and then leaves the text as it is.
    """
    groups: int = _compile(pattern).groups
    rest = substitution
    while "\\" in rest:
        following = rest.partition("\\")[2]
        escaped, rest = following[:1], following[1:]
        if escaped == "\\":
            continue
        if not (escaped.isascii() and escaped.isdigit()):
            return "a backslash is followed by the number of a group, or by a backslash to mean itself"
        if int(escaped) > groups:
            return f"\\{escaped} asks for a group that the pattern does not have (it has {groups})"
    return ""


def regex_covers(pattern: str, text: str, *, prefix: bool) -> bool:
    """Whether *pattern* matches *text* as a whole, and with *prefix* also what begins with it.

    The latter is tried with endings that have little in common; a pattern that takes them all takes any.
    """
    try:
        compiled = _compile(pattern)
    except re2.error:
        return False
    endings = ("", "/", "/a/b", "0-_.~", "x" * 64) if prefix else ("",)
    return all(compiled.fullmatch(text + ending) is not None for ending in endings)


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> Any:
    return re2.compile(pattern, _OPTIONS)
