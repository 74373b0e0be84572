"""The state of stored objects, by the statuses that stand in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gloo_nomad.api.kinds import SECRET
from gloo_nomad.cli.listing import fetch, storable_kinds
from gloo_nomad.cli.place import Place
from gloo_nomad.cli.standing import INVALID, PENDING, REJECTED, WARNING, standing_of
from gloo_nomad.frontdoor.objects import Stored
from gloo_nomad.sources.files import RULE, Layout, stray_files

OK: Final = "ok"
WARN: Final = "warning"
ERROR: Final = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: str
    subject: str
    message: str


async def check_objects(place: Place, namespace: str = "") -> list[Finding]:
    """A finding for each stored object that is not accepted, and one that counts all.

    Nobody writes statuses into a folder: there only what is unreadable is found.
    """
    stored = await fetch(place, storable_kinds(), namespace)
    findings = [finding for found in stored if (finding := _judge(found)) is not None]
    if place.config_dir is not None:
        findings += _judge_folder(place.config_dir, empty=not stored)
        return findings or [Finding(OK, "objects", f"{len(stored)} looked at, all are readable")]
    if not stored:
        message = f"there is none below {place.root_key}/ in {place}, or the token may not read it (--consul-token)"
        return [Finding(WARN, "objects", message)]
    pending = sum(1 for found in stored if standing_of(found).state == PENDING)
    if pending:
        message = f"{pending} of {len(stored)} have no status yet: the gloo role writes them"
        findings.append(Finding(WARN, "objects", message))
    if not findings:
        findings.append(Finding(OK, "objects", f"{len(stored)} looked at, none has problems"))
    return findings


def _judge_folder(folder: Path, *, empty: bool) -> list[Finding]:
    """What a folder has in places where nobody reads it, or that it has nothing at all."""
    strays = [*stray_files(folder, Layout(storable_kinds())), *(stray_files(folder, Layout((SECRET,))))]
    findings = [Finding(WARN, f"file {name}", f"is not read: {RULE}") for name in dict.fromkeys(strays)]
    if empty and not findings:
        findings.append(Finding(WARN, "objects", f"there is none in {folder}: {RULE}"))
    return findings


def _judge(stored: Stored) -> Finding | None:
    standing = standing_of(stored)
    level = {INVALID: ERROR, REJECTED: ERROR, WARNING: WARN}.get(standing.state)
    if level is None:
        return None
    return Finding(level, f"{stored.kind.name}\n{stored.ref}", f"{standing.state}: {standing.reason}".rstrip(": "))
