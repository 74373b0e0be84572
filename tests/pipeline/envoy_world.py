"""Objects in YAML through all pure stages, and Envoy's messages out, for tests of the envoy stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf import json_format

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.endpoints import translate_endpoints
from gloo_nomad.pipeline import Pipeline, Translation
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, XdsSnapshot
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances
from gloo_nomad.store.store import Store

ROLE = "gloo-system~gateway-proxy"
GATEWAY = """
kind: Gateway
metadata: {name: gw, namespace: gloo-system}
bindAddress: "::"
bindPort: 8080
httpGateway: {}
"""
SSL_GATEWAY = """
kind: Gateway
metadata: {name: gw-ssl, namespace: gloo-system}
bindAddress: "::"
bindPort: 8443
ssl: true
httpGateway: {}
"""


@dataclass
class World:
    """A store, a pipeline, and what the last translation came to."""

    settings: settings_pb2.Settings = field(default_factory=settings_pb2.Settings)
    store: Store = field(default_factory=Store)
    pipeline: Pipeline = field(default_factory=Pipeline)
    endpoint_memo: Memo = field(default_factory=Memo)
    translation: Translation = field(default_factory=Translation)
    number: int = 0

    def put(self, *texts: str) -> "World":
        """Stores the objects of YAML texts (several documents allowed) and translates."""
        for text in texts:
            for document in yaml.safe_load_all(text):
                self.store.apply(self._change(document))
        return self.translate()

    def put_document(self, document: dict[str, Any]) -> None:
        """Stores one object without translating; what cannot be read is rejected, as a source would."""
        self.store.apply(self._change(dict(document), strict=False))

    def put_message(self, kind: str, message: Any) -> "World":
        """Stores an object that is a message already and translates."""
        ref = Ref(message.metadata.namespace, message.metadata.name)
        self.store.apply(Change("test", kind, {ref: Entry(message)}))
        return self.translate()

    def remove(self, kind: str, name: str) -> "World":
        """Removes an object and translates."""
        self.store.apply(Change("test", kind, deletes=frozenset({Ref("gloo-system", name)})))
        return self.translate()

    def put_instances(self, service: str, *instances: Instance, datacenter: str = "") -> "World":
        """Stores the instances of a Consul service and translates."""
        ref = Ref(datacenter, service)
        self.store.apply(Change("services", CONSUL_SERVICE, {ref: Entry(ServiceInstances(tuple(sorted(instances))))}))
        return self.translate()

    def translate(self) -> "World":
        """Runs the pipeline."""
        self.translation = self.pipeline.translate(self.store.snapshot, self.settings)
        return self

    def _change(self, document: dict[str, Any], *, strict: bool = True) -> Change:
        kind = KINDS[document.pop("kind")]
        self.number += 1
        ref = Ref(document["metadata"]["namespace"], document["metadata"]["name"])
        decoded = codec.decode(kind, codec.to_json(document).encode(), ref)
        assert decoded.message is not None or not strict, decoded.rejection
        entry = Entry(decoded.message, decoded.rejection, version=self.number, created=self.number)
        return Change("test", kind.name, {ref: entry})

    def snapshot(self, role: str = ROLE) -> XdsSnapshot:
        """What the Envoys of a role are served, endpoints included."""
        endpoints = translate_endpoints(self.translation.clusters, self.store.snapshot, self.endpoint_memo)
        return self.translation.xds.get(role, XdsSnapshot()).with_type(ENDPOINTS, endpoints)

    def cluster(self, name: str) -> Any:
        """A cluster by name."""
        return cluster_pb2.Cluster.FromString(self.snapshot().of(CLUSTER)[name].body)

    def endpoints(self, name: str) -> Any:
        """An endpoint set by name."""
        return endpoint_pb2.ClusterLoadAssignment.FromString(self.snapshot().of(ENDPOINTS)[name].body)

    def listener(self, name: str = "listener-::-8080") -> Any:
        """A listener by name."""
        return listener_pb2.Listener.FromString(self.snapshot().of(LISTENER)[name].body)

    def secret(self, name: str) -> Any:
        """A secret by name."""
        return secret_pb2.Secret.FromString(self.snapshot().of(SECRET)[name].body)

    def route_config(self, name: str = "listener-::-8080-routes") -> Any:
        """A RouteConfiguration by name."""
        return route_pb2.RouteConfiguration.FromString(self.snapshot().of(ROUTES)[name].body)

    def routes(self, host: str = "gloo-system_vs") -> list[Any]:
        """The routes of a virtual host."""
        return list(next(found.routes for found in self.route_config().virtual_hosts if found.name == host))

    def names(self, type_url: str) -> list[str]:
        """The names of all resources of a type."""
        return list(self.snapshot().of(type_url))

    def problems(self, severity: Severity | None = None) -> list[Problem]:
        """Everything that is wrong, or all of one severity."""
        found = self.translation.problems
        return [problem for problem in found if severity is None or problem.severity is severity]

    def said(self, kind: str, name: str) -> list[str]:
        """What is said to an object, as ``severity path: message``."""
        return [
            f"{problem.severity.name.lower()} {problem}"
            for problem in self.problems()
            if problem.ref.kind == kind and problem.ref.name == name
        ]


def make_world(*texts: str, settings: Mapping[str, Any] | None = None) -> World:
    """A world with these objects."""
    return World(json_format.ParseDict(dict(settings or {}), settings_pb2.Settings())).put(*texts)


def virtual_service(*routes: str, name: str = "vs", domains: str = "['*']", more: str = "") -> str:
    """A VirtualService with routes in YAML's flow style."""
    listed = "".join(f"\n  - {route}" for route in routes) or " []"
    head = f"kind: VirtualService\nmetadata: {{name: {name}, namespace: gloo-system}}\n{more}\n"
    return f"{head}virtualHost:\n  domains: {domains}\n  routes:{listed}\n"


def upstream(name: str = "up", spec: str = "static: {hosts: [{addr: 127.0.0.1, port: 8081}]}") -> str:
    """An Upstream."""
    return f"kind: Upstream\nmetadata: {{name: {name}, namespace: gloo-system}}\n{spec}\n"


TO_UP = "{matchers: [{prefix: /}], routeAction: {single: {upstream: {name: up, namespace: gloo-system}}}}"


def managers(listener: Any) -> list[Any]:
    """The connection managers of a listener's chains."""
    found = []
    for chain in listener.filter_chains:
        manager = http_connection_manager_pb2.HttpConnectionManager()
        assert chain.filters[-1].typed_config.Unpack(manager)
        found.append(manager)
    return found
