"""Label requirements as one text, in the syntax of Kubernetes: ``app in (a, b), tier != web, !canary, size > 3``.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api.
"""

import re
from typing import Final

from gloo_nomad.gateway.labels import Requirement

MAX_TEXT: Final = 4096
_KEY: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE: Final = r"[A-Za-z0-9._-]*"
_SYNTAX: Final = re.compile(
    rf"\s*(?:!\s*(?P<absent>{_KEY})"
    rf"|(?P<key>{_KEY})(?:\s*(?P<sign>==|=|!=|>|<)\s*(?P<value>{_VALUE})"
    rf"|\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)",
    re.ASCII,
)
_SIGNS: Final = {
    "=": "Equals",
    "==": "DoubleEquals",
    "!=": "NotEquals",
    ">": "GreaterThan",
    "<": "LessThan",
    "in": "In",
    "notin": "NotIn",
}


def parse_requirements(text: str) -> tuple[Requirement, ...]:
    """The requirements, none for an empty text.

    Raises:
        ValueError: the text says something else; the message says from where on.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"the expression is longer than {MAX_TEXT} characters")
    requirements = []
    position = 0
    while position < len(text.rstrip()):
        match = _SYNTAX.match(text, position)
        if match is None or match.end() == position:
            raise ValueError(
                f"cannot read {text[position : position + 40]!r}; write for example: app in (a, b), !canary"
            )
        requirements.append(_build(match))
        position = match.end()
    if text.rstrip().endswith(","):
        raise ValueError("the expression ends with a comma; remove it")
    return tuple(requirements)


def _build(match: re.Match[str]) -> Requirement:
    if match["absent"]:
        return Requirement(match["absent"], "DoesNotExist", frozenset())
    if match["set"]:
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], _SIGNS[match["set"]], values)
    if not match["sign"]:
        return Requirement(match["key"], "Exists", frozenset())
    if match["sign"] in "<>" and not re.fullmatch(r"[0-9]{1,18}", match["value"]):
        raise ValueError(f"{match['key']} is compared with {match['value']!r}, which is no number")
    return Requirement(match["key"], _SIGNS[match["sign"]], frozenset({match["value"]}))
