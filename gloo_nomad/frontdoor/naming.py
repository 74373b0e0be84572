"""Names of kinds as people type them, and which names an object may be written under."""

import re
from typing import Final

from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.kinds import (
    ARTIFACT,
    AUTH_CONFIG,
    GATEWAY,
    KINDS,
    MATCHABLE_HTTP_GATEWAY,
    MATCHABLE_TCP_GATEWAY,
    RATE_LIMIT_CONFIG,
    ROUTE_OPTION,
    ROUTE_TABLE,
    SETTINGS,
    UPSTREAM,
    UPSTREAM_GROUP,
    VIRTUAL_HOST_OPTION,
    VIRTUAL_SERVICE,
    Kind,
)
from gloo_nomad.api.refs import Ref

ALIASES: Final[dict[str, Kind]] = {
    "gw": GATEWAY,
    "vs": VIRTUAL_SERVICE,
    "rt": ROUTE_TABLE,
    "us": UPSTREAM,
    "ug": UPSTREAM_GROUP,
    "vho": VIRTUAL_HOST_OPTION,
    "vhopt": VIRTUAL_HOST_OPTION,
    "ro": ROUTE_OPTION,
    "rtopt": ROUTE_OPTION,
    "hgw": MATCHABLE_HTTP_GATEWAY,
    "tgw": MATCHABLE_TCP_GATEWAY,
    "ac": AUTH_CONFIG,
    "rlc": RATE_LIMIT_CONFIG,
    "st": SETTINGS,
    "art": ARTIFACT,
}
"""Short names; those that glooctl has mean the same here."""

MAX_NAME: Final = 253
_LABEL: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_PLAIN: Final = re.compile(rf"[^\s/\x00-\x1f\x7f]{{1,{MAX_NAME}}}")
_BY_NAME: Final = {
    **{kind.name.lower(): kind for kind in KINDS.values()},
    **{kind.plural: kind for kind in KINDS.values()},
    **{f"{kind.name.lower()}s": kind for kind in KINDS.values()},
    **ALIASES,
}


def kind_named(name: str) -> Kind | None:
    """The kind that a person means: ``vs``, ``virtualservice``, ``VirtualServices``."""
    return _BY_NAME.get(name.lower())


def is_findable(name: str) -> bool:
    """Whether something may be stored under a name, though it might not be written by this program."""
    return _PLAIN.fullmatch(name) is not None and name not in {".", ".."}


def check_name(ref: Ref) -> Rejection | None:
    """Why an object may not be written under that name; names are DNS-1123 subdomains, as the reference's."""
    for path, value in (("metadata.namespace", ref.namespace), ("metadata.name", ref.name)):
        if len(value) > MAX_NAME or not _SUBDOMAIN.fullmatch(value):
            return Rejection(
                path,
                f'"{value[:60]}" is not a name: use at most {MAX_NAME} lower-case letters, digits, "-" and ".", '
                "with a letter or digit at both ends",
            )
    return None
