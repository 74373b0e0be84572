"""Last good listeners: a Gateway whose edit is rejected keeps its port, with the options that worked.

What is behind the port goes on changing: only the Gateway's own part is the old one. A Gateway that is gone, or that
never worked, is not kept.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from gloo_nomad.api.kinds import GATEWAY, PROXY
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.proxies import Listener, Proxy
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot

Key = tuple[str, str]
_KEPT: Final = frozenset({GATEWAY.name, PROXY.name})


@dataclass(slots=True)
class GoodListeners:
    """Listeners as they were last served, by role and name."""

    listeners: dict[Key, Listener] = field(default_factory=dict)
    held: dict[str, tuple[tuple[Key, Listener], ...]] = field(default_factory=dict)
    """By role those of rejected Gateways: what there is now would not lead to them."""
    memo: Memo = field(default_factory=Memo)
    """Keeps the identity of restored values from round to round."""

    def restore(
        self, proxy: Proxy, served: Collection[str], problems: Iterable[Problem], snapshot: ConfigSnapshot
    ) -> Proxy:
        """The proxy with the listeners of rejected Gateways as they were; *served* names those that are not refused.

        The same proxy when there is nothing to restore. Served listeners are remembered.
        """
        rejected = _rejected_gateways(tuple(problems), snapshot)
        result = [self._restore_one(proxy.role, listener, served, rejected) for listener in proxy.listeners]
        names = {listener.name for listener in result}
        for key, old in sorted(self.listeners.items()):
            if key[0] != proxy.role or key[1] in names:
                continue
            if old.source in rejected:
                result.append(old)
            else:
                del self.listeners[key]
        held = ((key, old) for key, old in self.listeners.items() if key[0] == proxy.role and old.source in rejected)
        self.held[proxy.role] = tuple(held) if rejected else ()
        if len(result) == len(proxy.listeners) and all(
            new is old for new, old in zip(result, proxy.listeners, strict=True)
        ):
            return proxy
        listeners = tuple(sorted(result, key=lambda listener: listener.name))
        return self.memo.get(("proxy", proxy.role), (proxy, *listeners), lambda: replace(proxy, listeners=listeners))

    def sweep(self, roles: Collection[str]) -> None:
        """Ends a round over all proxies: forgets those that are gone, and what is not restored any more."""
        self.memo.sweep()
        for key in [key for key in self.listeners if key[0] not in roles]:
            del self.listeners[key]
        for role in self.held.keys() - set(roles):
            del self.held[role]

    def _restore_one(
        self, role: str, listener: Listener, served: Collection[str], rejected: frozenset[ObjectRef]
    ) -> Listener:
        key = (role, listener.name)
        if listener.name in served:
            self.listeners[key] = listener
            return listener
        old = self.listeners.get(key)
        if old is None or listener.source not in rejected:
            return listener
        return self.memo.get(("listener", *key), (old, listener), lambda: _with_old_options(old, listener))


def _with_old_options(old: Listener, new: Listener) -> Listener:
    """The new virtual hosts behind the old options; all of the old listener where its parts are others."""
    if [group.route_config for group in old.http] != [group.route_config for group in new.http]:
        return old
    http = tuple(
        replace(after, options=before.options, matcher=before.matcher)
        for before, after in zip(old.http, new.http, strict=True)
    )
    return replace(old, http=http)


def _rejected_gateways(problems: Problems, snapshot: ConfigSnapshot) -> frozenset[ObjectRef]:
    """Without those that ask for a protection that they would not have: an older version may be open."""
    closed = {problem.ref for problem in problems if problem.closed}
    return (
        frozenset(
            problem.ref
            for problem in problems
            if problem.severity is Severity.ERROR
            and problem.ref.kind in _KEPT
            and problem.ref.ref in snapshot.of(problem.ref.kind)
        )
        - closed
    )
