"""Stock Envoy: its bootstrap for the daemon's xDS, a running one, and its validation of a configuration."""

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gloo_nomad.acceptance.names import is_ip_address
from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.envoy_tls import ClientTls, build_transport_socket
from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerError, ServerProcess, start_process, wait_ready

XDS_CLUSTER: Final = "xds_cluster"
REST_CLUSTER: Final = "rest_xds_cluster"
_HTTP2: Final = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}},
        },
    },
}
_RETRY: Final = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
"""Envoy would wait up to half a minute after a few failed connections."""


@dataclass(frozen=True)
class Envoy:
    """A running Envoy."""

    server: ServerProcess
    admin_port: int

    def admin(self, path: str, *, method: str = "GET") -> Answer:
        """One request to the admin interface."""
        return fetch(self.admin_port, path, method=method)

    def stat(self, name: str) -> int:
        """One counter or gauge, 0 if Envoy does not have it (yet)."""
        for line in self.admin(f"/stats?filter=^{name}$").text.splitlines():
            found, _, value = line.partition(": ")
            if found == name:
                return int(value)
        return 0

    def config_dump(self) -> list[Mapping[str, Any]]:
        """What Envoy runs with, as its admin interface dumps it, endpoints included."""
        dump: list[Mapping[str, Any]] = self.admin("/config_dump?include_eds").json()["configs"]
        return dump

    def stop(self) -> None:
        """Stops Envoy."""
        self.server.stop()


def build_bootstrap(
    *,
    xds_port: int,
    admin_port: int,
    xds_host: str = "127.0.0.1",
    admin_host: str = "127.0.0.1",
    role: str = "gloo-system~gateway-proxy",
    node_id: str = "gateway-proxy-1",
    delta: bool = True,
    rest_xds: tuple[str, int] | None = None,
    tls: ClientTls | None = None,
) -> dict[str, Any]:
    """A bootstrap that takes everything from the xDS server at that host (a name or an IP) and port, by ADS.

    *role* is ``<write namespace>~<proxy>``; with *delta* false Envoy asks for the state of the world. *rest_xds* is
    where it polls endpoints if ``gloo.enableRestEds`` is on. Without *tls* it asks in plain text.
    """
    return {
        "node": {"id": node_id, "cluster": "gateway", "metadata": {"role": role}},
        "admin": {"address": _address(admin_port, admin_host)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if delta else "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER, "retry_policy": _RETRY}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {
            "clusters": [_xds_cluster(xds_port, xds_host, tls), *([_rest_cluster(*rest_xds)] if rest_xds else [])]
        },
    }


def _rest_cluster(host: str, port: int) -> dict[str, Any]:
    """Plain HTTP/1, as Envoy polls."""
    cluster = {**_xds_cluster(port, host, None), "name": REST_CLUSTER}
    del cluster["typed_extension_protocol_options"]
    return cluster


def _xds_cluster(port: int, host: str, tls: ClientTls | None) -> dict[str, Any]:
    socket = {"transport_socket": build_transport_socket(tls, host)} if tls else {}
    return {
        "name": XDS_CLUSTER,
        "type": "STATIC" if is_ip_address(host) else "STRICT_DNS",
        "connect_timeout": "5s",
        **socket,
        "typed_extension_protocol_options": _HTTP2,
        "load_assignment": {
            "cluster_name": XDS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port, host)}}]}],
        },
    }


def _address(port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def start_envoy(
    directory: Path,
    bootstrap: Mapping[str, Any],
    *,
    binary: Path | None = None,
    ready: bool = False,
    log_level: str = "warning",
    concurrency: int = 1,
    drain_seconds: int = 600,
) -> Envoy:
    """Starts Envoy with *bootstrap*, which may leave the admin address out, and with so many worker threads.

    Connections to listeners that were replaced have *drain_seconds* left. Access logs are written out at once, and not
    every ten seconds. Returns when the admin interface answers, or with *ready* when Envoy has its first configuration
    and listens.
    """
    program = binary or find_binary("envoy")
    config = dict(bootstrap)
    config.setdefault("admin", {"address": _address(free_port())})
    port = int(config["admin"]["address"]["socket_address"]["port_value"])
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"envoy-{port}.json"
    file.write_text(json.dumps(config))
    line: list[str | Path] = [program, "-c", file, "--disable-hot-restart", "--concurrency", str(concurrency)]
    line += ["--drain-time-s", str(drain_seconds), "-l", log_level, "--file-flush-interval-msec", "100"]
    server = start_process("envoy", line, directory / f"envoy-{port}.log")
    path = "/ready" if ready else "/server_info"
    wait_ready(server, lambda: fetch(port, path).status == 200)
    return Envoy(server, port)


def validate_bootstrap(directory: Path, bootstrap: Mapping[str, Any], *, binary: Path | None = None) -> str:
    """What ``envoy --mode validate`` has against *bootstrap*; empty if it accepts it."""
    program = binary or find_binary("envoy")
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"validate-{time.monotonic_ns()}.json"
    file.write_text(json.dumps(bootstrap))
    line: list[str | Path] = [program, "--mode", "validate", "-c", file, "-l", "error"]
    try:
        done = subprocess.run(line, capture_output=True, check=False, timeout=60, text=True)
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise ServerError(f"envoy --mode validate: {failure}") from failure
    finally:
        file.unlink()
    return "" if done.returncode == 0 else (done.stderr + done.stdout).strip()
