"""A daemon that keeps what it serves, with an Envoy, a Consul and an OpenBao that a test takes away."""

import base64
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import build_bootstrap
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from tests.daemon import PROGRAM, Daemon
from tests.site import Place, Site, direct, host, to_service

KEY = base64.b64encode(os.urandom(32)).decode()
PLAIN, SECURE, SERVICE = "plain.test", "secure.test", "service.test"


@dataclass
class KeptWorld:
    """The world, and the folder in which the daemon keeps what it serves."""

    place: Place
    new_consul: Callable[..., ConsulAgent]
    new_openbao: Callable[..., OpenBao]
    run_echo: Callable[..., int]
    environ: dict[str, str] = field(default_factory=lambda: {"GLOO_NOMAD_DATA_KEY": KEY})
    consul: ConsulAgent = field(init=False)
    bao: OpenBao = field(init=False)
    authority: Authority = field(default_factory=Authority)
    program: Path = PROGRAM

    def __post_init__(self) -> None:
        self.consul = self.place.consul = self.new_consul(port=self.place.free_port())
        self.bao = self.new_openbao()
        self.xds_port = self.place.free_port()
        self.echo = self.run_echo("one")
        self.consul.register("echo", self.echo)
        pair = self.authority.issue(SECURE)
        self.certificate = pair.der
        self.secret = pair.build_secret()
        self.bao.put_secret("gloo-system", "cert", self.secret)
        self.roots.write_text(self.authority.certificate)

    @property
    def folder(self) -> Path:
        """Where the daemon keeps what it serves."""
        return self.place.folder / "data"

    @property
    def roots(self) -> Path:
        """The authority's certificate."""
        return self.place.folder / "roots.pem"

    def start(self, *, ready: bool = True, **options: Any) -> Daemon:
        """A daemon, always at the same port."""
        own = {"dataDirectory": str(self.folder), "vaultPollSeconds": 0.5, **options.pop("own", {})}
        settings = {
            "vaultSecretSource": {"address": self.bao.address, "accessToken": self.bao.token},
            "extensions": {"configs": {"gloo-nomad": own}},
        }
        options |= {"environ": self.environ, "program": self.program}
        return self.place.start(services=True, settings=settings, xds_port=self.xds_port, ready=ready, **options)

    def open(self, own: dict[str, Any] | None = None) -> tuple[Daemon, Site]:
        """A daemon with an Envoy, three virtual services, and all of it kept."""
        daemon = self.start(own=own or {})
        daemon.put("VirtualService", "plain", host(PLAIN, direct("plain")))
        daemon.put("VirtualService", "secure", host(SECURE, direct("secure"), tls="cert"))
        daemon.put("VirtualService", "service", host(SERVICE, to_service("echo")))
        site = self.place.open(daemon)
        self.check(site)
        self.wait_kept(daemon)
        return daemon, site

    def wait_kept(self, daemon: Daemon) -> None:
        """Returns when what is served now is on disk."""
        now = time.time()
        daemon.put("Upstream", "touch", {"static": {"hosts": [{"addr": "127.0.0.1", "port": int(now) % 60000 + 1}]}})
        wait_until(lambda: daemon.admin("/healthz")["lastKnown"]["written"] > now, "what is kept", 60)

    def check(self, site: Site, seconds: float = 30.0, *, secure: bool = True) -> None:
        """HTTP, HTTPS, and a service answer."""
        site.wait_for(PLAIN, 200, "plain", seconds)
        site.wait_for(SERVICE, 200, "one", seconds)
        if secure:
            wait_until(lambda: self.shown(site) == self.certificate, "HTTPS", seconds)

    def shown(self, site: Site) -> bytes:
        """The certificate that a new connection is shown; nothing if there is none."""
        try:
            return site.get_securely(SECURE, self.roots).certificate
        except OSError:
            return b""

    def bootstrap(self) -> dict[str, Any]:
        """Of an Envoy that starts anew."""
        return build_bootstrap(xds_port=self.xds_port, admin_port=self.place.free_port())

    def come_back(self, keys: list[dict[str, Any]]) -> None:
        """Gives the world back: Consul with these keys and the service, Vault with the certificate that is served."""
        self.consul = self.place.consul = self.new_consul(port=self.consul.port)
        for pair in keys:
            self.consul.put(pair["Key"], base64.b64decode(pair["Value"] or ""))
        self.consul.register("echo", self.echo)
        self.bao = self.new_openbao(port=self.bao.port)
        self.bao.put_secret("gloo-system", "cert", self.secret)

    def stop_world(self) -> None:
        """Takes Consul and Vault away."""
        self.consul.stop()
        self.bao.stop()


def sources_of(daemon: Daemon) -> list[str]:
    """Whose objects are served as they were kept."""
    found: list[str] = daemon.admin("/healthz")["lastKnown"]["sources"]
    return found
