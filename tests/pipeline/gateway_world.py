"""Objects as users write them, through the gateway stage alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from google.protobuf import json_format

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.gateway.translate import translate_gateways
from gloo_nomad.proxies import HttpGroup, Listener, Proxy, VirtualHost
from gloo_nomad.reports import Problem, Problems
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.store import Store

NAMESPACE: Final = "gloo-system"
GATEWAY: Final = """
metadata: {name: gateway-proxy, namespace: gloo-system}
bindAddress: "::"
bindPort: 8080
httpGateway: {}
"""
SSL_GATEWAY: Final = """
metadata: {name: gateway-proxy-ssl, namespace: gloo-system}
bindAddress: "::"
bindPort: 8443
ssl: true
httpGateway: {}
"""


@dataclass
class Outcome:
    """What the stage answered."""

    proxies: tuple[Proxy, ...]
    problems: Problems

    def listener(self, name: str = "listener-::-8080", proxy: str = "gateway-proxy") -> Listener:
        """A listener by name."""
        (found,) = [
            listener for each in self.proxies if each.ref.name == proxy for listener in each.listeners
            if listener.name == name
        ]  # fmt: skip
        return found

    def group(self, name: str = "listener-::-8080", proxy: str = "gateway-proxy") -> HttpGroup:
        """The only HTTP group of a listener."""
        (found,) = self.listener(name, proxy).http
        return found

    def host(self, name: str = "gloo-system.vs", listener: str = "listener-::-8080") -> VirtualHost:
        """A virtual host by name."""
        (found,) = [host for host in self.group(listener).virtual_hosts if host.message.name == name]
        return found

    def hosts(self, listener: str = "listener-::-8080", proxy: str = "gateway-proxy") -> dict[str, list[str]]:
        """Domains by virtual host name."""
        return {host.message.name: list(host.message.domains) for host in self.group(listener, proxy).virtual_hosts}

    def routes(self, name: str = "gloo-system.vs", *, sources: bool = False) -> list[dict[str, Any]]:
        """Routes of a virtual host as documents."""
        found = [to_document(route) for route in self.host(name).message.routes]
        for route in found:
            if not sources:
                route.pop("metadataStatic", None)
        return found

    def said(self) -> list[str]:
        """Problems as text: severity, object, path, message."""
        return [say(problem) for problem in self.problems]


def say(problem: Problem) -> str:
    """A problem as one line."""
    return f"{problem.severity.name.lower()} {problem.ref} {problem.path}: {problem.message}"


def to_document(message: Any) -> dict[str, Any]:
    """A message as the document that a user would write."""
    document: dict[str, Any] = json_format.MessageToDict(message)
    return document


@dataclass
class World:
    """A store, and the stage with its memory."""

    store: Store = field(default_factory=Store)
    memo: Memo = field(default_factory=Memo)
    settings: settings_pb2.Settings = field(default_factory=settings_pb2.Settings)
    count: int = 0

    def put(self, kind: str, *texts: str) -> None:
        """Stores objects; each is younger than the one before."""
        for text in texts:
            self.count += 1
            decoded = codec.decode(KINDS[kind], text.encode())
            assert decoded.message is not None, decoded.rejection
            entry = Entry(decoded.message, created=self.count)
            self.store.apply(Change("test", kind, {decoded.ref.ref: entry}))

    def delete(self, kind: str, name: str, namespace: str = NAMESPACE) -> None:
        """Removes an object."""
        self.store.apply(Change("test", kind, deletes=frozenset({Ref(namespace, name)})))

    def configure(self, text: str) -> None:
        """Replaces the settings."""
        self.settings = json_format.ParseDict(yaml.safe_load(text), settings_pb2.Settings())

    def translate(self) -> Outcome:
        """One round."""
        outcome = Outcome(*translate_gateways(self.store.snapshot, self.settings, self.memo))
        self.memo.sweep()
        return outcome


def translate(objects: Mapping[str, list[str]], settings: str = "{}") -> Outcome:
    """Objects by kind through the stage, once."""
    world = World()
    world.configure(settings)
    for kind, texts in objects.items():
        world.put(kind, *texts)
    return world.translate()


def service(body: str = "domains: [a.com]", name: str = "vs", extra: str = "") -> str:
    """A virtual service with this virtual host."""
    indented = "\n".join(f"  {line}" for line in body.strip("\n").splitlines())
    return f"metadata: {{name: {name}, namespace: {NAMESPACE}}}\n{extra}\nvirtualHost:\n{indented}\n"


def table(body: str, name: str = "rt", metadata: str = "") -> str:
    """A route table with these fields."""
    return f"metadata: {{name: {name}, namespace: {NAMESPACE}{', ' + metadata if metadata else ''}}}\n{body}\n"


def with_gateway(*services: str, **more: str | list[str]) -> Outcome:
    """Virtual services and other objects behind the usual gateway."""
    objects: dict[str, list[str]] = {"Gateway": [GATEWAY], "VirtualService": list(services)}
    for kind, texts in more.items():
        objects[kind] = [texts] if isinstance(texts, str) else texts
    return translate(objects)
