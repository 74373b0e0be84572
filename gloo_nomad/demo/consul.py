"""A Consul agent in development mode on free ports."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerError, ServerProcess, start_process, wait_ready


@dataclass(frozen=True)
class ConsulAgent:
    """A running agent. Its data is gone when it stops."""

    binary: Path
    server: ServerProcess
    port: int
    dns_port: int
    token: str = ""
    """What every request here presents, where ACLs are on."""

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT`` of the HTTP API."""
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find this agent."""
        token = {"CONSUL_HTTP_TOKEN": self.token} if self.token else {}
        return {"CONSUL_HTTP_ADDR": self.address, **token}

    def command(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Runs ``consul ARGUMENTS`` against this agent and returns what it printed; raises ``ServerError``."""
        env = {**os.environ, **self.environment}
        done = subprocess.run(
            [self.binary, *arguments], env=env, input=stdin, capture_output=True, check=False, timeout=60
        )
        if done.returncode:
            raise ServerError(f"consul {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def request(self, method: str, path: str, body: bytes | None = None) -> Any:
        """One request to ``/v1/PATH``, decoded; None for an empty answer. An error status raises ``ServerError``."""
        answer = fetch(self.port, f"/v1/{path}", method=method, body=body, headers=self._headers)
        if answer.status >= 400 and not (method == "GET" and answer.status == 404):
            raise ServerError(f"{method} {path}: {answer.status} {answer.text}")
        return answer.json() if answer.status < 300 and answer.body else None

    @property
    def _headers(self) -> dict[str, str]:
        return {"X-Consul-Token": self.token} if self.token else {}

    def put(self, key: str, value: bytes | str) -> None:
        """Writes a key of the KV store."""
        self.request("PUT", f"kv/{key}", value.encode() if isinstance(value, str) else value)

    def get(self, key: str) -> bytes | None:
        """A key's value, None if there is no such key."""
        answer = fetch(self.port, f"/v1/kv/{key}?raw", headers=self._headers)
        return answer.body if answer.status == 200 else None

    def delete(self, key: str, *, recurse: bool = False) -> None:
        """Deletes a key, or with *recurse* all keys that begin with it."""
        self.request("DELETE", f"kv/{key}{'?recurse' if recurse else ''}")

    def register(self, name: str, port: int, *, instance: str = "", **more: Any) -> str:
        """Registers a service on loopback and returns its instance's id; *more* as in the agent's service API."""
        identity = instance or f"{name}-{port}"
        service = {"ID": identity, "Name": name, "Address": "127.0.0.1", "Port": port, **more}
        self.request("PUT", "agent/service/register", json.dumps(service).encode())
        return identity

    def deregister(self, instance: str) -> None:
        """Takes a service's instance out of the catalog."""
        self.request("PUT", f"agent/service/deregister/{instance}")

    def passing(self, name: str) -> list[Mapping[str, Any]]:
        """The instances of a service whose checks all pass, as ``/v1/health/service`` answers them."""
        found: list[Mapping[str, Any]] = self.request("GET", f"health/service/{name}?passing=true") or []
        return found

    def stop(self) -> None:
        """Stops the agent."""
        self.server.stop()


def start_consul(
    directory: Path, *, binary: Path | None = None, port: int | None = None, config: Mapping[str, Any] | None = None
) -> ConsulAgent:
    """Starts an agent whose files are in *directory*; *config* is laid over its configuration.

    A fixed *port* of the HTTP API allows to start a new agent where another one was.
    """
    program = binary or find_binary("consul")
    http = port or free_port()
    dns = free_port()
    ports = {name: free_port() for name in ("grpc", "grpc_tls", "serf_lan", "serf_wan", "server")}
    settings = {
        "ports": {**ports, "http": http, "dns": dns},
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "disable_update_check": True,
        "log_level": "warn",
        **(config or {}),
    }
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "consul.json"
    file.write_text(json.dumps(settings))
    server = start_process("consul", [program, "agent", "-dev", "-config-file", file], directory / "consul.log")
    wait_ready(server, lambda: len(fetch(http, "/v1/status/leader").text) > 4)
    return ConsulAgent(program, server, http, dns)
