"""Servers of a run: Consul and OpenBao behind proxies that misbehave on demand, services, the program, an Envoy."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gloo_nomad.demo.certificates import Authority, KeyPair
from gloo_nomad.demo.consul import ConsulAgent, start_consul
from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, build_bootstrap, start_envoy
from gloo_nomad.demo.openbao import OpenBao, start_openbao
from gloo_nomad.demo.ports import free_port
from tests.daemon import NAMESPACE, Daemon, start_daemon
from tests.faults import Proxy
from tests.site import direct, host, put_gateways, to_service

SERVICE: Final = "soak-web"
INSTANCES: Final = 4


@dataclass(frozen=True)
class World:
    """What runs."""

    folder: Path
    consul: ConsulAgent
    consul_proxy: Proxy
    bao: OpenBao
    bao_proxy: Proxy
    echoes: tuple[int, ...]
    daemon: Daemon
    authority: Authority
    port: int
    tls_port: int

    @property
    def roots(self) -> Path:
        """The file with the certificate that clients trust."""
        return self.folder / "roots.pem"

    def put_certificate(self) -> KeyPair:
        """Writes a new one for ``tls.test`` to OpenBao."""
        pair = self.authority.issue("tls.test")
        self.bao.put_secret(NAMESPACE, "cert", pair.build_secret())
        return pair

    def start_envoy(self, xds_port: int, name: str) -> Envoy:
        """An Envoy that takes everything from that port, once it has its first configuration."""
        bootstrap = build_bootstrap(xds_port=xds_port, admin_port=free_port(), node_id=name)
        return start_envoy(self.folder / name, bootstrap, ready=True)


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    """Starts everything, writes the objects that stay, and stops everything again."""
    with ExitStack() as stack:
        consul = start_consul(folder / "consul")
        stack.callback(consul.stop)
        bao = start_openbao(folder / "openbao")
        stack.callback(bao.stop)
        consul_proxy = stack.enter_context(Proxy(consul.port))
        bao_proxy = stack.enter_context(Proxy(bao.port))
        echoes = tuple(_start_echo(stack, folder, number) for number in range(INSTANCES))
        consul.register(SERVICE, echoes[0])
        settings = {
            "consul": {"httpAddress": consul_proxy.address, "serviceDiscovery": {}},
            "vaultSecretSource": {"address": f"http://{bao_proxy.address}", "accessToken": bao.token},
        }
        daemon = start_daemon(folder / "gloo", consul, "gloo", free_port, settings=settings)
        stack.callback(daemon.server.stop)
        world = World(
            folder, consul, consul_proxy, bao, bao_proxy, echoes, daemon, Authority(), free_port(), free_port()
        )
        _fill(world)
        yield world


def _start_echo(stack: ExitStack, folder: Path, number: int) -> int:
    server, port = start_echo(folder / "echo", name=f"instance-{number}")
    stack.callback(server.stop)
    return port


def _fill(world: World) -> None:
    world.roots.write_text(world.authority.certificate)
    world.put_certificate()
    put_gateways(world.daemon, world.port, world.tls_port)
    for name, document in {
        "steady": host("steady.test", direct("steady")),
        "web": host("web.test", to_service(SERVICE)),
        "edited": host("edited.test", direct("edit-0.")),
        "delegated": host("delegated.test", {"matchers": [{"prefix": "/"}], "delegateAction": _TABLE}),
        "tls": host("tls.test", direct("secure"), tls="cert"),
    }.items():
        world.daemon.put("VirtualService", name, document)
    put_table(world, 0)


_TABLE: Final[dict[str, Any]] = {"ref": {"name": "table", "namespace": NAMESPACE}}


def put_table(world: World, number: int) -> None:
    """Writes the route table whose answer has that number."""
    world.daemon.put("RouteTable", "table", {"routes": [direct(f"table-{number}.")]})
