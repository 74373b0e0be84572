"""The Settings object in Consul KV, laid over the file while the daemon runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon, start_daemon


def endpoints(daemon: Daemon, cluster: str) -> list[Any]:
    """The ports that Envoys are served for a cluster; an empty list if none are."""
    for snapshot in daemon.admin("/snapshots/xds?type=endpoints").values():
        assignment = snapshot.get("endpoints", {}).get(cluster, {})
        return [
            endpoint["endpoint"]["address"]["socketAddress"]["portValue"]
            for locality in assignment.get("endpoints", [])
            for endpoint in locality.get("lbEndpoints", [])
        ]
    return []


def test_service_discovery_is_switched_live(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Publishing the entry switches discovery on, removing it switches it off, a broken one changes nothing."""
    service = f"switch-{root_key}"
    instance = consul.register(service, 18080)
    daemon = start_daemon(tmp_path, consul, root_key, free_port, roles=("gloo", "discovery"))
    cluster = f"consul-svc:{service}_gloo-system"
    with daemon.server:
        daemon.put("Gateway", "gateway-proxy", {"bindAddress": "::", "bindPort": 8080, "httpGateway": {}})
        route = {"routeAction": {"single": {"consul": {"serviceName": service}}}}
        daemon.put("VirtualService", "vs", {"virtualHost": {"domains": ["*"], "routes": [route]}})
        daemon.wait_status("VirtualService", "vs", "Accepted")
        assert endpoints(daemon, cluster) == []
        assert daemon.stored("Upstream", service) is None

        daemon.put("Settings", "default", {"consul": {"serviceDiscovery": {}}})
        wait_until(lambda: endpoints(daemon, cluster) == [18080], "the endpoint", 10)
        wait_until(lambda: daemon.stored("Upstream", service) is not None, "the discovered Upstream", 10)
        upstream = daemon.stored("Upstream", service)
        assert upstream is not None
        assert upstream["consul"]["serviceName"] == service
        assert upstream["metadata"]["labels"] == {"discovered_by": "consulplugin"}

        daemon.put("Settings", "default", "metadata: {name: default, namespace: gloo-system}\nconsul: 3\n")
        wait_until(lambda: daemon.problems_of("Settings") != [], "the report on the broken settings", 10)
        assert endpoints(daemon, cluster) == [18080]

        daemon.delete("Settings", "default")
        wait_until(lambda: endpoints(daemon, cluster) == [], "the end of discovery", 10)
        assert daemon.problems_of("Settings") == []
    consul.deregister(instance)


def test_discovery_keeps_what_the_user_set_and_removes_what_vanished(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """A discovered Upstream keeps the user's fields when its service changes, and goes when the service goes."""
    service = f"kept-{root_key}"
    instance = consul.register(service, 18081)
    settings = {"consul": {"httpAddress": consul.address, "serviceDiscovery": {}}}
    daemon = start_daemon(tmp_path, consul, root_key, free_port, roles=("discovery",), settings=settings)
    with daemon.server:
        wait_until(lambda: daemon.stored("Upstream", service) is not None, "the discovered Upstream", 10)
        upstream = daemon.stored("Upstream", service)
        assert upstream is not None
        upstream["connectionConfig"] = {"connectTimeout": "3s"}
        daemon.put("Upstream", service, upstream)
        daemon.put("Upstream", "own", {"static": {"hosts": [{"addr": "127.0.0.1", "port": 80}]}})

        consul.register(service, 18081, instance=instance, Tags=["v2"])
        wait_until(
            lambda: (daemon.stored("Upstream", service) or {})["consul"].get("serviceTags") == ["v2"], "the tag", 10
        )
        assert (daemon.stored("Upstream", service) or {})["connectionConfig"] == {"connectTimeout": "3s"}

        consul.deregister(instance)
        wait_until(lambda: daemon.stored("Upstream", service) is None, "the removal", 15)
        assert daemon.stored("Upstream", "own") is not None


def test_the_gateway_role_creates_the_default_gateways_once(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Without any Gateway the two default ones are written; a deleted one is not written again while it runs."""
    daemon = start_daemon(tmp_path, consul, root_key, free_port, roles=("gateway",))
    with daemon.server:
        wait_until(lambda: daemon.stored("Gateway", "gateway-proxy-ssl") is not None, "the default gateways", 10)
        stored = daemon.stored("Gateway", "gateway-proxy") or {}
        assert (stored["bindAddress"], stored["bindPort"]) == ("::", 8080)
        assert (daemon.stored("Gateway", "gateway-proxy-ssl") or {})["ssl"] is True

        daemon.delete("Gateway", "gateway-proxy")
        daemon.put("VirtualService", "vs", {"virtualHost": {}})
        wait_until(lambda: daemon.admin("/snapshots/config?kind=VirtualService") is not None, "a round", 5)
        assert daemon.stored("Gateway", "gateway-proxy") is None


def test_no_default_gateways_where_they_are_switched_off(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """``createDefaultGateways: false`` leaves an empty configuration empty."""
    settings = {"extensions": {"configs": {"gloo-nomad": {"createDefaultGateways": False}}}}
    daemon = start_daemon(tmp_path, consul, root_key, free_port, roles=("gateway",), settings=settings)
    with daemon.server:
        daemon.put("VirtualService", "vs", {"virtualHost": {}})
        wait_until(
            lambda: "vs" in str(daemon.admin("/snapshots/config?kind=VirtualService")), "the object being read", 10
        )
        assert daemon.stored("Gateway", "gateway-proxy") is None
