"""``make demo-nomad``: the main job as on a cluster, on development agents of Consul, Nomad and OpenBao.

Nomad runs ``jobs/gloo.nomad.hcl`` with the raw_exec driver; the objects are keys of Consul, the certificate is in
OpenBao.
"""

import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gloo_nomad.demo import seed
from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.consul import ConsulAgent, start_consul
from gloo_nomad.demo.nomad import NomadAgent, start_nomad
from gloo_nomad.demo.openbao import OpenBao, start_openbao
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerError, wait_until
from gloo_nomad.demo.stage import Ports, read_ports, run_demo, say, show_answers, show_lines, stay

JOBS: Final = Path("jobs")
POLICY: Final = "gloo"
_SERVICES: Final = ("gloo-xds", "gateway", "gateway-proxy")


@dataclass(frozen=True)
class Cluster:
    """The three agents."""

    consul: ConsulAgent
    nomad: NomadAgent
    openbao: OpenBao


def main() -> int:
    """Runs the demo; the exit code."""
    return run_demo(_demo)


def _demo(stack: ExitStack) -> None:
    for program in ("consul", "nomad", "bao", "envoy"):
        find_binary(program)
    ports = read_ports()
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gloo-nomad-demo-", ignore_cleanup_errors=True)))
    authority = Authority()
    (home / "authority.pem").write_text(authority.certificate)

    say("starting development agents of Consul, Nomad and OpenBao")
    cluster = _start_cluster(home, stack)
    cluster.openbao.put_secret(*seed.CERTIFICATE, authority.issue("localhost", "127.0.0.1").build_secret())
    say("writing consul-kv-seed/ to Consul")
    put_seed(cluster.consul, http=ports.http, https=ports.https)
    say(f"nomad job run {JOBS}/gloo.nomad.hcl")
    run_main_job(cluster, ports, drain_seconds="1")
    cluster.nomad.command("job", "run", "-detach", *echo_variables(), str(JOBS / "echo.nomad.hcl"))
    _wait_for_services(cluster)

    servers = (cluster.consul.server, cluster.nomad.server, cluster.openbao.server)
    show_answers(ports, home / "authority.pem", servers)
    say(f"Consul: http://{cluster.consul.address}/  Nomad: {cluster.nomad.address}/  Vault: {cluster.openbao.address}/")
    say("to go on in another terminal:")
    show_lines(_exports(cluster), "gloo-nomad get all", "gloo-nomad check")
    stay(ports.seconds, servers)


def _start_cluster(home: Path, stack: ExitStack) -> Cluster:
    consul = start_consul(home / "consul")
    stack.callback(consul.stop)
    bao = start_openbao(home / "openbao")
    stack.callback(bao.stop)
    nomad = start_nomad(home / "nomad", consul=consul)
    stack.callback(nomad.stop)
    return Cluster(consul, nomad, bao)


def put_seed(consul: ConsulAgent, *, http: int, https: int) -> None:
    """Writes the seed's objects to Consul KV, as ``consul kv put KEY @FILE`` would, with these ports of Envoy."""
    for example in seed.read_seed():
        consul.put(example.key, seed.with_ports(example, http=http, https=https, address="127.0.0.1").text)


def run_main_job(cluster: Cluster, ports: Ports, **more: str) -> None:
    """Runs the main job without waiting for it; *more* are further variables of it."""
    cluster.openbao.write_policy(POLICY, (JOBS / "gloo-policy.hcl").read_text())
    values = {
        "consul_address": cluster.consul.address,
        "vault_address": cluster.openbao.address,
        "vault_token": cluster.openbao.create_token(POLICY, ttl="24h"),
        "nomad_address": cluster.nomad.address,
        "http_port": str(ports.http),
        "https_port": str(ports.https),
        "envoy_admin_port": str(ports.envoy_admin),
        "metrics_port": str(free_port()),
        "xds_port": "0",
        **more,
    }
    cluster.nomad.command("job", "run", "-detach", *raw_exec_variables(values), str(JOBS / "gloo.nomad.hcl"))


def raw_exec_variables(values: Mapping[str, str]) -> list[str]:
    """Options of ``nomad job run`` that make tasks processes of this machine, of this virtual environment."""
    programs = {
        "driver": "raw_exec",
        "gloo_command": str(Path(sys.executable).parent / "gloo-nomad"),
        "envoy_command": str(find_binary("envoy")),
    }
    return _options({**programs, **values})


def echo_variables(**values: str) -> list[str]:
    """Options that run the echo service's job with this Python."""
    return _options({"driver": "raw_exec", "python": sys.executable, **values})


def _options(values: Mapping[str, str]) -> list[str]:
    return [f"-var={name}={value}" for name, value in values.items()]


def _exports(cluster: Cluster) -> str:
    """A line for a shell: the agents' addresses, and their programs and gloo-nomad on the path."""
    programs = (Path(sys.executable), find_binary("consul"), find_binary("nomad"))
    folders = dict.fromkeys(str(program.parent.absolute()) for program in programs)
    addresses = f"CONSUL_HTTP_ADDR={cluster.consul.address} NOMAD_ADDR={cluster.nomad.address}"
    return f'export {addresses} PATH="{":".join(folders)}:$PATH"'


def _wait_for_services(cluster: Cluster) -> None:
    for service in (*_SERVICES, "echo"):
        is_passing = partial(_is_passing, cluster.consul, service)
        try:
            wait_until(is_passing, f"a passing instance of {service}", 90.0)
        except ServerError as failure:
            raise ServerError(f"{failure}\n{cluster.nomad.task_logs('gloo')}") from None
        say(f"Consul knows {service}")


def _is_passing(consul: ConsulAgent, service: str) -> bool:
    return consul.passing(service) != []
