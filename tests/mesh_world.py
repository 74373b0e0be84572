"""A mesh of real sidecars: Consul's own proxy, which asks its agent about connections, in front of echo services."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerProcess, start_process, wait_until
from tests.site import REF


def to_mesh(name: str, **more: Any) -> dict[str, Any]:
    """An Upstream of a service in the mesh; each request has a connection of its own, on which intentions are asked."""
    once = {"connectionConfig": {"maxRequestsPerConnection": 1}}
    return {"consul": {"serviceName": name, "connectEnabled": True}, **once, **more}


def to_upstream(name: str) -> dict[str, Any]:
    """A route to an Upstream."""
    return {"matchers": [{"prefix": "/"}], "routeAction": {"single": {"upstream": {"name": name, **REF}}}}


@dataclass
class MeshWorld:
    """Services of an agent that are reached through sidecars only."""

    agent: ConsulAgent
    folder: Path
    run_echo: Callable[..., int]
    running: list[ServerProcess] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    """Of the services themselves, without their sidecars."""

    def serve(self, service: str, *, claims: str = "") -> str:
        """Starts an echo service with a sidecar; the sidecar's id. It *claims* to be in front of another service."""
        port = free_port()
        app = self.ports[service] = self.run_echo(f"echo-{service}")
        command: list[str | Path] = [self.agent.binary, "connect", "proxy", "-http-addr", self.agent.address]
        command += ["-service", service, "-service-addr", f"127.0.0.1:{app}", "-listen", f"127.0.0.1:{port}"]
        command += ["-log-level", "debug", "-token", self.agent.token] if self.agent.token else ["-log-level", "debug"]
        self.running.append(start_process("sidecar", command, self.folder / f"sidecar-{service}.log"))
        log = self.running[-1].log
        wait_until(lambda: "Starting listener" in log.read_text(), f"the sidecar of {service}", 30)
        proxy = {"DestinationServiceName": claims or service}
        return self.agent.register(f"{service}-sidecar", port, Kind="connect-proxy", Proxy=proxy)

    def intend(self, service: str, action: str) -> None:
        """Says that the gateway may (``allow``) or may not (``deny``) talk to a service."""
        sources = [{"Name": "gateway-proxy", "Action": action}]
        entry = {"Kind": "service-intentions", "Name": service, "Sources": sources}
        self.agent.request("PUT", "config", json.dumps(entry).encode())

    def configure(self, *, force: bool = False, **changes: Any) -> None:
        """Changes the configuration of the certificate authority; another type of key makes another root.

        Earlier roots vouch for a new one, unless that is by *force*.
        """
        found: Mapping[str, Any] = self.agent.request("GET", "connect/ca/configuration")
        wanted = {"Provider": "consul", "Config": {**found["Config"], **changes}, "ForceWithoutCrossSigning": force}
        self.agent.request("PUT", "connect/ca/configuration", json.dumps(wanted).encode())

    def roots(self) -> list[str]:
        """The ids of all roots, the active one last."""
        found = self.agent.request("GET", "agent/connect/ca/roots")
        return [root["ID"] for root in sorted(found["Roots"], key=lambda root: bool(root["Active"]))]

    def stop(self) -> None:
        """Ends all sidecars."""
        for server in self.running:
            server.stop()
