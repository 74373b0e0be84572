"""Five thousand services of Consul behind routes: few connections, from the first moment on."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.envoy.names import consul_cluster_name
from tests.benchmarks.measure import fill
from tests.benchmarks.services import objects, register_services, service_name
from tests.daemon import Daemon
from tests.site import Place

pytestmark = pytest.mark.consul

SERVICES = 5000
MOST_CONNECTIONS = 150
PATIENCE = 180.0


@contextmanager
def counted(daemon: Daemon, consul: ConsulAgent) -> Iterator[list[int]]:
    """How many connections to Consul a process has, again and again."""
    found: list[int] = []
    stopped = threading.Event()

    def count() -> None:
        while not stopped.wait(0.02):
            open_ones = psutil.Process(daemon.server.pid).net_connections("tcp")
            found.append(sum(1 for each in open_ones if each.raddr and each.raddr.port == consul.port))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield found
    finally:
        stopped.set()
        thread.join()


def test_connections_of_five_thousand_services(place: Place, new_consul: Callable[..., ConsulAgent]) -> None:
    """All are known, one that changes is followed, and never are there more than 150 connections."""
    consul = place.consul = new_consul()
    place.root = "gloo"
    register_services(consul, SERVICES)
    fill(consul, objects(SERVICES))
    daemon = place.start(services=True, ready=False)
    last = service_name(SERVICES - 1)
    with counted(daemon, consul) as connections:
        wait_until(lambda: instances(daemon, last) == 1, "the last service", PATIENCE)
        wait_until(lambda: instances(daemon, service_name(0)) == 1, "the first service", PATIENCE)
        second = {"Node": "crowd", "Service": {"ID": "another", "Service": last, "Address": "127.0.0.2", "Port": 80}}
        consul.request("PUT", "catalog/register", json.dumps({**second, "SkipNodeUpdate": True}).encode())
        wait_until(lambda: instances(daemon, last) == 2, "another instance", PATIENCE)
    assert len(connections) > 10
    assert 50 < max(connections) <= MOST_CONNECTIONS


def instances(daemon: Daemon, service: str) -> int:
    """How many instances of a service Envoys are served."""
    name = consul_cluster_name(service)
    for snapshot in daemon.admin(f"/snapshots/xds?type=endpoints&name={name}").values():
        assignment = snapshot.get("endpoints", {}).get(name, {})
        return sum(len(locality.get("lbEndpoints", ())) for locality in assignment.get("endpoints", ()))
    return 0
