"""What all benchmarks need: a daemon, keys in Consul, a client that waits, CPU seconds, the bare read of Consul."""

import asyncio
import json
import os
import socket
import statistics
import sys
import time
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import psutil

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerProcess, start_process, wait_ready, wait_until
from gloo_nomad.envoy.names import split_routes_name
from gloo_nomad.resources import ROUTES, VIRTUAL_HOST
from tests.xds_client import DeltaClient

ROUTE_CONFIG = "listener-::-8080-routes"
ROOT = "gloo/"
OWN_KEYS = "gloo/gloo-nomad/"
"""Of the program, such as its locks."""
PREFIX = "gloo/gateway.solo.io/v1/VirtualService/"
TRANSACTION = 64
READS = 7
SETTLE_SECONDS = 300.0
"""Ten thousand statuses take minutes."""
SHARD_KEYS = 250
SHARD_SECONDS = 35.0
"""Kinds with more keys are cut into shards when the program has run for 30 seconds."""
_STATUS = b"namespacedStatuses"


def start_gloo(
    consul: ConsulAgent, target: str, folder: Path, environ: Mapping[str, str] | None = None
) -> ServerProcess:
    """The gloo role, alone."""
    program = Path(sys.executable).parent / "gloo-nomad"
    command: list[str | Path] = [program, "run", "--role", "gloo", "--consul-address", consul.address]
    command += ["--xds-bind", target, "--admin-bind", f"127.0.0.1:{free_port()}"]
    server = start_process("gloo", command, folder / "gloo.log", env={**os.environ, **(environ or {})})
    wait_ready(server, lambda: _listens(target))
    return server


def _listens(target: str) -> bool:
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=1):
        return True


def fill(consul: ConsulAgent, pairs: Iterable[tuple[str, str]]) -> None:
    """Writes keys in transactions."""
    batch: list[dict[str, object]] = []
    for key, value in pairs:
        batch.append({"KV": {"Verb": "set", "Key": key, "Value": b64encode(value.encode()).decode()}})
        if len(batch) == TRANSACTION:
            consul.request("PUT", "txn", json.dumps(batch).encode())
            batch = []
    if batch:
        consul.request("PUT", "txn", json.dumps(batch).encode())


async def subscribe_routes(client: DeltaClient, route_config: str = ROUTE_CONFIG) -> None:
    """Asks for routes in both forms: which of them there is, only the listener says."""
    await client.subscribe(ROUTES, route_config, split_routes_name(route_config))
    await client.subscribe(VIRTUAL_HOST)


async def wait_for(client: DeltaClient, needle: bytes, within: float) -> int:
    """Takes responses until one has *needle*; how many bytes of routes came in that one."""
    deadline = time.monotonic() + within
    while True:
        response = await client.receive(max(0.1, deadline - time.monotonic()))
        arrived = [bytes(resource.resource.value) for resource in response.resources]
        await client.ack(response)
        if any(needle in body for body in arrived):
            return sum(map(len, arrived))


def wait_for_statuses(consul: ConsulAgent) -> None:
    """Returns when all objects have a status. They are written after serving, with pauses in which nobody works.

    All objects are read but twice or so; in between it is the last one of those that had none.
    """
    while missing := _without_status(consul):
        wait_until(partial(_has_status, consul, missing[-1]), f"the status of {missing[-1]}", SETTLE_SECONDS)


def _has_status(consul: ConsulAgent, key: str) -> bool:
    return _STATUS in (consul.get(key) or b"")


def _without_status(consul: ConsulAgent) -> list[str]:
    """The keys of objects that have none."""
    with urllib.request.urlopen(f"http://{consul.address}/v1/kv/{ROOT}?recurse", timeout=60) as answer:
        pairs = [pair for pair in json.load(answer) if not pair["Key"].startswith(OWN_KEYS)]
    return [pair["Key"] for pair in pairs if _STATUS not in b64decode(pair["Value"] or "")]


async def settle(process: psutil.Process) -> None:
    """Waits until the process has nothing to do any more, a change's status included."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        before = cpu_seconds(process)
        await asyncio.sleep(2.0)
        if cpu_seconds(process) - before < 0.06:
            return


def warm_up_seconds(keys: int) -> float:
    """How long a daemon has to run until it does what it does in the long run."""
    return SHARD_SECONDS if keys > SHARD_KEYS else 5.0


def cpu_seconds(process: psutil.Process) -> float:
    """What a process has used so far."""
    times = process.cpu_times()
    return times.user + times.system


def queued_seconds(process: psutil.Process) -> float:
    """How long threads of a process that live still could have run and had no core: what a busy machine costs.

    Several may wait at a time. https://docs.kernel.org/scheduler/sched-stats.html
    """
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[1]) for task in tasks) / 1e9


def bare_read(consul: ConsulAgent, reads: int = READS) -> float:
    """Median seconds of so many reads that Consul needs to hand over the prefix to a plain reader."""
    seconds = []
    for _ in range(reads):
        started = time.perf_counter()
        with urllib.request.urlopen(f"http://{consul.address}/v1/kv/{PREFIX}?recurse", timeout=60) as answer:
            answer.read()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
