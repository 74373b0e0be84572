"""How many queries the shards of all kinds may have open at a time.

Consul counts the connection of a blocking KV query until its wait is over, also when the client is gone. So does this:
what was ended takes its place for as long as it may linger.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Connections:
    """Shared by all kinds of a source; each gets what its weight is worth."""

    most: Callable[[], int] = lambda: 0
    """All that there are for shards at this moment; 0: kinds are not cut."""
    clock: Callable[[], float] = time.monotonic
    _open: int = 0
    _lingering: list[float] = field(default_factory=list)
    """Until when ended ones may be counted still."""
    _weights: dict[str, float] = field(default_factory=dict)

    def free(self) -> int:
        """How many may be opened now."""
        now = self.clock()
        self._lingering = [until for until in self._lingering if until > now]
        return max(0, self.most() - self._open - len(self._lingering))

    def exceeded(self) -> bool:
        """Whether more are open than there are: somebody else needs them now."""
        return self._open > self.most()

    def allot(self, kind: str, weight: float) -> int:
        """How many a kind of that weight should have in the long run."""
        self._weights[kind] = weight
        return int(self.most() * weight / max(sum(self._weights.values()), 1.0))

    def forget(self, kind: str) -> None:
        """A kind is not cut any more: the others may have its share."""
        self._weights.pop(kind, None)

    def opened(self, count: int) -> None:
        """So many more are open."""
        self._open += count

    def ended(self, count: int, linger: float) -> None:
        """So many were ended, and may be counted for *linger* seconds more."""
        self._open -= count
        self._lingering.extend([self.clock() + linger] * count)
