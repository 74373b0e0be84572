"""``make demo``: the main job on one machine, with a folder of objects in the place of Consul.

Envoy, OpenBao with a certificate, an echo service and gloo-nomad; all ends with the demo, the folder too.
"""

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gloo_nomad.api import codec
from gloo_nomad.demo import seed
from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import build_bootstrap, start_envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.openbao import OpenBao, start_openbao
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerProcess, neutral_environment, start_process, wait_ready
from gloo_nomad.demo.stage import Ports, read_ports, run_demo, say, show_answers, stay

NAMESPACE = "gloo-system"


@dataclass(frozen=True)
class Daemon:
    """A running ``gloo-nomad run`` that reads a folder."""

    server: ServerProcess
    objects: Path
    xds_port: int
    admin_port: int


def main() -> int:
    """Runs the demo; the exit code."""
    return run_demo(_demo)


def _demo(stack: ExitStack) -> None:
    for program in ("envoy", "bao"):
        find_binary(program)
    ports = read_ports()
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gloo-nomad-demo-")))
    authority = Authority()
    (home / "authority.pem").write_text(authority.certificate)

    say("starting OpenBao with a certificate, an echo service, gloo-nomad and Envoy")
    bao = start_openbao(home)
    stack.callback(bao.stop)
    bao.put_secret(*seed.CERTIFICATE, authority.issue("localhost", "127.0.0.1").build_secret())
    echo, echo_port = start_echo(home)
    stack.callback(echo.stop)
    daemon = start_daemon(home, bao, echo_port, ports)
    stack.callback(daemon.server.stop)
    bootstrap = build_bootstrap(xds_port=daemon.xds_port, admin_port=ports.envoy_admin)
    envoy = start_envoy(home, bootstrap)
    stack.callback(envoy.stop)

    servers = (bao.server, echo, daemon.server, envoy.server)
    show_answers(ports, home / "authority.pem", servers)
    say(f"the objects are in {daemon.objects}: edit one, and Envoy follows at once")
    say(
        f"gloo-nomad's snapshots: http://127.0.0.1:{daemon.admin_port}/  Envoy's: http://127.0.0.1:{ports.envoy_admin}/"
    )
    stay(ports.seconds, servers)


def start_daemon(home: Path, bao: OpenBao, echo_port: int, ports: Ports) -> Daemon:
    """Lays out the seed below *home* and starts gloo-nomad on it; returns when every source has listed once."""
    objects = home / "objects"
    examples = (
        seed.with_ports(example, http=ports.http, https=ports.https, address="127.0.0.1")
        for example in seed.read_seed()
    )
    seed.write_directory(objects, examples, echo_port=echo_port)
    xds, admin = free_port(), free_port()
    settings = {
        "metadata": {"name": "default", "namespace": NAMESPACE},
        "discoveryNamespace": NAMESPACE,
        "directoryConfigSource": {"directory": str(objects)},
        "vaultSecretSource": {"address": bao.address, "accessToken": bao.token},
        "gloo": {"xdsBindAddr": f"127.0.0.1:{xds}", "proxyDebugBindAddr": f"127.0.0.1:{free_port()}"},
        "extensions": {
            "configs": {
                "gloo-nomad": {
                    "adminBindAddr": f"127.0.0.1:{admin}",
                    "frontDoorBindAddr": f"127.0.0.1:{free_port()}",
                },
            },
        },
    }
    file = home / "settings" / NAMESPACE / "default.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(codec.to_yaml(settings))
    line = [sys.executable, "-m", "gloo_nomad", "run", "--dir", str(home / "settings"), "--namespace", NAMESPACE]
    server = start_process("gloo-nomad", line, home / "gloo-nomad.log", env=neutral_environment())
    wait_ready(server, lambda: fetch(admin, "/readyz").status == 200)
    return Daemon(server, objects, xds, admin)
