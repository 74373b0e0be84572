"""How a stored object is doing, out of the statuses that stand in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gloo_nomad.api.kinds import StatusStyle
from gloo_nomad.frontdoor.objects import Stored
from gloo_nomad.store.statuses import STATES

INVALID: Final = "Invalid"
"""The stored value is no object."""
PENDING: Final = "Pending"
REJECTED: Final = "Rejected"
WARNING: Final = "Warning"
NO_STATUS: Final = ""
"""Objects of this kind have none."""
_WORST: Final = (INVALID, REJECTED, WARNING, PENDING, "Accepted", NO_STATUS)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of an object, and why."""

    state: str
    reason: str = ""


def standing_of(stored: Stored) -> Standing:
    """The worst of all reporters' states."""
    decoded = stored.decode()
    if decoded.rejection is not None:
        path, message = decoded.rejection
        return Standing(INVALID, f"{path}: {message}" if path else message)
    if stored.kind.status is StatusStyle.NONE:
        return Standing(NO_STATUS)
    found = sorted(_standings(decoded.status), key=lambda standing: _WORST.index(standing.state))
    return found[0] if found else Standing(PENDING)


def _standings(statuses: Mapping[str, Any]) -> Iterator[Standing]:
    for status in statuses.values():
        if isinstance(status, Mapping):
            reason = status.get("reason") or status.get("message") or ""
            yield Standing(_state(status.get("state", 0)), str(reason).strip().removeprefix("warning:").strip())


def _state(written: Any) -> str:
    """A state by its name in any case, or by its number."""
    if isinstance(written, int) and 0 <= written < len(STATES):
        return STATES[written]
    named = str(written).capitalize()
    return named if named in STATES else PENDING
