"""Upstreams are edited, added and removed again and again, while requests come without a pause."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gloo_nomad.demo.fetch import Connection
from tests.site import REF, Place, Site, host

pytestmark = [pytest.mark.consul, pytest.mark.envoy]
EDITS = int(os.environ.get("UPSTREAM_EDITS", "60"))
"""How often; 1,000 for the whole proof."""


def to_upstream(name: str) -> dict[str, Any]:
    """A route to an Upstream."""
    return {"matchers": [{"prefix": "/"}], "routeAction": {"single": {"upstream": {"name": name, **REF}}}}


def edited(number: int) -> dict[str, Any]:
    """An Upstream of the service ``web`` that differs from edit to edit: the cluster, its subsets or its balancing."""
    spec: dict[str, Any] = {"serviceName": "web"}
    if number % 3 == 1:
        spec["subsetTags"] = [f"v{number}"]
    changed: dict[str, Any] = {"connectionConfig": {"connectTimeout": f"{1 + number % 9}s"}}
    if number % 3 == 2:
        changed = {"loadBalancerConfig": {"random": {}}, "circuitBreakers": {"maxRequests": 1000 + number}}
    return {"consul": spec, **changed}


@contextmanager
def traffic(site: Site, *domains: str) -> Iterator[Counter[Any]]:
    """Requests without a pause, each thread on a connection that stays open; counted by domain and status."""
    counts: Counter[Any] = Counter()
    stopped = threading.Event()

    def ask(domain: str) -> None:
        connection = Connection(site.port, host=domain)
        while not stopped.is_set():
            try:
                counts[domain, connection.request("/").status] += 1
            except OSError as failure:
                counts[domain, repr(failure)] += 1
                connection.close()
                connection = Connection(site.port, host=domain)
            time.sleep(0.002)
        connection.close()

    threads = [threading.Thread(target=ask, args=(domain,)) for domain in domains for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def test_edits_fail_no_request(place: Place, run_echo: Callable[..., int]) -> None:
    """The Upstream behind a route is edited, another one is added and removed, and a route moves between two."""
    port = run_echo("one")
    instance = place.consul.register("web", port)
    daemon = place.start(services=True)
    for name in ("steady", "left", "right"):
        daemon.put("Upstream", name, edited(0))
    daemon.put("VirtualService", "steady", host("steady.test", to_upstream("steady")))
    daemon.put("VirtualService", "moves", host("moves.test", to_upstream("left")))
    site = place.open(daemon)
    for domain in ("steady.test", "moves.test"):
        site.wait_for(domain, 200, "one")
    try:
        with traffic(site, "steady.test", "moves.test") as counts:
            for number in range(EDITS):
                daemon.put("Upstream", "steady", edited(number))
                if number % 2:
                    daemon.delete("Upstream", "extra")
                else:
                    daemon.put("Upstream", "extra", edited(number))
                if number % 5 == 0:
                    aim = "left" if number % 2 else "right"
                    daemon.put("VirtualService", "moves", host("moves.test", to_upstream(aim)))
                time.sleep(0.05)
            daemon.put("VirtualService", "last", host("last.test", to_upstream("steady")))
            site.wait_for("last.test", 200, "one", 30)
    finally:
        place.consul.deregister(instance)
    assert {status for _, status in counts} == {200}, counts
    assert sum(counts.values()) > EDITS * 2, counts
