"""A service that is registered with Nomad is updated under load, as docs/nomad-services.md says."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.processes import wait_until
from tests.nomad_jobs import SECOND, echo_job, run_job, stop_job
from tests.site import REF, Place, Site, host

pytestmark = [pytest.mark.nomad, pytest.mark.consul, pytest.mark.envoy]

NAME = "rolling"
DOMAIN = "rolling.test"
CLIENTS = 4
DEPLOYMENT_SECONDS = 120.0


@pytest.fixture
def job(nomad: NomadAgent) -> Iterator[None]:
    """The job's name is free, and is so again."""
    yield
    stop_job(nomad, NAME)


def version(number: int) -> dict[str, Any]:
    """The job, whose two instances say their version."""
    update = {"MaxParallel": 1, "HealthCheck": "checks", "MinHealthyTime": 3 * SECOND}
    name = f"v{number}-${{NOMAD_ALLOC_INDEX}}"
    return echo_job(NAME, count=2, instance=name, update=update, shutdown_delay=3, kill_timeout=10)


def is_deployed(nomad: NomadAgent, number: int) -> bool:
    """Whether the deployment of a version of the job has ended well."""
    deployment = nomad.request("GET", f"job/{NAME}/deployment") or {}
    assert deployment.get("Status") != "failed", deployment
    return deployment.get("JobVersion") == number and deployment["Status"] == "successful"


@contextmanager
def load(site: Site) -> Iterator[Counter[str]]:
    """Several clients ask without a pause meanwhile; what answered, by instance, or by what went wrong."""
    counts: Counter[str] = Counter()
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            status, body = site.get(DOMAIN)
            found = re.search(r'"instance": "([^"]*)"', body)
            counts[found[1] if status == 200 and found else f"failed: {status} {body[:200]}"] += 1
            time.sleep(0.01)

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield counts
    finally:
        stopped.set()
        for client in clients:
            client.join()


@pytest.mark.usefixtures("job")
def test_a_rolling_deployment_fails_no_request(nomad: NomadAgent, place: Place) -> None:
    """Two instances are replaced one after the other, twice; there is no retry, and no request fails."""
    daemon = place.start(environ=nomad.environment)
    route = {"single": {"upstream": {"name": f"nomad-svc:{NAME}", **REF}}}
    daemon.put("VirtualService", NAME, host(DOMAIN, {"matchers": [{"prefix": "/"}], "routeAction": route}))
    site = place.open(daemon)
    run_job(nomad, version(0))
    wait_until(lambda: is_deployed(nomad, 0), "the first deployment", DEPLOYMENT_SECONDS)
    site.wait_for(DOMAIN, 200, "v0", 30)

    with load(site) as counts:
        for number in (1, 2):
            run_job(nomad, version(number))
            wait_until(lambda number=number: is_deployed(nomad, number), "the deployment", DEPLOYMENT_SECONDS)  # type: ignore[misc]
        time.sleep(1)

    assert counts.keys() == {f"v{number}-{instance}" for number in range(3) for instance in range(2)}
    assert sum(counts.values()) > 500
