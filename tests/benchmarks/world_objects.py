"""What the world of the suite has besides N virtual services: delegation, services, a certificate, on free ports."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from tests.benchmarks.objects import GATEWAY_KEY, ROUTES, configuration

TABLES: Final = 10
SERVICES: Final = 20
SECRET_NAME: Final = "certificate"
_NAMESPACE: Final = "gloo-system"
_MATCH_ALL: Final = [{"prefix": "/"}]


@dataclass(frozen=True)
class Layout:
    """How much there is, and where the gateways listen."""

    size: int
    upstreams: int
    port: int
    tls_port: int
    vault_poll: float = 0.0
    """How often Vault is asked, in seconds; 0: there is no Vault, and no certificate."""

    def objects(self) -> Iterator[tuple[str, str]]:
        """Keys and values of everything to begin with."""
        found = dict(configuration(self.size, self.upstreams))
        found[GATEWAY_KEY] = found[GATEWAY_KEY].replace('"::"', "127.0.0.1").replace("8080", str(self.port))
        yield from found.items()
        yield _object("Settings", "default", self._settings())
        yield _object("VirtualService", "delegating", _host("tables", [_delegate(n) for n in range(TABLES)]))
        yield _object("VirtualService", "calling", _host("services", [_call(n) for n in range(SERVICES)]))
        for number in range(TABLES):
            yield route_table(number, "v0")
        if self.vault_poll:
            yield _object("Gateway", "gateway-proxy-ssl", self._tls_gateway())
            answer = {"matchers": _MATCH_ALL, "directResponseAction": {"status": 200, "body": "secure"}}
            tls = {"secretRef": {"name": SECRET_NAME, "namespace": _NAMESPACE}, "sniDomains": ["secure.example.com"]}
            yield _object("VirtualService", "secure", {**_host("secure", [answer]), "sslConfig": tls})

    def _settings(self) -> dict[str, Any]:
        own = {"vaultPollSeconds": self.vault_poll} if self.vault_poll else {}
        return {"consul": {"serviceDiscovery": {}}, "extensions": {"configs": {"gloo-nomad": own}}}

    def _tls_gateway(self) -> dict[str, Any]:
        where = {"bindAddress": "127.0.0.1", "bindPort": self.tls_port, "ssl": True}
        return {**where, "proxyNames": ["gateway-proxy"], "httpGateway": {}}


def service_name(number: int) -> str:
    """The name of one of the Consul services."""
    return f"service-{number:02d}"


def route_table(number: int, marker: str) -> tuple[str, str]:
    """Key and value of a route table of ten routes, the first of which has the marker in a header."""
    routes = []
    for part in range(ROUTES):
        added = {"header": {"key": "x-marker", "value": f"{marker}-{part}"}}
        routes.append(
            {
                "matchers": [{"prefix": f"/table-{number}/part-{part}"}],
                "directResponseAction": {"status": 200, "body": f"part {part}"},
                "options": {"headerManipulation": {"responseHeadersToAdd": [added]}},
            }
        )
    return _object("RouteTable", f"table-{number}", {"routes": routes})


def _host(name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"virtualHost": {"domains": [f"{name}.example.com"], "routes": routes}}


def _delegate(number: int) -> dict[str, Any]:
    ref = {"name": f"table-{number}", "namespace": _NAMESPACE}
    return {"matchers": [{"prefix": f"/table-{number}"}], "delegateAction": {"ref": ref}}


def _call(number: int) -> dict[str, Any]:
    single = {"consul": {"serviceName": service_name(number)}}
    return {"matchers": [{"prefix": f"/{service_name(number)}"}], "routeAction": {"single": single}}


def _object(kind: str, name: str, document: dict[str, Any]) -> tuple[str, str]:
    named = {"metadata": {"name": name, "namespace": _NAMESPACE}, **document}
    return KINDS[kind].key("gloo", Ref(_NAMESPACE, name)), yaml.safe_dump(named, sort_keys=False)
