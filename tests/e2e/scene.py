"""What every end-to-end test sees of a running gateway, whatever its objects come from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import VIRTUAL_SERVICE, Kind
from gloo_nomad.demo.certificates import Authority, KeyPair
from gloo_nomad.demo.fetch import Answer, Connection, fetch
from gloo_nomad.demo.processes import ServerError, wait_until

NAMESPACE = "gloo-system"
FOLLOW_SECONDS = 10.0
"""How long a change may take to be seen through Envoy; how long it usually takes is what the benchmarks measure."""


class Source(Protocol):
    """Where the objects are kept."""

    def put(self, kind: Kind, name: str, text: str) -> None:
        """Writes an object of the namespace gloo-system, as a user would."""

    def delete(self, kind: Kind, name: str) -> None:
        """Removes it."""

    def put_certificate(self, name: str, pair: KeyPair) -> None:
        """Stores a TLS Secret, over the one that is there."""


@dataclass(frozen=True)
class Tally:
    """What became of each of many requests: its status, or the kind of failure."""

    seen: set[int | str] = field(default_factory=set)

    def ask(self, request: Callable[[], Answer]) -> Answer | None:
        """Makes a request and remembers how it ended; None if there was no answer."""
        try:
            answer = request()
        except OSError as failure:
            self.seen.add(repr(failure))
            return None
        self.seen.add(answer.status)
        return answer


@dataclass(frozen=True)
class Scene:
    """A running gateway with the objects of ``consul-kv-seed/``."""

    source: Source
    http_port: int
    https_port: int
    authority: Authority
    roots: Path
    """The authority's certificate as a file."""
    daemon_pids: Callable[[], frozenset[int]]
    """The processes of gloo-nomad, to see that none was restarted."""

    def get(self, path: str, host: str = "localhost") -> Answer:
        """One request over HTTP through Envoy."""
        return fetch(self.http_port, path, host=host)

    def get_securely(self, path: str, host: str = "localhost") -> Answer:
        """One request over HTTPS through Envoy; the certificate is checked."""
        return fetch(self.https_port, path, host=host, tls_roots=self.roots)

    def connect_securely(self, host: str = "localhost") -> Connection:
        """A connection over TLS that stays open."""
        return Connection(self.https_port, host=host, tls_roots=self.roots)

    def put_host(self, name: str, *routes: dict[str, Any], domain: str | None = None, **more: Any) -> str:
        """Writes a VirtualService with these routes and returns its host name, ``<name>.test`` if none is given."""
        host = domain or f"{name}.test"
        document = {"virtualHost": {"domains": [host], "routes": list(routes)}, **more}
        self.put(VIRTUAL_SERVICE, name, document)
        return host

    def put(self, kind: Kind, name: str, document: dict[str, Any]) -> None:
        """Writes an object without its metadata, which is added."""
        self.source.put(kind, name, codec.to_yaml({"metadata": {"name": name, "namespace": NAMESPACE}, **document}))

    def delete_host(self, name: str) -> None:
        """Removes a VirtualService."""
        self.source.delete(VIRTUAL_SERVICE, name)

    def wait_for(self, host: str, path: str, status: int, body: str = "") -> None:
        """Returns when Envoy answers with *status* and with *body* in it; fails with the last answer."""
        last: list[Answer] = []

        def is_answered() -> bool:
            last[:] = [self.get(path, host)]
            return last[0].status == status and body in last[0].text

        try:
            wait_until(is_answered, f"{status} {body!r} for {host}{path}", FOLLOW_SECONDS)
        except ServerError as failure:
            pytest.fail(f"{failure}; the last answer was {last}", pytrace=False)


def direct(body: str, status: int = 200, prefix: str = "/") -> dict[str, Any]:
    """A route that Envoy answers itself."""
    return {"matchers": [{"prefix": prefix}], "directResponseAction": {"status": status, "body": body}}


def to_upstream(name: str, prefix: str = "/") -> dict[str, Any]:
    """A route to an Upstream of gloo-system."""
    upstream = {"name": name, "namespace": NAMESPACE}
    return {"matchers": [{"prefix": prefix}], "routeAction": {"single": {"upstream": upstream}}}


def to_consul(service: str, prefix: str = "/") -> dict[str, Any]:
    """A route to a service of Consul, with no further object."""
    return {
        "matchers": [{"prefix": prefix}],
        "routeAction": {"single": {"consul": {"serviceName": service}}},
    }
