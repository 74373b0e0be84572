"""Which kinds have a metric of their statuses, and with which labels: ``configStatusMetricLabels``.

A label's value is read by a path as kubectl has it, of which this is enough: ``{.metadata.name}``, ``['team']`` for
what has dots in it (``{.metadata.labels['example.com/team']}``), and ``[0]``. Braces and ``$`` may be left out.
https://kubernetes.io/docs/reference/kubectl/jsonpath/
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS, SECRET, Kind
from gloo_nomad.reports import Finding, warning

FIELD: Final = "observabilityOptions.configStatusMetricLabels"
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PART: Final = re.compile(r"\.([\w-]+)|\['([^']*)'\]|\[(\d{1,6})\]")
_HAVING: Final = ("Gateway", "RouteTable", "VirtualService", "Proxy", "Secret", "Upstream", "UpstreamGroup")

Path = tuple[str | int, ...]
Labels = Mapping[str, Path]


def kind_key(kind: Kind) -> str:
    """How a kind is named there: ``VirtualService.v1.gateway.solo.io``."""
    return f"{kind.name}.{kind.version}.{kind.group}"


_KINDS: Final = {kind_key(KINDS[name]): KINDS[name] for name in _HAVING}


def parse_path(text: str) -> Path | None:
    """The steps of a path; None if it is none."""
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1].strip()
    inner = inner.removeprefix("$")
    steps: list[str | int] = []
    position = 0
    while position < len(inner):
        found = _PART.match(inner, position)
        if found is None:
            return None
        name, quoted, index = found.groups()
        steps.append(int(index) if index is not None else name if name is not None else quoted)
        position = found.end()
    return tuple(steps) or None


def find_value(message: Any, path: Path) -> str:
    """What stands there in an object, as text; "" if nothing does, or more than one value."""
    for step in path:
        message = _step(message, step)
    if isinstance(message, bool):
        return str(message).lower()
    return str(message) if isinstance(message, str | int | float) else ""


def _step(value: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return value[step] if hasattr(value, "__getitem__") and hasattr(value, "append") and step < len(value) else None
    if hasattr(value, "DESCRIPTOR"):
        names = {item.camelcase_name: item.name for item in value.DESCRIPTOR.fields}
        return getattr(value, names[step]) if step in names else None
    return value[step] if hasattr(value, "keys") and step in value else None


def status_labels(message: settings_pb2.Settings) -> Mapping[Kind, Labels]:
    """The kinds with a metric, and its labels; what cannot be used is left out."""
    found: dict[Kind, Labels] = {}
    for key, labels in message.observabilityOptions.configStatusMetricLabels.items():
        if key in _KINDS:
            kind = _KINDS[key]
            paths = {name: parse_path(text) for name, text in sorted(labels.labelToPath.items())}
            found[kind] = {name: path for name, path in paths.items() if not _fault(kind, name, path) and path}
    return found


def label_findings(message: settings_pb2.Settings) -> Iterator[Finding]:
    """A warning for each label that is left out."""
    for key, labels in sorted(message.observabilityOptions.configStatusMetricLabels.items()):
        if key not in _KINDS:
            yield warning(f"{FIELD}[{key}]", f"is no kind with such a metric; these are {', '.join(_KINDS)}")
            continue
        for name, text in sorted(labels.labelToPath.items()):
            if fault := _fault(_KINDS[key], name, parse_path(text)):
                yield warning(f"{FIELD}[{key}].labelToPath[{name}]", fault)


def _fault(kind: Kind, name: str, path: Path | None) -> str:
    if not _NAME.fullmatch(name) or name.startswith("__"):
        return "is no name of a label in Prometheus"
    if path is None:
        return "must be a path like {.metadata.name} or {.metadata.labels['example.com/team']}"
    if kind is SECRET and path[0] != "metadata":
        return "of a Secret only what is below metadata may be a label"
    return ""
