"""A daemon between real servers that can be broken one by one, and traffic that must not notice.

Consul is two servers that need each other, with ACLs; Vault is an OpenBao that can be sealed; both are reached through
proxies that break answers. One Envoy serves three routes that no fault may touch: one that answers by itself, one to a
service of Consul, one over HTTPS with a certificate out of Vault. A module opens one world and breaks it repeatedly.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, start_envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from tests.consul_servers import ConsulServer
from tests.daemon import NAMESPACE, Daemon
from tests.faults import Proxy
from tests.meanwhile import meanwhile
from tests.site import Place, Site, direct, host, to_service
from tests.vault_server import StoredOpenBao

JOBS = Path(__file__).parent.parent / "jobs"
MANAGEMENT = "6f0e6d0e-0000-4000-8000-00000000c0de"
PATIENCE = 60.0
"""Seconds for what should take one or two: machines differ."""
SERVERS = Path(__file__).parent.parent / ".servers"
WITHDRAWN = ("listener_manager.listener_removed", "cluster_manager.cluster_removed")
_numbers = count(1)


@dataclass
class Traffic:
    """Requests to what no fault may touch: how many were answered as they should be, and those that were not."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@dataclass
class World:
    """Everything that runs. ``daemon`` and ``site`` are exchanged by those who restart them."""

    place: Place
    servers: list[ConsulServer]
    consul_proxy: Proxy
    bao: StoredOpenBao
    vault_proxy: Proxy
    settings: dict[str, Any]
    environ: dict[str, str]
    echoes: dict[str, int]
    """Ports of echo services by their name."""
    authority: Authority = field(default_factory=Authority)
    site: Site = field(init=False)
    daemon: Daemon = field(init=False)
    untouched: dict[str, Callable[[], bool]] = field(default_factory=dict)
    """Requests by name; each says whether it was answered as it should be."""

    @property
    def consul(self) -> ConsulAgent:
        """The first server, as its manager sees it."""
        return self.place.consul

    @property
    def roots(self) -> Path:
        """Who clients trust."""
        return self.place.folder / "roots.pem"

    def start_daemon(self, **options: Any) -> Daemon:
        """A daemon of this world, which is the present one then."""
        self.daemon = self.place.start(settings=self.settings, environ=self.environ, **options)
        return self.daemon

    def open(self) -> None:
        """Writes the objects, starts the daemon and its Envoy, and waits for all untouched routes."""
        self.roots.write_text(self.authority.certificate)
        kept = self.write_certificate("kept")
        self.write_certificate("renewed")
        self.consul.register("web", self.echoes["one"])
        daemon = self.start_daemon()
        daemon.put("VirtualService", "kept", host("kept.test", direct("kept")))
        daemon.put("VirtualService", "web", host("web.test", to_service("web")))
        daemon.put("VirtualService", "moved", host("moved.test", to_service("moved")))
        for name in ("kept", "renewed"):
            daemon.put("VirtualService", f"{name}-tls", host(f"{name}-tls.test", direct("secure"), tls=name))
        self.site = self.place.open(daemon)
        self.untouched |= {
            "direct": lambda: self.site.get("kept.test") == (200, "kept"),
            "service": lambda: self.site.get("web.test")[0] == 200,
            "https": lambda: self.shown("kept") == kept,
        }
        for name, answers in self.untouched.items():
            wait_until(answers, f"the route {name}", PATIENCE)

    # --- what is watched

    def shown(self, name: str) -> bytes:
        """The certificate that a new connection is shown."""
        answer = self.site.get_securely(f"{name}-tls.test", self.roots)
        return answer.certificate if answer.status == 200 else b""

    @contextmanager
    def traffic(self) -> Iterator[Traffic]:
        """Asks for the untouched routes meanwhile, one after the other, some dozen times a second."""
        found = Traffic()

        def ask() -> None:
            for name, answers in self.untouched.items():
                _count(found, name, answers)

        with meanwhile(ask, 0.02):
            yield found

    @contextmanager
    def unharmed(self, *recovered: Callable[[], None]) -> Iterator[None]:
        """Around a fault: no untouched request fails, nothing is withdrawn, and what is new afterwards is served.

        The process is the same one at the end, unless the fault is its end.
        """
        before = [self.site.envoy.stat(name) for name in WITHDRAWN]
        with self.traffic() as traffic:
            yield
            for check in recovered or (self.edit, self.move):
                check()
            wait_until(lambda: min(map(traffic.answered.__getitem__, self.untouched)) > 3, "some traffic", PATIENCE)
        assert traffic.failures == []
        assert [self.site.envoy.stat(name) for name in WITHDRAWN] == before
        assert self.daemon.server.running
        assert "Traceback" not in self.daemon.server.log.read_text()

    def errors(self) -> list[str]:
        """What the daemon says is wrong with its sources."""
        return [source["error"] for source in self.daemon.admin("/healthz")["sources"] if source["error"]]

    def wait_told(self, *texts: str) -> None:
        """Waits until the daemon tells of a trouble, one source in all of these words."""
        wait_until(
            lambda: any(all(text in error for text in texts) for error in self.errors()),
            f"{texts} in {self.errors()!r}",
            PATIENCE,
        )

    def wait_well(self) -> None:
        """Waits until the daemon tells of none."""
        wait_until(lambda: not self.errors(), f"the end of {self.errors()!r}", PATIENCE)

    # --- what is new

    def put_edit(self, name: str = "edited") -> str:
        """Writes a virtual service that answers something new, which is the answer."""
        text = f"edit {next(_numbers)}"
        self.daemon.put("VirtualService", name, host(f"{name}.test", direct(text)))
        return text

    def edit(self) -> None:
        """An edited object reaches the Envoy."""
        self.site.wait_for("edited.test", 200, self.put_edit(), PATIENCE)

    def move(self) -> None:
        """A service that moves is followed."""
        name, port = list(self.echoes.items())[next(_numbers) % 2]
        self.consul.register("moved", port, instance="moved")
        self.site.wait_for("moved.test", 200, f'"instance": "{name}"', PATIENCE)

    def write_certificate(self, name: str) -> bytes:
        """Writes a new certificate into Vault: what clients should be shown then."""
        pair = self.authority.issue(f"{name}-tls.test")
        self.bao.bao.put_secret(NAMESPACE, name, pair.build_secret())
        return pair.der

    def renew(self) -> None:
        """A renewed certificate reaches the Envoy."""
        wanted = self.write_certificate("renewed")
        wait_until(lambda: self.shown("renewed") == wanted, "the renewed certificate", PATIENCE)

    # --- tokens

    def issue_consul_token(self) -> str:
        """Gives the daemon a token of Consul; the answer is its accessor."""
        made = self.consul.command("acl", "token", "create", "-policy-name", "gloo", "-format", "json")
        (self.place.folder / "consul-token").write_text(_field(made, "SecretID"))
        return _field(made, "AccessorID")

    def set_consul_policy(self, verb: str, rules: str) -> None:
        """Creates or updates what the daemon's token of Consul may do."""
        self.consul.command("acl", "policy", verb, "-name", "gloo", "-rules", "-", stdin=rules.encode())

    def issue_vault_token(self, ttl: str = "1h") -> None:
        """Gives the daemon a token of Vault, which cannot be renewed."""
        body = {"policies": ["gloo"], "ttl": ttl, "explicit_max_ttl": ttl}
        made = self.bao.bao.request("POST", "auth/token/create", body).json()
        (self.place.folder / "vault-token").write_text(made["auth"]["client_token"])


CONSUL_POLICY = (JOBS / "gloo-consul-policy.hcl").read_text()
VAULT_POLICY = (JOBS / "gloo-policy.hcl").read_text()


@contextmanager
def open_world(folder: Path, **more: Any) -> Iterator[World]:
    """A world that serves; *more* settings of the daemon, and what is to be in its ``environ``."""
    with ExitStack() as stack:
        servers = _start_consul(folder, stack)
        bao = StoredOpenBao.start(folder / "bao", find_binary("bao"), free_port())
        stack.callback(bao.stop)
        echoes = {}
        for name in ("one", "two"):
            server, echoes[name] = start_echo(folder / "echo", name=name)
            stack.callback(server.stop)
        proxies = [stack.enter_context(Proxy(port)) for port in (servers[0].ports["http"], bao.port)]
        place = Place(folder, servers[0].agent, "gloo", free_port, _envoys(folder, stack))
        stack.callback(place.stop)
        world = World(place, servers, proxies[0], bao, proxies[1], {}, more.pop("environ", {}), echoes)
        world.set_consul_policy("create", CONSUL_POLICY)
        world.issue_consul_token()
        bao.bao.write_policy("gloo", VAULT_POLICY)
        world.issue_vault_token()
        tokens = {"CONSUL_HTTP_TOKEN_FILE": "consul-token", "VAULT_TOKEN_FILE": "vault-token"}
        world.environ |= {name: str(folder / file) for name, file in tokens.items()}
        world.settings = {
            "consul": {"httpAddress": proxies[0].address, "serviceDiscovery": {}},
            "vaultSecretSource": {"address": f"http://{proxies[1].address}"},
            "refreshRate": "5s",
            "extensions": {"configs": {"gloo-nomad": {"vaultPollSeconds": 1}}},
            **more,
        }
        world.open()
        yield world


def _start_consul(folder: Path, stack: ExitStack) -> list[ConsulServer]:
    binary = find_binary("consul", [SERVERS])
    first = ConsulServer(folder / "consul-1", binary, free_port, 2, token=MANAGEMENT)
    second = ConsulServer(folder / "consul-2", binary, free_port, 2, [first], token=MANAGEMENT)
    for server in (first, second):
        server.start()
        stack.callback(server.stop)
    first.wait_leader()
    ask = partial(fetch, first.ports["http"], "/v1/acl/token/self", headers={"X-Consul-Token": MANAGEMENT})
    wait_until(lambda: ask().status == 200, "ACLs", PATIENCE)
    return [first, second]


def _envoys(folder: Path, stack: ExitStack) -> Callable[..., Envoy]:
    def run(bootstrap: dict[str, Any], **options: Any) -> Envoy:
        envoy = start_envoy(folder / "envoy", bootstrap, **options)
        stack.callback(envoy.stop)
        return envoy

    return run


def _count(found: Traffic, name: str, answers: Callable[[], bool]) -> None:
    try:
        good = answers()
    except OSError as failure:
        found.failures.append(f"{name}: {failure} at {time.monotonic():.1f}")
        return
    if good:
        found.answered[name] += 1
    else:
        found.failures.append(f"{name} at {time.monotonic():.1f}")


def _field(text: str, name: str) -> str:
    """A field of what ``consul`` printed."""
    found: str = json.loads(text)[name]
    return found
