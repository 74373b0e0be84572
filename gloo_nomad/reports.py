"""Errors as values: what is wrong with an object, said to the object.

A user's mistake never raises. A stage returns its result and the problems it met; the problems
reach the object's status, the admin page, the command line and a metric.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from gloo_nomad.api.refs import ObjectRef


class Severity(IntEnum):
    """How much of the object is affected."""

    WARNING = 1
    """Served, though not all of it means what was written."""
    ERROR = 2
    """Rejected: this part is not served, or its last good version is."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one object.

    ``path`` is the field as the user writes it (``virtualHost.routes[2].options.timeout``), empty when the object as
    a whole is meant; ``message`` says what is wrong and what helps.
    """

    severity: Severity
    ref: ObjectRef
    path: str
    message: str
    closed: bool = False
    """Whether the last good version must not be served either: it may be open where the new one asks for protection."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


Problems = tuple[Problem, ...]


def describe_problem(problem: Problem) -> dict[str, str]:
    """A problem as JSON, the same for the admin pages, the REST API and the command line."""
    return {
        "severity": problem.severity.name.lower(),
        "kind": problem.ref.kind,
        "namespace": problem.ref.namespace,
        "name": problem.ref.name,
        "path": problem.path,
        "message": problem.message,
    }


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem whose object is known to the caller only; ``path`` is relative to what was handed over."""

    severity: Severity
    path: str
    message: str
    closed: bool = False
    """As in ``Problem``."""

    def under(self, path: str) -> "Finding":
        """The same finding, its path put behind another one."""
        joined = f"{path}.{self.path}" if path and self.path and not self.path.startswith("[") else path + self.path
        return Finding(self.severity, joined, self.message, self.closed)

    def on(self, ref: ObjectRef, path: str = "") -> Problem:
        """The finding as a problem of an object."""
        moved = self.under(path) if path else self
        return Problem(self.severity, ref, moved.path, self.message, self.closed)


Findings = Iterable[Finding]


def error(path: str, message: str) -> Finding:
    """Rejects what was handed over."""
    return Finding(Severity.ERROR, path, message)


def unprotected(path: str, message: str) -> Finding:
    """Rejects what asks for a protection that it would not have; its last good version is not served either."""
    return Finding(Severity.ERROR, path, message, closed=True)


def warning(path: str, message: str) -> Finding:
    """Leaves what was handed over in service."""
    return Finding(Severity.WARNING, path, message)


def is_rejected(findings: Iterable[Finding | Problem]) -> bool:
    """Whether there is an error among them."""
    return any(finding.severity >= Severity.ERROR for finding in findings)
