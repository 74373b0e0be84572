"""OpenBao's development server: it speaks Vault's API, is unsealed, and has a KV v2 engine at ``secret/``."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerError, ServerProcess, start_process, wait_ready

ROOT_TOKEN: Final = "root"  # noqa: S105  # the documented token of a development server
"""Of a development server; nothing else accepts it."""

_PATIENCE: Final = 60.0
"""Seconds for one answer: a disk that many write to is slow."""
_UNSEAL_KEY: Final = re.compile(r"Unseal Key: (\S+)")


@dataclass(frozen=True)
class OpenBao:
    """A running server. Its data is gone when it stops."""

    server: ServerProcess
    port: int
    token: str

    @property
    def address(self) -> str:
        """The URL of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find this server and be let in."""
        return {"VAULT_ADDR": self.address, "VAULT_TOKEN": self.token}

    @property
    def unseal_key(self) -> str:
        """What unseals it again; a development server tells it in its log."""
        found = _UNSEAL_KEY.search(self.server.log.read_text())
        return found[1] if found else ""

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request to ``/v1/PATH`` with the root token; raises ``ServerError`` for an error status."""
        content = None if body is None else json.dumps(body).encode()
        sent = {"X-Vault-Token": self.token, **(headers or {})}
        answer = fetch(self.port, f"/v1/{path}", method=method, body=content, headers=sent, timeout=_PATIENCE)
        if answer.status >= 400:
            raise ServerError(f"{method} {path}: {answer.status} {answer.text.strip()}")
        return answer

    def put_secret(self, namespace: str, name: str, secret: Mapping[str, Any], *, root: str = "gloo") -> None:
        """Stores a Secret object's fields where the daemon looks for it in the KV v2 engine ``secret/``."""
        payload = {"metadata": {"name": name, "namespace": namespace}, **secret}
        self.request("POST", f"secret/data/{root}/gloo.solo.io/v1/Secret/{namespace}/{name}", {"data": payload})

    def delete_secret(self, namespace: str, name: str, *, root: str = "gloo") -> None:
        """Removes a Secret object with all its versions."""
        self.request("DELETE", f"secret/metadata/{root}/gloo.solo.io/v1/Secret/{namespace}/{name}")

    def write_policy(self, name: str, policy: str) -> None:
        """Stores an ACL policy."""
        self.request("PUT", f"sys/policies/acl/{name}", {"policy": policy})

    def create_token(self, policy: str, ttl: str = "1h") -> str:
        """A renewable token that has *policy* only."""
        answer = self.request("POST", "auth/token/create", {"policies": [policy], "ttl": ttl, "renewable": True})
        token: str = answer.json()["auth"]["client_token"]
        return token

    def stop(self) -> None:
        """Stops the server."""
        self.server.stop()


def start_openbao(
    directory: Path, *, binary: Path | None = None, port: int | None = None, token: str = ROOT_TOKEN
) -> OpenBao:
    """Starts a server that logs to *directory*; a fixed *port* allows to start a new one where another was."""
    program = binary or find_binary("bao")
    listen = port or free_port()
    arguments = ["server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={token}"]
    directory.mkdir(parents=True, exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_"))}
    server = start_process(
        "openbao",
        [program, *arguments, f"-dev-listen-address=127.0.0.1:{listen}"],
        directory / "openbao.log",
        env={**env, "HOME": str(directory)},
    )
    bao = OpenBao(server, listen, token)
    wait_ready(server, lambda: _is_mounted(bao))
    return bao


def _is_mounted(bao: OpenBao) -> bool:
    try:
        return "secret/" in bao.request("GET", "sys/mounts").json()["data"]
    except ServerError:
        return False
