"""What a delta client wants of one type: names, everything, or both.

From Envoy's documentation, "xDS REST and gRPC protocol", section "How the client specifies what resources to return".
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

WILDCARD: Final = "*"


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """What one request changed: names (again) asked for, names given up, and the wildcard's begin or end."""

    asked: tuple[str, ...]
    given_up: tuple[str, ...]
    wildcard_began: bool
    wildcard_ended: bool


class Subscription:
    """The subscription of a delta stream for one type.

    A first request that names nothing asks for everything. Names that are asked for later are added to it, and
    only giving up ``*`` ends it.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.wildcard = False
        self.started = False

    def change(self, subscribe: Collection[str], unsubscribe: Collection[str]) -> SubscriptionChange:
        """Takes the two lists of a request over; a name in both stays asked for."""
        was_wildcard = self.wildcard
        given_up = tuple(name for name in dict.fromkeys(unsubscribe) if name in self.names)
        asked = tuple(name for name in dict.fromkeys(subscribe) if name != WILDCARD)
        self.names.difference_update(given_up)
        self.names.update(asked)
        if WILDCARD in unsubscribe:
            self.wildcard = False
        if WILDCARD in subscribe or not (self.started or subscribe):
            self.wildcard = True
        self.started = True
        return SubscriptionChange(
            asked,
            tuple(name for name in given_up if name not in self.names),
            wildcard_began=self.wildcard and not was_wildcard,
            wildcard_ended=was_wildcard and not self.wildcard,
        )

    def covers(self, name: str) -> bool:
        """Whether the client wants the resource of this name."""
        return self.wildcard or name in self.names
