"""One type on a delta stream as a state machine: what the client holds, wants and is to be sent.

From Envoy's documentation, "xDS REST and gRPC protocol", sections "Incremental xDS" and "Resource warming".
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from gloo_nomad.resources import CLUSTER, LISTENER
from gloo_nomad.xds.ledger import Answer, Nack, Sent
from gloo_nomad.xds.node_view import NodeView
from gloo_nomad.xds.session import PART_BYTES, Lane, check_names
from gloo_nomad.xds.subscription import Subscription
from gloo_nomad.xds.wire import Outgoing, Wire

_TOLD_ABSENT: Final = ""
_APPLIED_ONE_BY_ONE: Final = frozenset({CLUSTER, LISTENER})
"""Envoy takes the good ones of a response, and names the others. Of any other type it takes none, or the first few."""
ON_ITS_WAY: Final = "?"
"""Stands for the version of a resource that the client will have in a moment and the server no longer knows."""


class DeltaLane(Lane):
    """One type on a delta stream.

    A name is in at most one of ``_updates``, ``_removals`` and ``_answers``, as its newest state demands, so that a
    slow reader costs a set of names, whatever happens meanwhile.
    """

    def __init__(self, type_url: str, view: NodeView, part_bytes: int = PART_BYTES) -> None:
        super().__init__(type_url, view)
        self.subscription = Subscription()
        self._part_bytes = part_bytes
        self._known: dict[str, str] = {}
        """Name -> version that the client was last sent or said it holds."""
        self._forced: set[str] = set()
        """Names to be sent even if the client has that version."""
        self._updates: set[str] = set()
        self._removals: set[str] = set()
        self._answers: set[str] = set()
        """Names that were asked for and do not exist."""
        self._greets = False
        """Whether the client waits for a first response even if it is empty."""
        self._before: dict[str, str] = {}
        """Of what is on its way: the version that the client has until then."""
        self._apart: deque[frozenset[str]] = deque()
        """What was rejected together is tried again in parts, until it is known which one is at fault."""
        self.replaced: tuple[str, ...] = ()
        """Resources of the last response of which the client had another version before."""

    def subscribe(self, subscribe: Collection[str], unsubscribe: Collection[str], held: Mapping[str, str]) -> None:
        """Takes the names of a request over.

        ``held`` is what the client has from an earlier stream, name to version; only a first request says it.
        """
        check_names(subscribe, len(self.subscription.names))
        first = not self.subscription.started
        if first:
            self._known = {name: version for name, version in held.items() if version != _TOLD_ABSENT}
        change = self.subscription.change(subscribe, unsubscribe)
        self._give_up(change.given_up)
        if first or change.wildcard_ended:
            self._drop(
                name
                for name in {*self._known, *self._updates, *self._forced, *self._removals, *self._answers}
                if not self.subscription.covers(name)
            )
        self._ask(name for name in change.asked if not (first and name in self._known))
        self._mark(change.asked)
        if change.wildcard_began:
            self._greets = not self._known
            self._known = {**dict.fromkeys(self.ledger.unanswered_names(), ON_ITS_WAY), **self._known}
            self._mark({*self.view.wires(self.type_url), *self._known})

    def _give_up(self, names: Iterable[str]) -> None:
        """A name that the wildcard still covers is answered with its state, any other is forgotten."""
        if self.subscription.wildcard:
            self._ask(names)
        else:
            self._drop(names)

    def _ask(self, names: Iterable[str]) -> None:
        for name in names:
            self._forced.add(name)
            self._mark((name,))

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._known.pop(name, None)
            self.ledger.forget(name)
            for pending in (self._forced, self._updates, self._removals, self._answers):
                pending.discard(name)

    def _mark(self, names: Iterable[str]) -> None:
        """Decides for each name what its newest state demands to be sent."""
        wires, known, forced = self.view.wires(self.type_url), self._known, self._forced
        withheld = self.view.withheld(self.type_url)
        for name in names:
            self._updates.discard(name)
            self._removals.discard(name)
            self._answers.discard(name)
            wire = wires.get(name)
            if name in withheld and (self.holds(name) or name not in self.subscription.names):
                continue
            if wire is not None:
                if name in forced or known.get(name) != wire.version:
                    self._updates.add(name)
            elif name in forced:
                self._answers.add(name)
            elif self.holds(name):
                self._removals.add(name)

    def changed(self, names: Collection[str]) -> None:
        """Looks at those of the names that the client wants."""
        wildcard, wanted = self.subscription.wildcard, self.subscription.names
        covered = names if wildcard else [name for name in names if name in wanted]
        for name in self.ledger.rejected.keys() & covered if self.ledger.rejected else ():
            self._look_again(name)
        self._mark(covered)

    def _look_again(self, name: str) -> None:
        """What was rejected is another or gone: the client is told, even if it should have that version, or none."""
        if name in self.view.wires(self.type_url):
            self._forced.add(name)
        else:
            self._known[name] = ON_ITS_WAY

    def resend(self, names: Iterable[str]) -> None:
        """Sends resources again that the client has: what they belong to has changed."""
        wires = self.view.wires(self.type_url)
        self._ask(name for name in names if name in wires and self.subscription.covers(name))

    def holds(self, name: str) -> bool:
        """Whether the client has some version of a resource, or will have when what is on its way has come."""
        return self._known.get(name, _TOLD_ABSENT) != _TOLD_ABSENT

    def settle(self, nonce: str, error: str | None, now: float) -> Answer | None:
        """Takes an answer over; a rejection is reported only when it is known whose it is."""
        sent = self.ledger.sent(nonce)
        answer = self.ledger.settle(nonce, error, now)
        if sent is None or answer is None:
            return answer
        if answer.nack is not None:
            return self._rejected(sent, answer, answer.nack)
        self.view.accept(self.type_url, sent.pairs)
        if not self.ledger.unanswered:
            self._before.clear()
        return answer

    def _rejected(self, sent: Sent, answer: Answer, nack: Nack) -> Answer | None:
        """The client has what it had before; what is not at fault is sent again if Envoy did not take it."""
        applied = self.type_url in _APPLIED_ONE_BY_ONE and nack.named
        found = applied or len(nack.names) <= 1
        others = [name for name in sent.names if name not in nack.names]
        self._restore(nack.names if applied else sent.names)
        if applied:
            self.view.accept(self.type_url, [pair for pair in sent.pairs if pair[0] not in nack.names])
        elif sent.names:
            removed = [name for name in sent.removed if self.subscription.covers(name)]
            self._known.update(dict.fromkeys(removed, ON_ITS_WAY))
            half = len(sent.names) // 2
            self._try_again([others] if found else [sent.names[:half], sent.names[half:]])
            self._mark(removed)
        if found:
            self.view.reject(self.type_url, [pair for pair in sent.pairs if pair[0] in nack.names], nack)
            self._forced.difference_update(self.view.withheld(self.type_url) & set(nack.names))
            self._updates.difference_update(self.view.withheld(self.type_url) & set(nack.names))
            self._mark(self.view.standins(self.type_url).keys() & nack.names)
            return answer
        for name in nack.names:
            self.ledger.forget(name)
        return None

    def _restore(self, names: Iterable[str]) -> None:
        for name in set(names) - self.ledger.unanswered_names():
            before = self._before.pop(name, _TOLD_ABSENT)
            if before != _TOLD_ABSENT:
                self._known[name] = before
            else:
                self._known.pop(name, None)

    def _try_again(self, parts: Iterable[Iterable[str]]) -> None:
        """Sends resources again, each part in a response of its own, before anything else.

        What the client gave up meanwhile is not among them.
        """
        for part in reversed([frozenset(filter(self.subscription.covers, part)) for part in parts]):
            if part:
                self._apart.appendleft(part)
                self._ask(name for name in part if name in self.view.wires(self.type_url))

    def owes_updates(self) -> bool:
        """Whether there is something new or changed to send, or a first response."""
        return bool(self._updates) or self._greets

    def owes_removals(self) -> bool:
        """Whether there is something to take away."""
        return bool(self._removals)

    def owes_answers(self) -> bool:
        """Whether the client asked for what does not exist and was not told yet."""
        return bool(self._answers)

    def take(self, now: float, *, updates: bool, removals: bool) -> Outgoing:
        """A response with as many updates as fit, and with removals if these were the last ones."""
        wires = self._take_updates() if updates else ()
        self.continues = updates and bool(self._updates)
        self._greets = self._greets and not updates
        standins = self.view.standins(self.type_url)
        removed = () if self.continues else self._take_removals(removals=removals)
        nonce = self.ledger.issue_nonce(self.view.serial)
        version = self.view.version(self.type_url)
        names, versions = tuple(wire.name for wire in wires), tuple(wire.version for wire in wires)
        self.ledger.record(Sent(nonce, now, version, names, bool(wires), versions, removed, standins))
        return Outgoing(True, self.type_url, nonce, version, wires, removed)

    def _take_updates(self) -> tuple[Wire, ...]:
        chosen = self._choose()
        self.replaced = tuple(wire.name for wire in chosen if self._holds_other(wire))
        for wire in chosen:
            self._updates.discard(wire.name)
            self._forced.discard(wire.name)
            self._before.setdefault(wire.name, self._known.get(wire.name, _TOLD_ABSENT))
            self._known[wire.name] = wire.version
        return tuple(chosen)

    def _choose(self) -> list[Wire]:
        """The updates of the next response: as many as fit, and what is tried apart alone."""
        while self._apart:
            part = self._apart.popleft() & self._updates
            if part:
                return [self.view.wires(self.type_url)[name] for name in sorted(part)]
        wires, size = self.view.wires(self.type_url), 0
        chosen: list[Wire] = []
        for name in sorted(self._updates):
            wire = wires[name]
            size += wire.size
            if chosen and size > self._part_bytes:
                break
            chosen.append(wire)
        return chosen

    def _holds_other(self, wire: Wire) -> bool:
        return self._known.get(wire.name, _TOLD_ABSENT) not in {_TOLD_ABSENT, wire.version}

    def _take_removals(self, *, removals: bool) -> tuple[str, ...]:
        names = sorted({*self._answers, *self._removals} if removals else self._answers)
        for name in names:
            self._forced.discard(name)
            self._removals.discard(name)
            self.ledger.forget(name)
            self._known.pop(name, None)
            if name in self.subscription.names:
                self._known[name] = _TOLD_ABSENT
        self._answers.clear()
        return tuple(names)

    def subscribed(self) -> tuple[bool, int]:
        """Whether everything is asked for, and how many names are."""
        return self.subscription.wildcard, len(self.subscription.names)
