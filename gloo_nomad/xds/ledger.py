"""What one stream was sent of one type and how it answered."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

MOST_UNANSWERED: Final = 64
"""Responses remembered for a client that never answers; the oldest are forgotten beyond it."""

LONGEST_MESSAGE: Final = 8_192
"""Characters kept of what a client says about a rejected response."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A response that waits for its answer; ``at`` in seconds of the stream's clock, ``updates`` if it had any."""

    nonce: str
    at: float
    version: str
    names: tuple[str, ...]
    updates: bool
    versions: tuple[str, ...] = ()
    """Of each of the names."""
    removed: tuple[str, ...] = ()
    standins: Collection[str] = ()
    """Those of the names that came in an earlier version, because the client rejects the present one."""

    @property
    def pairs(self) -> Iterable[tuple[str, str]]:
        """Names with their versions."""
        return zip(self.names, self.versions, strict=True)


@dataclass(frozen=True, slots=True)
class Nack:
    """A rejection: the resources that it names (all of the response if it names none) and the client's words."""

    version: str
    names: tuple[str, ...]
    message: str
    at: float
    named: bool = False
    """Whether the client's words have the names."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request said about an earlier response: accepted, or rejected with a reason."""

    type_url: str
    nack: Nack | None
    recovered: tuple[str, ...] = ()
    """Resources that had been rejected and are accepted now."""


class Ledger:
    """The responses of one type on one stream, in the order in which they were sent."""

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.last_nonce = ""
        self.sent_version = ""
        self.acked_version = ""
        self.rejected: dict[str, Nack] = {}
        """By resource name: what the client does not accept at present."""
        self._unanswered: dict[str, Sent] = {}
        self._serial = -1
        self._count = 0

    def issue_nonce(self, serial: int) -> str:
        """A nonce that this stream has not used for this type.

        It is made of the publication's number and a count, not of chance, so that streams in the same state send
        the same bytes.
        """
        self._count = self._count + 1 if serial == self._serial else 0
        self._serial = serial
        return f"{serial}.{self._count}"

    def record(self, sent: Sent) -> None:
        """Notes a response that is about to be sent."""
        self._unanswered[sent.nonce] = sent
        self.last_nonce, self.sent_version = sent.nonce, sent.version
        if len(self._unanswered) > MOST_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]

    def settle(self, nonce: str, error: str | None, now: float) -> Answer | None:
        """Notes the answer to a response; None if the nonce is stale. Older responses count as superseded."""
        sent = self._unanswered.get(nonce)
        if sent is None:
            return None
        position = list(self._unanswered).index(nonce)
        for old in list(islice(self._unanswered, position + 1)):
            del self._unanswered[old]
        if error is not None:
            return self._reject(sent, error[:LONGEST_MESSAGE], now)
        taken = (name for name in sent.names if name not in sent.standins) if self.rejected else ()
        recovered = tuple(name for name in taken if self.rejected.pop(name, None))
        self.rejected.pop("", None)
        self.acked_version = sent.version
        return Answer(self.type_url, None, recovered)

    def _reject(self, sent: Sent, message: str, now: float) -> Answer:
        named = blamed_names(sent.names, message)
        blamed = named or sent.names
        nack = Nack(sent.version, blamed, message, now, named=bool(named))
        self.rejected.update((name, nack) for name in blamed or ("",) if name not in sent.standins)
        return Answer(self.type_url, nack)

    def sent(self, nonce: str) -> Sent | None:
        """A response that waits for its answer."""
        return self._unanswered.get(nonce)

    def forget(self, name: str) -> None:
        """Drops a rejection of a resource that the client no longer is to have."""
        self.rejected.pop(name, None)

    @property
    def unanswered(self) -> int:
        """How many responses wait for an answer."""
        return len(self._unanswered)

    def unanswered_names(self) -> set[str]:
        """The resources that are on their way to the client."""
        return {name for sent in self._unanswered.values() for name in sent.names}

    def waits(self, now: float, patience: float) -> bool:
        """Whether an answer is expected and not overdue."""
        return any(now < sent.at + patience for sent in self._unanswered.values())

    def waits_for_updates(self, now: float, patience: float) -> bool:
        """The same for responses that carried new or changed resources."""
        return any(sent.updates and now < sent.at + patience for sent in self._unanswered.values())

    def overdue_times(self, patience: float) -> list[float]:
        """When each expected answer becomes overdue."""
        return [sent.at + patience for sent in self._unanswered.values()]


def blamed_names(names: tuple[str, ...], message: str) -> tuple[str, ...]:
    """The resources that an error text names as whole words."""
    return tuple(name for name in names if name and name in message and _is_word(name, message))


def _is_word(name: str, message: str) -> bool:
    start = message.find(name)
    while start >= 0:
        before, after = message[start - 1 : start], message[start + len(name) : start + len(name) + 1]
        if not _continues_name(before) and not _continues_name(after):
            return True
        start = message.find(name, start + 1)
    return False


def _continues_name(character: str) -> bool:
    return character.isalnum() or (character != "" and character in "_-~/")
