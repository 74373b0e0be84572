"""Consul servers that keep their data over a restart, and that need each other for a leader."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import ServerError, ServerProcess, start_process, wait_until

PORTS = ("http", "dns", "grpc", "grpc_tls", "serf_lan", "serf_wan", "server")


@dataclass
class ConsulServer:
    """One server of *expected*; ``start`` and ``stop`` it as often as you like."""

    folder: Path
    binary: Path
    free_port: Callable[[], int]
    expected: int = 1
    others: list["ConsulServer"] = field(default_factory=list)
    """Those that it joins."""
    token: str = ""
    """With one ACLs are on, and it may do everything."""
    ports: dict[str, int] = field(default_factory=dict)
    _server: ServerProcess | None = None

    @property
    def agent(self) -> ConsulAgent:
        """The running one."""
        if self._server is None:
            raise ServerError("the server was not started")
        return ConsulAgent(self.binary, self._server, self.ports["http"], self.ports["dns"], self.token)

    def start(self) -> ConsulAgent:
        """Starts it, with the data and the ports that it had."""
        self.ports = self.ports or {name: self.free_port() for name in PORTS}
        settings = {
            "node_name": self.folder.name,
            "server": True,
            "bootstrap_expect": self.expected,
            "data_dir": str(self.folder / "data"),
            "ports": self.ports,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "retry_join": [f"127.0.0.1:{other.ports['serf_lan']}" for other in self.others],
            "retry_interval": "1s",
            "disable_update_check": True,
            "log_level": "warn",
            "performance": {"raft_multiplier": 1},
            **(_acl(self.token) if self.token else {}),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "consul.json"
        file.write_text(json.dumps(settings))
        command: list[str | Path] = [self.binary, "agent", "-config-file", file]
        self._server = start_process("consul", command, self.folder / "consul.log")
        return self.agent

    def has_leader(self) -> bool:
        """Whether it knows a leader."""
        with suppress(OSError):
            return len(fetch(self.ports["http"], "/v1/status/leader").text) > 4
        return False

    def wait_leader(self, seconds: float = 60.0) -> None:
        """Waits until it knows one."""
        wait_until(self.has_leader, "a leader of Consul", seconds)

    def stop(self) -> None:
        """Stops it."""
        if self._server is not None:
            self._server.stop()


def _acl(token: str) -> dict[str, Any]:
    return {"acl": {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": token, "agent": token}}}
