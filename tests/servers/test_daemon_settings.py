"""The Settings object in Consul KV, laid over the file while the daemon runs."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.resources import CLUSTER
from tests.daemon import Daemon, start_daemon
from tests.site import Place, direct, host, put_gateways
from tests.xds_client import DeltaClient


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


def domains(daemon: Daemon) -> str:
    """The domains that are served."""
    return str(daemon.admin("/snapshots/xds?type=routes"))


def test_settings_that_cannot_be_used_change_nothing(place: Place) -> None:
    """An address that is none is told in the object's status; the daemon serves on, also after a restart."""
    daemon = place.start()
    put_gateways(daemon, place.free_port(), place.free_port())
    daemon.put("Settings", "default", {"vaultSecretSource": {"address": "::::"}})
    assert "vaultSecretSource.address" in daemon.wait_status("Settings", "default", "Rejected")["reason"]
    daemon.put("VirtualService", "vs", host("one.test", direct("x")))
    daemon.wait_status("VirtualService", "vs", "Accepted")
    daemon.terminate()

    again = place.start()
    assert "one.test" in domains(again)
    again.put("Settings", "default", {"consulKvSource": {"rootKey": "elsewhere"}, "gloo": {"xdsBindAddr": "0.0.0.0:1"}})
    reason = again.wait_status("Settings", "default", "Warning")["reason"]
    assert "consulKvSource: is decided at the start" in reason
    assert "gloo.xdsBindAddr: is decided at the start" in reason
    assert "one.test" in domains(again)


def test_watched_namespaces_are_switched_live(place: Place) -> None:
    """Objects of a namespace that is watched no more are gone, and back when it is watched again."""
    daemon = place.start()
    put_gateways(daemon, place.free_port(), place.free_port())
    daemon.put("VirtualService", "own", host("own.test", direct("x")))
    key = f"{place.root}/gateway.solo.io/v1/VirtualService/team/theirs"
    document = {"metadata": {"name": "theirs", "namespace": "team"}, **host("theirs.test", direct("x"))}
    place.consul.put(key, json.dumps(document))
    wait_until(lambda: "theirs.test" in domains(daemon) and "own.test" in domains(daemon), "both", 10)

    daemon.put("Settings", "default", {"watchNamespaces": ["nobody"]})
    wait_until(lambda: "theirs.test" not in domains(daemon), "the end of theirs", 10)
    assert "own.test" in domains(daemon)
    assert daemon.waiting_for() == []
    daemon.delete("Settings", "default")
    wait_until(lambda: "theirs.test" in domains(daemon), "theirs again", 10)


@pytest.mark.parametrize("keeps", [False, True])
def test_a_proxy_without_gateways(place: Place, *, keeps: bool) -> None:
    """The last Gateway takes its listeners with it, unless ``disableProxyGarbageCollection`` says otherwise."""
    daemon = place.start(settings={"gloo": {"disableProxyGarbageCollection": keeps}})
    put_gateways(daemon, place.free_port(), place.free_port())
    daemon.put("VirtualService", "vs", host("one.test", direct("x")))
    wait_until(lambda: "one.test" in domains(daemon), "the route", 10)
    daemon.delete("Gateway", "gateway-proxy-ssl")
    daemon.delete("Gateway", "gateway-proxy")
    daemon.put("VirtualService", "later", host("later.test", direct("x")))
    daemon.wait_status("VirtualService", "later", "Accepted")
    assert ("one.test" in domains(daemon)) is keeps


def test_settings_without_effect_are_logged(place: Place) -> None:
    """What the Settings file asks for in vain is a warning at the start, with the field."""
    settings = {
        "gloo": {"validationBindAddr": "127.0.0.1:9988"},
        "extensions": {"configs": {"gloo-nomad": {"colour": "blue"}}},
    }
    log = place.start(settings=settings).server.log.read_text()

    assert '"field": "gloo.validationBindAddr"' in log
    assert '"field": "extensions.configs[gloo-nomad].colour"' in log


def test_what_an_envoy_rejects_is_a_status(place: Place) -> None:
    """A NACK rejects the object behind the resource with the Envoy's words; a version it accepts mends it."""
    daemon = place.start()
    put_gateways(daemon, place.free_port(), place.free_port())
    daemon.put("Upstream", "up", {"static": {"hosts": [{"addr": "127.0.0.1", "port": 80}]}})
    daemon.wait_status("Upstream", "up", "Accepted")

    async def scenario() -> None:
        async with DeltaClient(f"127.0.0.1:{daemon.xds_port}", node_id="picky") as client:
            await client.subscribe(CLUSTER)
            await client.nack(await client.receive(), "no such colour")
            status = await asyncio.to_thread(daemon.wait_status, "Upstream", "up", "Rejected")
            assert (
                "Envoy rejected up_gloo-system: no such colour (picky of gloo-system~gateway-proxy)" in status["reason"]
            )
            daemon.put("Upstream", "up", {"static": {"hosts": [{"addr": "127.0.0.1", "port": 81}]}})
            await client.accept()
            await asyncio.to_thread(daemon.wait_status, "Upstream", "up", "Accepted")

    asyncio.run(scenario())


def test_artifacts_come_from_a_folder_or_from_consul(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """The Gateway waits for its descriptors until they are where the Settings say, and they may be moved live."""
    descriptors = base64.b64encode((Path(__file__).parent.parent / "golden" / "shop.pb").read_bytes()).decode()
    artifact = {"metadata": {"name": "shop", "namespace": "gloo-system"}, "data": {"shop.pb": descriptors}}
    transcoder = {
        "protoDescriptorConfigMap": {"configMapRef": {"name": "shop", "namespace": "gloo-system"}},
        "services": ["shop.Catalog"],
    }
    gateway = {"bindPort": 8080, "bindAddress": "::", "httpGateway": {"options": {"grpcJsonTranscoder": transcoder}}}
    folder, file = tmp_path / "files", tmp_path / "files" / "artifacts" / "gloo-system" / "shop.yaml"
    file.parent.mkdir(parents=True)
    settings = {"directoryArtifactSource": {"directory": str(folder)}}
    daemon = start_daemon(tmp_path, consul, root_key, free_port, settings=settings)
    with daemon.server:
        daemon.put("Gateway", "gateway-proxy", gateway)
        daemon.put("VirtualService", "vs", host("a.test", direct("a")))
        daemon.wait_status("Gateway", "gateway-proxy", "Rejected")
        file.write_text(json.dumps(artifact))
        daemon.wait_status("Gateway", "gateway-proxy", "Accepted")

        daemon.put("Settings", "default", {"consulKvArtifactSource": {"rootKey": f"{root_key}-other"}})
        daemon.wait_status("Gateway", "gateway-proxy", "Rejected")
        consul.put(KINDS["Artifact"].key(f"{root_key}-other", Ref("gloo-system", "shop")), json.dumps(artifact))
        daemon.wait_status("Gateway", "gateway-proxy", "Accepted")
        consul.request("DELETE", f"kv/{root_key}-other?recurse")


def test_statuses_have_metrics_on_demand(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """0 and 1 under the reference's names, with the labels that the Settings ask for; also of what cannot be read."""
    daemon = start_daemon(tmp_path, consul, root_key, free_port)
    prefix = "validation_gateway_solo_io_virtual_service_config_status"

    def samples() -> set[str]:
        lines = fetch(daemon.admin_port, "/metrics").text.splitlines()
        return {line.removeprefix(prefix) for line in lines if line.startswith(prefix)}

    with daemon.server:
        daemon.put("Gateway", "gateway-proxy", {"bindAddress": "::", "bindPort": 8080, "httpGateway": {}})
        labelled = {"metadata": {"name": "good", "namespace": "gloo-system", "labels": {"example.com/team": "red"}}}
        daemon.put("VirtualService", "good", {**labelled, **host("a.test", direct("a"))})
        daemon.put("VirtualService", "broken", "metadata: {name: broken, namespace: gloo-system}\nvirtualHost: 3\n")
        daemon.wait_status("VirtualService", "good", "Accepted")
        assert samples() == set()

        labels = {
            "name": "{.metadata.name}",
            "team": "{.metadata.labels['example.com/team']}",
            "bad-name": "{.metadata}",
        }
        wanted = {"VirtualService.v1.gateway.solo.io": {"labelToPath": labels}}
        daemon.put("Settings", "default", {"observabilityOptions": {"configStatusMetricLabels": wanted}})
        expected = {'{name="good",team="red"} 0.0', '{name="broken",team=""} 1.0'}
        wait_until(lambda: samples() == expected, f"the metrics (they are {samples()})", 10)
        assert "bad-name" in daemon.wait_status("Settings", "default", "Warning")["reason"]


def test_virtual_hosts_go_one_by_one_when_it_is_asked_for(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """The setting takes effect while the daemon runs, shows on the admin page, and is taken back with the object."""
    daemon = start_daemon(tmp_path, consul, root_key, free_port)

    def hosts() -> list[str]:
        snapshots = daemon.admin("/snapshots/xds?type=virtualHosts").values()
        return [name for snapshot in snapshots for name in snapshot.get("virtualHosts", {})]

    with daemon.server:
        daemon.put("Gateway", "gateway-proxy", {"bindAddress": "::", "bindPort": 8080, "httpGateway": {}})
        daemon.put("VirtualService", "vs", {"virtualHost": {"domains": ["*"], "routes": [direct("served")]}})
        daemon.wait_status("VirtualService", "vs", "Accepted")
        assert hosts() == []
        own = {"extensions": {"configs": {"gloo-nomad": {"virtualHostDiscovery": "always"}}}}
        daemon.put("Settings", "default", own)
        wait_until(lambda: hosts() == ["listener-::-8080-routes-vhds/gloo-system_vs"], "the virtual host", 20)
        daemon.delete("Settings", "default")
        wait_until(lambda: hosts() == [], "one RouteConfiguration", 20)
