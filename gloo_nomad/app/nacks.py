"""What an Envoy rejected becomes a problem of the objects behind it, until it accepts that resource again."""

from collections.abc import Iterator
from dataclasses import dataclass

from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.app.engine import Engine
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES

MAX_TEXT = 400


@dataclass(slots=True)
class Nacks:
    """The callbacks of the xDS server."""

    engine: Engine

    def rejected(self, role: str, node_id: str, type_url: str, names: tuple[str, ...], message: str) -> None:
        """An Envoy does not take these resources."""
        told = " ".join(message.split())[:MAX_TEXT]
        for name in names:
            problems = tuple(
                Problem(Severity.ERROR, ref, "", f"Envoy {node_id} rejected {name}: {told}")
                for ref in self._objects(role, type_url, name)
            )
            self.engine.extra_problems[_key(role, node_id, type_url, name)] = problems
        self.engine.wake()

    def recovered(self, role: str, node_id: str, type_url: str, names: tuple[str, ...]) -> None:
        """It takes them now."""
        for name in names:
            self.engine.extra_problems.pop(_key(role, node_id, type_url, name), None)
        self.engine.wake()

    def _objects(self, role: str, type_url: str, name: str) -> Iterator[ObjectRef]:
        translation = self.engine.translation
        if translation is None:
            return
        if type_url in {CLUSTER, ENDPOINTS}:
            served = translation.clusters.upstreams.get(name)
            if served is not None:
                yield UPSTREAM.object_ref(served.ref)
            return
        for proxy in translation.proxies:
            for listener in proxy.listeners if proxy.role == role else ():
                groups = {group.route_config for group in listener.http}
                if (type_url == LISTENER and listener.name == name) or (type_url == ROUTES and name in groups):
                    yield listener.source


def _key(role: str, node_id: str, type_url: str, name: str) -> str:
    return f"nack/{role}/{node_id}/{type_url}/{name}"
