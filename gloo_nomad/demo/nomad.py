"""A Nomad agent in development mode on free ports, with the raw_exec driver switched on.

It has to run as root, and without AWS_CA_BUNDLE: with that variable it ends at once with "unable to add custom
RootCAs HTTPClient", before its own fingerprinting of clouds can be switched off.
"""

import json
import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerError, ServerProcess, start_process, wait_ready

_CONFIG = """
bind_addr = "127.0.0.1"
data_dir = {data}
disable_update_check = true
log_level = "WARN"
ports {{
  http = {http}
  rpc  = {rpc}
  serf = {serf}
}}
client {{
  network_interface = "lo"
  min_dynamic_port  = {first}
  max_dynamic_port  = {last}
  options = {{
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }}
}}
plugin "raw_exec" {{
  config {{
    enabled = true
  }}
}}
"""
_ACL = """
acl {
  enabled = true
}
"""
_CONSUL = """
consul {{
  address = {address}
}}
"""


@dataclass(frozen=True)
class NomadAgent:
    """A running server and client in one process. Its jobs end with it."""

    binary: Path
    server: ServerProcess
    port: int
    data: Path
    """Its folder; Nomad mounts file systems for secrets below it, and leaves them when it ends."""
    token: str = ""
    """Goes with every request; empty where ACLs are off."""

    @property
    def address(self) -> str:
        """The URL of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find this agent."""
        return {"NOMAD_ADDR": self.address, **({"NOMAD_TOKEN": self.token} if self.token else {})}

    def command(self, *arguments: str, seconds: float = 180.0) -> str:
        """Runs ``nomad ARGUMENTS`` against this agent and returns what it printed; raises ``ServerError``."""
        env = {**os.environ, **self.environment}
        line = [str(self.binary), *arguments]
        try:
            done = subprocess.run(line, env=env, capture_output=True, check=False, timeout=seconds, text=True)
        except subprocess.TimeoutExpired as failure:
            raise ServerError(f"nomad {' '.join(arguments)}: no end after {seconds:g} s") from failure
        if done.returncode:
            raise ServerError(f"nomad {' '.join(arguments)}: {(done.stderr + done.stdout).strip()}")
        return done.stdout

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One request to ``/v1/PATH``, decoded; raises ``ServerError`` for an error status."""
        content = None if body is None else json.dumps(body).encode()
        answer = fetch(self.port, f"/v1/{path}", method=method, body=content, headers=_headers(self.token))
        if answer.status >= 400:
            raise ServerError(f"{method} {path}: {answer.status} {answer.text.strip()}")
        return answer.json() if answer.body else None

    def task_logs(self, job: str) -> str:
        """What the tasks of a job wrote last, newest allocation first, for an error message."""
        lines = []
        for allocation in self.request("GET", f"job/{job}/allocations"):
            for task in allocation["TaskStates"] or {}:
                lines.append(f"--- {allocation['TaskGroup']}/{task} {allocation['ClientStatus']}")
                lines.extend(self._log(allocation["ID"], task, stream) for stream in ("stdout", "stderr"))
        return "\n".join(lines)

    def _log(self, allocation: str, task: str, stream: str) -> str:
        path = f"/v1/client/fs/logs/{allocation}?task={task}&type={stream}&plain=true&origin=end&offset=4000"
        answer = fetch(self.port, path, headers=_headers(self.token))
        return answer.text if answer.status == 200 else ""

    def stop(self) -> None:
        """Stops the agent and all tasks of its jobs."""
        self.server.stop(grace=30.0)
        unmount_below(self.data)


def start_nomad(
    directory: Path,
    *,
    binary: Path | None = None,
    consul: ConsulAgent | None = None,
    port: int | None = None,
    config: str = "",
    token: str = "",
    data: Path | None = None,
) -> NomadAgent:
    """Starts an agent whose files are in *directory*, with its services in *consul* if that is given.

    *config* is further configuration in HCL. With a *token* (a UUID) ACLs are on, and that is the management token.
    *data* is another folder for allocations: the path of a task's socket must not be longer than 107 bytes.
    """
    program = binary or find_binary("nomad")
    http = port or free_port()
    data = data or directory / "nomad"
    for folder in (directory, data):
        folder.mkdir(parents=True, exist_ok=True)
    file = directory / "nomad.hcl"
    file.write_text(_build_config(data, http, consul) + config + (_ACL if token else ""))
    env = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    server = start_process("nomad", [program, "agent", "-dev", "-config", file], directory / "nomad.log", env=env)
    if token:
        wait_ready(server, lambda: _has_token(http, token))
    wait_ready(server, lambda: _has_ready_node(http, token))
    return NomadAgent(program, server, http, data.absolute(), token)


def unmount_below(folder: Path) -> None:
    """Unmounts what is mounted below a folder, the innermost first, so that the folder can be removed."""
    mounts = [line.split()[1].replace(r"\040", " ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if Path(mount).is_relative_to(folder)), reverse=True):
        subprocess.run(["umount", mount], check=False, capture_output=True, timeout=30)


def _build_config(data: Path, http: int, consul: ConsulAgent | None) -> str:
    first = random.SystemRandom().randrange(20_000, 31_000, 100)
    text = _CONFIG.format(
        data=json.dumps(str(data.absolute())),
        http=http,
        rpc=free_port(),
        serf=free_port(),
        first=first,
        last=first + 99,
    )
    return text + (_CONSUL.format(address=json.dumps(consul.address)) if consul else "")


def _headers(token: str) -> dict[str, str]:
    return {"X-Nomad-Token": token} if token else {}


def _has_token(port: int, token: str) -> bool:
    """Makes it the management token, if that is not done."""
    body = json.dumps({"BootstrapSecret": token}).encode()
    made = fetch(port, "/v1/acl/bootstrap", method="POST", body=body)
    return made.status == 200 or fetch(port, "/v1/acl/token/self", headers=_headers(token)).status == 200


def _has_ready_node(port: int, token: str) -> bool:
    answer = fetch(port, "/v1/nodes", headers=_headers(token))
    nodes = answer.json() if answer.status == 200 else []
    return any(node["Status"] == "ready" and node["Drivers"]["raw_exec"]["Healthy"] for node in nodes)
