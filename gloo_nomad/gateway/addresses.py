"""Addresses of the gateways of one proxy: two of them cannot listen on the same one."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.gateway.domains import age_of
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.claims import Claims, address_claim


class Bound(NamedTuple):
    """Where a gateway listens."""

    ref: ObjectRef
    address: str
    port: int


def find_clashes(
    gateways: Sequence[Bound], created: Mapping[Ref, int], claimed: Mapping[Ref, Claims]
) -> tuple[frozenset[ObjectRef], list[Problem]]:
    """Gateways that are not served because another one had their address first; an error on all that are involved."""

    def age(bound: Bound) -> tuple[int, Ref]:
        return age_of(bound.ref.ref, address_claim(bound.address, bound.port), created, claimed)

    by_port: dict[int, list[Bound]] = {}
    for gateway in gateways:
        by_port.setdefault(gateway.port, []).append(gateway)
    lost: set[ObjectRef] = set()
    problems: list[Problem] = []
    for _, sharing in sorted(by_port.items()):
        served: list[Bound] = []
        for gateway in sorted(sharing, key=age):
            if any(_overlap(gateway.address, other.address) for other in served):
                lost.add(gateway.ref)
            else:
                served.append(gateway)
        problems.extend(_problems(sharing, lost))
    return frozenset(lost), problems


def _problems(sharing: Sequence[Bound], lost: set[ObjectRef]) -> list[Problem]:
    found = []
    for gateway in sharing:
        others = [other for other in sharing if other is not gateway and _overlap(gateway.address, other.address)]
        if others:
            names = ", ".join(sorted(str(bound.ref.ref) for bound in (gateway, *others)))
            outcome = (
                "the one that had it first is served, this one is not" if gateway.ref in lost else "this one is served"
            )
            text = (
                f"bind-address {gateway.address}:{gateway.port} is not unique in a proxy. gateways: {names}; "
                f"{outcome}; choose another bindPort, or other proxyNames"
            )
            found.append(Problem(Severity.ERROR, gateway.ref, "bindPort", text))
    return found


def _overlap(one: str, other: str) -> bool:
    left, right = _parse(one), _parse(other)
    if left is None or right is None:
        return one == other
    if left == right:
        return True
    return _covers(left, right) or _covers(right, left)


def _covers(wildcard: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address) -> bool:
    """``::`` listens for both versions of IP."""
    return wildcard.is_unspecified and (wildcard.version == 6 or other.version == 4)


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None
