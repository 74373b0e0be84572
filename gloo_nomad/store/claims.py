"""Since when an object claims what only one object can have: a domain or server name of a gateway, or an address.

What an object has from its beginning it claims since it was created; what an edit adds, since that edit. So whoever had
a domain first keeps it, even when an older object asks for it later. An object in conflict carries its later claims in
its status (``details.claimedSince``): they survive a restart.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gloo_nomad.api.kinds import GATEWAY, VIRTUAL_SERVICE
from gloo_nomad.api.refs import Ref

Claims = Mapping[str, int]
"""What was claimed later than the object was created, and since when: on the scale of ``Entry.version``."""
NO_CLAIMS: Final[Claims] = {}
ANY_DOMAIN: Final = "*"
LATEST: Final = (1 << 62) - 1
"""Later than any version."""
MAX_STORED: Final = 100
"""How many claims a status carries."""
_DETAIL: Final = "claimedSince"
_CONTESTED: Final = frozenset({"virtualHost.domains", "sslConfig.sniDomains", "bindPort"})
"""The fields that errors about a conflict name."""


def address_claim(address: str, port: int) -> str:
    """How an address to listen on is written in claims."""
    return f"{address}:{port}"


def server_name_claim(name: str) -> str:
    """How a server name of TLS is written in claims, with an empty one for any."""
    return f"sni:{name}"


def server_names(service: Any) -> frozenset[str]:
    """The server names of a virtual service in lower case, an empty one for any; none without TLS."""
    if not service.HasField("ssl_config"):
        return frozenset()
    names = frozenset(name.lower() for name in service.ssl_config.sni_domains)
    return frozenset({""}) if not names or ANY_DOMAIN in names else names


def later_claims(kind: str, before: Any, known: Claims, after: Any, version: int) -> Claims:
    """The claims after an edit at *version* (0 if versions are unknown), where *known* were those before."""
    if kind not in _CLAIMED:
        return NO_CLAIMS
    had = frozenset() if before is None else _claimed(kind, before)
    wanted = _claimed(kind, after)
    added = wanted - had if version else frozenset()
    if not known and not added:
        return NO_CLAIMS
    kept = {claim: since for claim, since in known.items() if claim in wanted}
    return {**kept, **dict.fromkeys(sorted(added), version)} or NO_CLAIMS


def stored_claims(statuses: Mapping[str, Any]) -> Claims:
    """The claims that an object carries in its statuses; whatever else stands there means nothing."""
    found: dict[str, int] = {}
    for status in statuses.values():
        details = status.get("details") if isinstance(status, Mapping) else None
        claims = details.get(_DETAIL) if isinstance(details, Mapping) else None
        for claim, since in claims.items() if isinstance(claims, Mapping) else ():
            if isinstance(claim, str) and type(since) in (int, float) and 0 < since < 1 << 63:
                found[claim] = max(int(since), found.get(claim, 0))
    return found or NO_CLAIMS


def details_for(claims: Claims, error_paths: Iterable[str]) -> dict[str, Any]:
    """What a status says of the claims of an object with errors at these paths: nothing without a conflict."""
    if not claims or _CONTESTED.isdisjoint(error_paths):
        return {}
    return {_DETAIL: {claim: claims[claim] for claim in sorted(claims)[:MAX_STORED]}}


def since(ref: Ref, claim: str, created: Mapping[Ref, int], claimed: Mapping[Ref, Claims]) -> int:
    """Since when an object claims something; 0 if its age is unknown."""
    age = created.get(ref, 0)
    return max(age, claimed.get(ref, NO_CLAIMS).get(claim, 0)) if age else 0


def _claimed(kind: str, message: Any) -> frozenset[str]:
    return frozenset(_CLAIMED[kind](message))


def _domains(service: Any) -> Iterable[str]:
    yield from (domain.lower() for domain in service.virtual_host.domains or (ANY_DOMAIN,))
    yield from map(server_name_claim, server_names(service))


def _address(gateway: Any) -> Iterable[str]:
    return [address_claim(gateway.bind_address, gateway.bind_port)]


_CLAIMED: Final = {VIRTUAL_SERVICE.name: _domains, GATEWAY.name: _address}
