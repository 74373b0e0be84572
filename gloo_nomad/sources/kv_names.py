"""What all names of a kind say of its shards: which names no shard has read yet, and which it still has.

For a moment both differ whenever a key comes or goes. Where they differ for longer a shard was not woken: the index of
a prefix does not tell that a shorter prefix was deleted with all below it, if one of its own keys was deleted before.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

PATIENCE: Final = 5.0
"""Seconds that a shard may take to read what the names tell."""


@dataclass(slots=True)
class ToldNames:
    """The names that the last answer had and the shards did not (``there``), or the shards had and it did not."""

    _there: dict[str, bool] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)

    def heard(self, names: Iterable[str], known: Collection[str], now: float) -> None:
        """An answer; *known* are the names that the shards have read."""
        there = frozenset(names)
        self._there = {name: name in there for name in there ^ frozenset(known)}
        self._since = {name: self._since.get(name, now) for name in self._there}

    def unread(self, known: Collection[str]) -> list[str]:
        """Names that are there and that no shard has read yet."""
        return [name for name, there in self._there.items() if there and name not in known]

    def overdue(self, known: Collection[str], now: float) -> bool:
        """Whether a shard has not read for too long what an answer told; forgets what was read."""
        self._there = {name: there for name, there in self._there.items() if there != (name in known)}
        self._since = {name: self._since[name] for name in self._there}
        return self.due() <= now

    def due(self) -> float:
        """When to ask whether something is overdue."""
        return min(self._since.values(), default=float("inf")) + PATIENCE
