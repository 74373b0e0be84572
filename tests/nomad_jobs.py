"""Jobs for tests: echo services that are registered with Nomad itself."""

import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gloo_nomad.demo import families
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.nomad import NomadAgent

SECOND = 1_000_000_000
"""Nomad's durations are nanoseconds."""
_numbers = itertools.count(1)
_ARGUMENTS = ["-m", "gloo_nomad.demo.echo", "--address", "${NOMAD_IP_http}", "--port", "${NOMAD_PORT_http}", "--name"]


def echo_job(
    name: str,
    *,
    count: int = 1,
    namespace: str = "default",
    instance: str = "${NOMAD_ALLOC_ID}",
    tags: tuple[str, ...] = (),
    canary_tags: tuple[str, ...] = (),
    check: bool = True,
    update: dict[str, Any] | None = None,
    shutdown_delay: float = 0,
    kill_timeout: float = 5,
) -> dict[str, Any]:
    """A job with a service of its name; *instance* is the name in its answers. Times are in seconds."""
    checks = [{"Type": "http", "Path": "/health", "Interval": SECOND, "Timeout": SECOND}] if check else []
    service = {"Name": name, "Provider": "nomad", "PortLabel": "http", "Tags": tags, "CanaryTags": canary_tags}
    task = {
        "Name": "echo",
        "Driver": "raw_exec",
        "Config": {"command": sys.executable, "args": [*_ARGUMENTS, instance]},
        "Resources": {"CPU": 20, "MemoryMB": 32},
        "KillTimeout": int(kill_timeout * SECOND),
    }
    group = {
        "Name": "echo",
        "Count": count,
        "Networks": [{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}],
        "Services": [{**service, "Checks": checks}],
        "Tasks": [task],
        "ShutdownDelay": int(shutdown_delay * SECOND),
        "Update": update,
    }
    return {"ID": name, "Namespace": namespace, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]}


def run_job(nomad: NomadAgent, job: dict[str, Any]) -> None:
    """Registers it, anew if there is one."""
    nomad.request("PUT", "jobs", {"Job": job})


def stop_job(nomad: NomadAgent, name: str, namespace: str = "default") -> None:
    """Stops it and forgets it."""
    nomad.request("DELETE", f"job/{name}?purge=true&namespace={namespace}")


def registered(nomad: NomadAgent, name: str, namespace: str = "default") -> dict[int, dict[str, Any]]:
    """What is registered of a service, by port."""
    found = nomad.request("GET", f"service/{name}?namespace={namespace}")
    return {entry["Port"]: entry for entry in found}


def set_health(port: int, state: str) -> None:
    """Makes an instance's check fail (``critical``) or pass (``passing``)."""
    fetch(port, f"/health/{state}", method="POST")


def promote(nomad: NomadAgent, job: str) -> bool:
    """Promotes the canaries of a job's deployment; False as long as they are not healthy yet."""
    deployment = nomad.request("GET", f"job/{job}/deployment")["ID"]
    body = {"DeploymentID": deployment, "All": True}
    answer = fetch(nomad.port, f"/v1/deployment/promote/{deployment}", method="PUT", body=json.dumps(body).encode())
    return answer.status == 200


def crash(nomad: NomadAgent) -> None:
    """Ends an agent and its tasks without the farewell by which it would deregister them."""
    below = families.descendants(nomad.server.pid)
    nomad.server.process.kill()
    nomad.server.process.wait()
    families.kill(nomad.server.pid, below)


@contextmanager
def new_job(nomad: NomadAgent) -> Iterator[str]:
    """A name of a job and its service that no other test has; the job is stopped afterwards."""
    name = f"nomad-job-{next(_numbers)}"
    yield name
    stop_job(nomad, name)
