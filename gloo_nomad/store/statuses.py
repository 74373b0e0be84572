"""What became of each object, as it is written into the object itself.

Shapes and texts are the reference's, so that ``glooctl`` shows them: errors make an object Rejected, warnings alone
Warning; the reason counts the errors and lists the warnings after them; Gateways, VirtualServices and RouteTables carry
a sub-status for each proxy they are part of. An object answers for its own mistakes and for no other's.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gloo_nomad.api.kinds import KINDS, StatusStyle
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.claims import NO_CLAIMS, Claims, details_for, stored_claims

REPORTER: Final = "gloo"
MAX_REASON_BYTES: Final = 1024
MAX_SUBRESOURCES: Final = 100

STATES: Final = ("Pending", "Accepted", "Rejected", "Warning")
"""By their numbers."""
Status = dict[str, Any]


def build_status(
    problems: Iterable[Problem], proxies: Iterable[Ref] = (), claimed: Claims = NO_CLAIMS, *, truncate: bool = True
) -> Status:
    """The status of one object from its problems, the proxies that it is part of, and its later claims."""
    distinct = list(dict.fromkeys(problems))
    errors = [str(problem) for problem in distinct if problem.severity is Severity.ERROR]
    warnings = [str(problem) for problem in distinct if problem.severity is Severity.WARNING]
    state = "Rejected" if errors else "Warning" if warnings else "Accepted"
    status: Status = {"state": state}
    reason = _reason(errors, warnings)
    if reason:
        status["reason"] = _cut(reason) if truncate else reason
    status["reportedBy"] = REPORTER
    names = [f"*v1.Proxy.{proxy.name}_{proxy.namespace}" for proxy in sorted(set(proxies))]
    if names:
        kept = names[:MAX_SUBRESOURCES] if truncate else names
        status["subresourceStatuses"] = {name: {"state": state, "reportedBy": REPORTER} for name in kept}
    details = details_for(claimed, (problem.path for problem in distinct if problem.severity is Severity.ERROR))
    if details:
        status["details"] = details
    return status


def build_single_status(problems: Iterable[Problem], *, truncate: bool = True) -> Status:
    """The old-style status of a RateLimitConfig."""
    distinct = list(dict.fromkeys(problems))
    errors = [str(problem) for problem in distinct if problem.severity is Severity.ERROR]
    status: Status = {"state": "REJECTED" if errors else "ACCEPTED"}
    if distinct:
        message = "; ".join(str(problem) for problem in distinct)
        status["message"] = _cut(message) if truncate else message
    return status


def _reason(errors: list[str], warnings: list[str]) -> str:
    text = ""
    if errors:
        plural = "" if len(errors) == 1 else "s"
        text = f"{len(errors)} error{plural} occurred:\n" + "".join(f"\t* {line}\n" for line in errors) + "\n"
    if warnings:
        text += "warning: \n  " + "\n".join(warnings)
    return text


def _cut(text: str) -> str:
    return text.encode()[:MAX_REASON_BYTES].decode(errors="ignore")


def is_same(stored: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether a stored status says the same: state by name or number, absent fields empty."""
    if not isinstance(stored, Mapping):
        return False
    return _normal(stored) == _normal(wanted)


def _normal(status: Mapping[str, Any]) -> tuple[Any, ...]:
    state = status.get("state", "Pending")
    if type(state) is int and 0 <= state < len(STATES):
        state = STATES[state]
    children = status.get("subresourceStatuses", status.get("subresource_statuses")) or {}
    nested = {}
    if isinstance(children, Mapping):
        nested = {str(key): _normal(child) for key, child in children.items() if isinstance(child, Mapping)}
    reported_by = status.get("reportedBy", status.get("reported_by", ""))
    claims = stored_claims({"": status})
    return state, status.get("reason", status.get("message", "")), reported_by, nested, claims


def group_by_object(problems: Iterable[Problem]) -> dict[ObjectRef, list[Problem]]:
    """Problems by the object they are said to."""
    grouped: dict[ObjectRef, list[Problem]] = {}
    for problem in problems:
        grouped.setdefault(problem.ref, []).append(problem)
    return grouped


def status_of(
    ref: ObjectRef,
    problems: Iterable[Problem],
    proxies: Iterable[Ref],
    claimed: Claims = NO_CLAIMS,
    *,
    truncate: bool = True,
) -> Status:
    """The status of an object in the style of its kind."""
    if KINDS[ref.kind].status is StatusStyle.SINGLE:
        return build_single_status(problems, truncate=truncate)
    return build_status(problems, proxies, claimed, truncate=truncate)
