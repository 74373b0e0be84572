"""A daemon with an Envoy behind it, for tests that break the world around them."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.envoy_tls import ClientTls
from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon, start_daemon
from tests.meanwhile import meanwhile

REF = {"namespace": "gloo-system"}


def direct(body: str) -> dict[str, Any]:
    """A route that answers by itself."""
    return {"matchers": [{"prefix": "/"}], "directResponseAction": {"status": 200, "body": body}}


def to_service(name: str) -> dict[str, Any]:
    """A route to a Consul service."""
    return {"matchers": [{"prefix": "/"}], "routeAction": {"single": {"consul": {"serviceName": name}}}}


def host(domain: str, *routes: dict[str, Any], tls: str = "") -> dict[str, Any]:
    """A virtual service for one domain, with a certificate of that Secret if one is named."""
    found: dict[str, Any] = {"virtualHost": {"domains": [domain], "routes": list(routes)}}
    if tls:
        found["sslConfig"] = {"secretRef": {"name": tls, **REF}, "sniDomains": [domain]}
    return found


@dataclass
class Site:
    """An Envoy of a daemon, and the ports of its gateways."""

    daemon: Daemon
    envoy: Envoy
    port: int
    tls_port: int

    def get(self, domain: str) -> tuple[int, str]:
        """Status and body of one request; (0, reason) if there was no answer."""
        try:
            answer = fetch(self.port, "/", host=domain)
        except OSError as failure:
            return 0, str(failure)
        return answer.status, answer.text

    def get_page(self, domain: str, path: str) -> tuple[int, str]:
        """Status and body of one request for a path."""
        answer = fetch(self.port, path, host=domain)
        return answer.status, answer.text

    def get_securely(self, domain: str, roots: Path) -> Answer:
        """One request over TLS."""
        return fetch(self.tls_port, "/", host=domain, tls_roots=roots)

    def wait_for(self, domain: str, status: int, body: str = "", seconds: float = 15.0) -> None:
        """Waits until a request is answered like that."""
        wait_until(
            lambda: (found := self.get(domain))[0] == status and body in found[1],
            f"{status} {body} of {domain} (it is {self.get(domain)})",
            seconds,
        )

    @contextmanager
    def asked(self, *domains: str) -> Iterator[Counter[tuple[str, int]]]:
        """Asks again and again meanwhile, and counts the answers by domain and status."""
        counts: Counter[tuple[str, int]] = Counter()

        def ask() -> None:
            for domain in domains:
                counts[domain, self.get(domain)[0]] += 1

        with meanwhile(ask, 0.02):
            yield counts


def put_gateways(daemon: Daemon, port: int, tls_port: int) -> None:
    """Writes a plain and a TLS Gateway."""
    plain = {"bindAddress": "127.0.0.1", "bindPort": port, "httpGateway": {}}
    daemon.put("Gateway", "gateway-proxy", plain)
    daemon.put("Gateway", "gateway-proxy-ssl", {**plain, "bindPort": tls_port, "ssl": True})


@dataclass
class Place:
    """Starts daemons in folders of their own, and an Envoy for one; a test's fixture stops them."""

    folder: Path
    consul: ConsulAgent
    root: str
    free_port: Callable[[], int]
    run_envoy: Callable[..., Envoy]
    started: list[Daemon] = field(default_factory=list)

    def start(self, *, services: bool = False, **options: Any) -> Daemon:
        """A daemon of its own, with *services* one that discovers them; takes what ``start_daemon`` takes."""
        consul = {"httpAddress": self.consul.address, **({"serviceDiscovery": {}} if services else {})}
        settings = {"consul": consul, **options.pop("settings", {})}
        folder = self.folder / f"gloo-{len(self.started)}"
        daemon = start_daemon(folder, self.consul, self.root, self.free_port, settings=settings, **options)
        self.started.append(daemon)
        return daemon

    def open(self, daemon: Daemon, tls: ClientTls | None = None) -> Site:
        """An Envoy of the daemon with two Gateways; returns when it is configured. It connects by *tls* if given."""
        port, tls_port = self.free_port(), self.free_port()
        put_gateways(daemon, port, tls_port)
        bootstrap = build_bootstrap(xds_port=daemon.xds_port, admin_port=self.free_port(), tls=tls)
        return Site(daemon, self.run_envoy(bootstrap, ready=True), port, tls_port)

    def stop(self) -> None:
        """Ends all daemons."""
        for daemon in self.started:
            daemon.server.stop()
