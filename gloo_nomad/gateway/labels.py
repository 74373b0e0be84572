"""Label selectors: equality by a map, and requirements with operators as Kubernetes defines them.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors: an object without the key
satisfies NotIn, NotEquals and DoesNotExist.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gloo_nomad.reports import Finding, error

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_ONE_VALUE: Final = frozenset({"Equals", "DoubleEquals", "NotEquals", "GreaterThan", "LessThan"})
_SOME_VALUES: Final = frozenset({"In", "NotIn"})

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One expression: the object's label *key* stands in a relation to *values*."""

    key: str
    operator: str
    values: frozenset[str]

    def admits(self, labels: Labels) -> bool:
        """Whether an object with these labels satisfies the requirement."""
        return _TESTS[self.operator](labels.get(self.key), self.values)


def _compares(relation: Callable[[int, int], bool]) -> Callable[[str | None, frozenset[str]], bool]:
    def test(value: str | None, values: frozenset[str]) -> bool:
        if value is None or not _INTEGER.fullmatch(value):
            return False
        return relation(int(value), int(next(iter(values))))

    return test


_TESTS: Final[Mapping[str, Callable[[str | None, frozenset[str]], bool]]] = {
    "Equals": lambda value, values: value in values,
    "DoubleEquals": lambda value, values: value in values,
    "In": lambda value, values: value in values,
    "NotEquals": lambda value, values: value not in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "GreaterThan": _compares(lambda value, bound: value > bound),
    "LessThan": _compares(lambda value, bound: value < bound),
}


def parse_expressions(expressions: Iterable[Any], path: str) -> tuple[Requirement, ...] | Finding:
    """The requirements of a selector; a finding for one that no object could be measured by.

    *expressions* are messages with ``key``, ``operator`` and ``values``; the contract has three such types.
    """
    parsed = []
    for index, expression in enumerate(expressions):
        descriptor = expression.DESCRIPTOR.fields_by_name["operator"].enum_type
        operator = descriptor.values_by_number.get(expression.operator)
        name = operator.name if operator is not None else str(expression.operator)
        reason = _refuse(expression.key, name, list(expression.values))
        if reason:
            return error(f"{path}[{index}]", reason)
        parsed.append(Requirement(expression.key, name, frozenset(expression.values)))
    return tuple(parsed)


def _refuse(key: str, operator: str, values: list[str]) -> str:
    if operator not in _TESTS:
        return f"unknown operator {operator}; use one of {', '.join(_TESTS)}"
    if not key:
        return "key is required"
    if operator in _ONE_VALUE and len(values) != 1:
        return f"{operator} takes exactly one value, found {len(values)}"
    if operator in _SOME_VALUES and not values:
        return f"{operator} takes at least one value"
    if operator in {"Exists", "DoesNotExist"} and values:
        return f"{operator} takes no values, found {len(values)}"
    if operator in {"GreaterThan", "LessThan"} and not _INTEGER.fullmatch(values[0]):
        return f"{operator} takes an integer, found {values[0]!r}"
    return ""


def admits(requirements: Iterable[Requirement], labels: Labels) -> bool:
    """Whether labels satisfy all requirements."""
    return all(requirement.admits(labels) for requirement in requirements)


def contains(labels: Labels, wanted: Iterable[tuple[str, str]]) -> bool:
    """Whether labels have all the wanted pairs."""
    return all(labels.get(key) == value for key, value in wanted)


EVERYWHERE: Final = "*"


def in_namespaces(namespace: str, wanted: frozenset[str]) -> bool:
    """Whether a namespace is among the wanted ones; ``*`` stands for all."""
    return EVERYWHERE in wanted or namespace in wanted
