"""An OpenBao that keeps its data in files, for tests that seal it, stop it and start it again."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerError, ServerProcess, start_process, wait_ready, wait_until

_CONFIG = """
storage "raft" {{
  path    = "{data}"
  node_id = "one"
}}
listener "tcp" {{
  address         = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_disable     = true
}}
api_addr     = "http://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
disable_mlock = true
"""


@dataclass
class StoredOpenBao:
    """A server with a KV v2 engine at ``secret/``; ``bao`` speaks to it with its root token."""

    folder: Path
    binary: Path
    port: int
    server: ServerProcess
    bao: OpenBao
    key: str = ""

    @classmethod
    def start(cls, folder: Path, binary: Path, port: int) -> "StoredOpenBao":
        """A new server, initialised and unsealed."""
        (folder / "data").mkdir(parents=True)
        (folder / "bao.hcl").write_text(_CONFIG.format(data=folder / "data", port=port, cluster_port=free_port()))
        server = _run(folder, binary, port)
        try:
            asked = {"secret_shares": 1, "secret_threshold": 1}
            made = OpenBao(server, port, "").request("PUT", "sys/init", asked).json()
            started = cls(folder, binary, port, server, OpenBao(server, port, made["root_token"]), made["keys"][0])
            started.unseal()
            started.bao.request("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
            wait_until(lambda: _is_upgraded(started.bao), "the KV engine", 30)
        except BaseException:
            server.stop()
            raise
        return started

    def seal(self) -> None:
        """Makes it forget its key."""
        self.bao.request("POST", "sys/seal")

    def unseal(self) -> None:
        """Gives it its key again, and waits until it is in charge."""
        self.bao.request("POST", "sys/unseal", {"key": self.key})
        wait_until(lambda: fetch(self.port, "/v1/sys/health").status == 200, "OpenBao being active", 30)

    def stop(self) -> None:
        """Stops it; its data stays."""
        self.server.stop()

    def start_again(self) -> None:
        """Starts it with the data that it had; it is sealed then."""
        self.server = _run(self.folder, self.binary, self.port)


def _is_upgraded(bao: OpenBao) -> bool:
    """A new KV 2 engine refuses requests for a moment."""
    try:
        return bao.request("GET", "secret/config").status == 200
    except ServerError:
        return False


def _run(folder: Path, binary: Path, port: int) -> ServerProcess:
    env: dict[str, Any] = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_"))}
    command: list[str | Path] = [binary, "server", f"-config={folder / 'bao.hcl'}"]
    server = start_process("openbao", command, folder / "openbao.log", env={**env, "HOME": str(folder)})
    wait_ready(server, lambda: fetch(port, "/v1/sys/seal-status").status == 200)
    return server
