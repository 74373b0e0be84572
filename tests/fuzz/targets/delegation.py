"""Virtual services and route tables of any text: whatever they say of each other, the answer is bounded."""

from typing import Final

from gloo_nomad.resources import ROUTES
from tests.fuzz.world import translate

_SEPARATOR: Final = "\n---\n"
_MOST_OBJECTS: Final = 8
_MOST_BYTES: Final = 64 * 1024 * 1024


def fuzz(data: bytes) -> None:
    """Objects apart by ``---``: the virtual service ``vs``, and route tables ``a``, ``b`` ..."""
    texts = data.decode(errors="replace").split(_SEPARATOR)[:_MOST_OBJECTS]
    tables = [("RouteTable", chr(ord("a") + number), text) for number, text in enumerate(texts[1:])]
    found = translate([("VirtualService", "vs", texts[0]), *tables])
    for problem in found.problems:
        assert problem.message
        assert "\n" not in problem.message
    for snapshot in found.xds.values():
        assert sum(len(resource.body) for resource in snapshot.of(ROUTES).values()) < _MOST_BYTES
