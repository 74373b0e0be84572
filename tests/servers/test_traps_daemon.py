"""Defects that users of the reference suffer from, provoked on a running daemon with an Envoy behind it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.envoy import build_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.site import REF, Place, Site, direct, host, to_service

pytestmark = [pytest.mark.consul, pytest.mark.envoy]


def to_upstream(name: str, **more: Any) -> dict[str, Any]:
    """A route to an upstream."""
    return {"matchers": [{"prefix": "/"}], "routeAction": {"single": {"upstream": {"name": name, **REF}}}, **more}


def static(port: int, **more: Any) -> dict[str, Any]:
    """An upstream on this machine."""
    return {"static": {"hosts": [{"addr": "127.0.0.1", "port": port}]}, **more}


def reason(daemon: Daemon, kind: str, name: str) -> str:
    """Why an object is rejected."""
    return str(daemon.wait_status(kind, name, "Rejected")["reason"])


NO_TIME_OUT = {
    "healthChecks": [
        {"interval": "5s", "healthyThreshold": 1, "unhealthyThreshold": 1, "httpHealthCheck": {"path": "/"}}
    ]
}
WITHOUT_A_PATH = {**to_upstream("good"), "matchers": [{"headers": [{"name": "x-only"}]}]}
OF_A_MISSING_GROUP = {
    "matchers": [{"prefix": "/group"}],
    "routeAction": {"upstreamGroup": {"name": "nowhere", **REF}},
}
BROKEN: dict[tuple[str, str], tuple[dict[str, Any] | str, str]] = {
    ("VirtualService", "bad-yaml"): ("metadata: [}", "YAML"),
    ("VirtualService", "misspelt"): ({"virtualHosts": {}}, "unknown field"),
    ("VirtualService", "wrong-enum"): (
        host("enum.test", {"redirectAction": {"responseCode": "SOMEWHERE"}}),
        "responseCode",
    ),
    ("VirtualService", "nameless"): ("virtualHost: {}", "metadata"),
    ("VirtualService", "elsewhere"): ("metadata: {name: x, namespace: y}\nvirtualHost: {}", "metadata"),
    ("VirtualService", "pathless"): (host("pathless.test", WITHOUT_A_PATH, to_upstream("good")), "path"),
    ("VirtualService", "same-domain"): (host("good.test", direct("stolen")), "good"),
    ("VirtualService", "option"): (
        host("option.test", to_upstream("good", options={"faults": {"abort": {"httpStatus": 20}}})),
        "httpStatus",
    ),
    ("VirtualService", "no-secret"): (host("secret.test", direct("x"), tls="nowhere"), "nowhere"),
    ("VirtualService", "mismatch"): (host("mismatch.test", direct("x"), tls="mismatch"), "does not belong"),
    ("Upstream", "no-time-out"): (static(80, **NO_TIME_OUT), "healthChecks[0].timeout"),
    ("Upstream", "no-key"): (static(80, sslConfig={"sslFiles": {"tlsCert": "/nowhere/c"}}), "tlsKey"),
    ("Gateway", "same-port"): ({}, "not unique"),
}


def test_a_fresh_start_beside_everything_that_can_be_wrong(place: Place, run_echo: Callable[..., int]) -> None:
    """Each mistake is said to its object and to no other, what is right is served, by a daemon that finds them all."""
    authority = Authority()
    roots = place.folder / "roots.pem"
    roots.write_text(authority.certificate)
    daemon = place.start(settings=_secrets(place, authority))
    echo = run_echo("echo")
    daemon.put("Upstream", "good", static(echo))
    daemon.put("VirtualService", "good", host("good.test", to_upstream("good")))
    daemon.put("VirtualService", "secure", host("secure.test", direct("secure"), tls="cert"))
    daemon.put("VirtualService", "group", host("group.test", OF_A_MISSING_GROUP, direct("beside")))
    daemon.put("VirtualService", "leftover", {**host("leftover.test", direct("kept")), "status": {"state": 1}})
    site = place.open(daemon)
    site.wait_for("good.test", 200, "echo")
    for (kind, name), (document, _) in BROKEN.items():
        daemon.put(kind, name, document or {"bindAddress": "::", "bindPort": site.port, "httpGateway": {}})
    daemon.terminate()
    again = place.start(settings=_secrets(place, authority), xds_port=daemon.xds_port)
    wait_until(lambda: again.admin("/clients") != [], "the Envoy being back", 20)

    for (kind, name), (_, told) in BROKEN.items():
        wait_until(lambda k=kind, n=name, t=told: _says(again, k, n, t), f"{told!r} said to {kind} {name}", 15)  # type: ignore[misc]
    for kind, name in BROKEN.keys() - {("VirtualService", "bad-yaml")}:  # no status can be written into that
        again.wait_status(kind, name, "Rejected")
    assert again.wait_status("VirtualService", "group", "Warning")
    for kind, name in (("Upstream", "good"), ("VirtualService", "secure"), ("VirtualService", "leftover")):
        status = again.wait_status(kind, name, "Accepted")
        assert all(part["state"] == "Accepted" for part in status.get("subresourceStatuses", {}).values())
    assert "same-domain" in reason(again, "VirtualService", "good")
    _check_served(site, roots)
    again.put("VirtualService", "leftover", host("leftover.test", direct("changed")))
    site.wait_for("leftover.test", 200, "changed")
    again.delete("VirtualService", "same-domain")
    again.wait_status("VirtualService", "good", "Accepted")


def _secrets(place: Place, authority: Authority) -> dict[str, Any]:
    """A folder of secrets: a good one, and a key that belongs to another certificate."""
    good, other = authority.issue("secure.test").build_secret(), authority.issue("mismatch.test").build_secret()
    other["tls"] = {**other["tls"], "privateKey": good["tls"]["privateKey"]}
    folder = place.folder / "secrets" / "secrets" / "gloo-system"
    folder.mkdir(parents=True, exist_ok=True)
    for name, secret in (("cert", good), ("mismatch", other)):
        document = {**secret, "metadata": {"name": name, **REF}}
        path = folder / f"{name}.yaml"
        if not path.exists():
            path.write_text(json.dumps(document))
    return {"directorySecretSource": {"directory": str(place.folder / "secrets")}}


def _says(daemon: Daemon, kind: str, name: str, told: str) -> bool:
    found = [each for each in daemon.problems_of(name) if kind in json.dumps(each) and told in json.dumps(each)]
    return found != []


def _check_served(site: Site, roots: Any) -> None:
    site.wait_for("good.test", 200, "echo")
    site.wait_for("group.test", 200, "beside")
    site.wait_for("leftover.test", 200, "kept")
    site.wait_for("pathless.test", 200, "echo")
    site.wait_for("option.test", 404)
    assert site.get_securely("secure.test", roots).text == "secure"


def test_who_had_a_domain_or_a_port_keeps_it_over_a_restart(place: Place) -> None:
    """An older object that asks later gets neither, before and after a restart; all others are served as they were."""
    daemon = place.start()
    daemon.put("VirtualService", "elder", host("elder.test", direct("elder")))
    daemon.put("VirtualService", "holder", host("held.test", direct("holder")))
    site = place.open(daemon)
    site.wait_for("held.test", 200, "holder")
    late = {"bindAddress": "127.0.0.1", "bindPort": place.free_port(), "httpGateway": {}}
    daemon.put("Gateway", "late", late)
    wait_until(lambda: daemon.status("Gateway", "late").get("state") == "Accepted", "the second port", 10)

    greedy = {"virtualHost": {"domains": ["elder.test", "held.test"], "routes": [direct("thief")]}}
    daemon.put("VirtualService", "elder", greedy)
    moved = {"bindAddress": "127.0.0.1", "bindPort": late["bindPort"], "httpGateway": {}, "useProxyProto": True}
    daemon.put("Gateway", "gateway-proxy", moved)
    assert "holder had it first" in reason(daemon, "VirtualService", "elder")
    assert "elder" in reason(daemon, "VirtualService", "holder")
    assert "late" in reason(daemon, "Gateway", "gateway-proxy")
    on_late = Site(daemon, site.envoy, int(str(late["bindPort"])), site.tls_port)
    assert on_late.get("held.test") == (200, "holder")

    wait_until(lambda: "details" in daemon.status("VirtualService", "elder"), "the claim in the status", 10)
    wait_until(lambda: "details" in daemon.status("Gateway", "gateway-proxy"), "the claim in the status", 10)
    with on_late.asked("held.test") as counts:
        daemon.terminate()
        again = place.start(xds_port=daemon.xds_port)
        wait_until(lambda: again.admin("/clients") != [], "the Envoy being back", 20)
        again.put("VirtualService", "third", host("third.test", direct("third")))
        on_late.wait_for("third.test", 200, "third")
    assert {status for _, status in counts} == {200}
    assert on_late.get("held.test") == (200, "holder")
    again.delete("VirtualService", "holder")
    again.delete("Gateway", "late")
    again.put("Gateway", "gateway-proxy", {**moved, "useProxyProto": False})
    on_late.wait_for("held.test", 200, "thief")
    assert "details" not in again.wait_status("VirtualService", "elder", "Accepted")


def test_tls_files_that_envoy_cannot_read_cost_their_user_only(place: Place, run_echo: Callable[..., int]) -> None:
    """The upstream and the virtual service that name them are Rejected, in Envoy's words; everything else is served."""
    daemon = place.start()
    daemon.put("Upstream", "good", static(run_echo("echo")))
    daemon.put("VirtualService", "good", host("good.test", to_upstream("good")))
    site = place.open(daemon)
    site.wait_for("good.test", 200, "echo")

    daemon.put("Upstream", "files", static(443, sslConfig={"sslFiles": {"rootCa": "/nowhere/ca.pem"}}))
    files = {"sslFiles": {"tlsCert": "/nowhere/cert.pem", "tlsKey": "/nowhere/key.pem"}, "sniDomains": ["files.test"]}
    daemon.put("VirtualService", "files", {**host("files.test", direct("x")), "sslConfig": files})
    daemon.put("VirtualService", "to-files", host("to-files.test", to_upstream("files")))
    assert "/nowhere/ca.pem" in reason(daemon, "Upstream", "files")
    assert "/nowhere/cert.pem" in reason(daemon, "VirtualService", "files")
    site.wait_for("to-files.test", 503)
    daemon.put("VirtualService", "good", host("good.test", direct("changed")))
    site.wait_for("good.test", 200, "changed")
    daemon.put("Upstream", "files", static(443))
    daemon.wait_status("Upstream", "files", "Accepted")


def test_every_kind_has_a_status(place: Place) -> None:
    """RouteOption, VirtualHostOption and both kinds of matchable gateways are told what became of them."""
    daemon = place.start()
    http = {"httpGateway": {}, "matcher": {"sourcePrefixRanges": [{"addressPrefix": "10.0.0.0", "prefixLen": 8}]}}
    daemon.put("RouteOption", "good", {"options": {"timeout": "1s"}})
    daemon.put("VirtualHostOption", "good", {"options": {"includeRequestAttemptCount": True}})
    daemon.put("MatchableHttpGateway", "good", http)
    daemon.put("MatchableTcpGateway", "good", {"tcpGateway": {}, "matcher": {}})
    daemon.put("VirtualService", "good", host("good.test", direct("good")))
    place.open(daemon)
    for kind in ("RouteOption", "VirtualHostOption", "MatchableHttpGateway", "MatchableTcpGateway"):
        daemon.wait_status(kind, "good", "Accepted")


def test_the_last_virtual_service_and_route_table_go(place: Place) -> None:
    """Who deletes the last object of a kind is believed, also with others of other kinds around."""
    daemon = place.start()
    table = {"matchers": [{"prefix": "/"}], "delegateAction": {"ref": {"name": "only", **REF}}}
    daemon.put("RouteTable", "only", {"routes": [direct("delegated")]})
    daemon.put("VirtualService", "only", host("only.test", table))
    site = place.open(daemon)
    site.wait_for("only.test", 200, "delegated")
    daemon.delete("RouteTable", "only")
    site.wait_for("only.test", 404)
    assert "missing" in str(daemon.wait_status("VirtualService", "only", "Warning")["reason"])
    daemon.delete("VirtualService", "only")
    site.wait_for("only.test", 0)


def test_consul_destinations_need_no_namespace(place: Place, run_echo: Callable[..., int]) -> None:
    """With watched namespaces and a namespace of its own for writing, routes to Consul services work as anywhere."""
    service = f"web-{place.root}"
    instance = place.consul.register(service, run_echo("one"))
    settings = {"watchNamespaces": ["apps"], "discoveryNamespace": "gateways"}
    allowed = {"consul": {"httpAddress": place.consul.address, "serviceDiscovery": {"dataCenters": ["dc1"]}}}
    daemon = place.start(settings={**settings, **allowed})
    port = place.free_port()
    gateway = {"metadata": {"name": "gw", "namespace": "gateways"}, "bindAddress": "127.0.0.1", "bindPort": port}
    named = {"metadata": {"name": "vs", "namespace": "apps"}, **host("web.test", to_service(service))}
    prefix = f"{place.root}/gateway.solo.io/v1"
    place.consul.put(f"{prefix}/Gateway/gateways/gw", json.dumps({**gateway, "httpGateway": {}}))
    place.consul.put(f"{prefix}/VirtualService/apps/vs", json.dumps(named))
    bootstrap = build_bootstrap(xds_port=daemon.xds_port, admin_port=place.free_port(), role="gateways~gateway-proxy")
    Site(daemon, place.run_envoy(bootstrap, ready=True), port, 0).wait_for("web.test", 200, "one")
    place.consul.deregister(instance)


def test_a_proxy_may_be_larger_than_a_key_of_consul(place: Place) -> None:
    """Nothing of a proxy is stored: its routes together may have far more than 512 KiB."""
    daemon = place.start()
    padding = "x" * 900
    for number in range(8):
        routes = [
            {
                "matchers": [{"prefix": f"/{index}", "headers": [{"name": "x-padding", "value": padding}]}],
                "directResponseAction": {"status": 200},
            }
            for index in range(120)
        ]
        document = {"metadata": {"name": f"large-{number}", **REF}, **host(f"{number}.test", *routes, direct("last"))}
        daemon.put("VirtualService", f"large-{number}", json.dumps(document))
    site = place.open(daemon)
    site.wait_for("7.test", 200, "last")
    assert len(json.dumps(daemon.admin("/snapshots/xds?type=routes"))) > 2 * 512 * 1024 * 0.8


def test_certificates_in_files_of_envoys_machine(place: Place) -> None:
    """A key pair in files is accepted and served, for clients and towards an upstream."""
    authority = Authority()
    paths = {name: place.folder / f"{name}.pem" for name in ("roots", "cert", "key")}
    secret = authority.issue("files.test").build_secret()["tls"]
    for name, text in (
        ("roots", authority.certificate),
        ("cert", secret["certChain"]),
        ("key", secret["privateKey"]),
    ):
        paths[name].write_text(text)
    pair = {"tlsCert": str(paths["cert"]), "tlsKey": str(paths["key"])}
    daemon = place.start()
    served = {**host("files.test", direct("inside")), "sslConfig": {"sslFiles": pair, "sniDomains": ["files.test"]}}
    daemon.put("VirtualService", "files", served)
    daemon.put("VirtualService", "plain", host("plain.test", to_upstream("tls")))
    site = place.open(daemon)
    wait_until(lambda: site.get_securely("files.test", paths["roots"]).text == "inside", "HTTPS", 15)
    rewritten = to_upstream("tls", options={"hostRewrite": "files.test"})
    daemon.put("VirtualService", "plain", host("plain.test", rewritten))
    trusting = {"sslFiles": {**pair, "rootCa": str(paths["roots"])}, "sni": "files.test"}
    daemon.put("Upstream", "tls", static(site.tls_port, sslConfig=trusting))
    site.wait_for("plain.test", 200, "inside")
    for kind, name in (("VirtualService", "files"), ("Upstream", "tls")):
        daemon.wait_status(kind, name, "Accepted")


def test_an_empty_gateway_answers(place: Place) -> None:
    """With ``translateEmptyGateways`` the port is open without any virtual service: 404, and Envoy is ready."""
    daemon = place.start(settings={"gateway": {"translateEmptyGateways": True}})
    site = place.open(daemon)
    site.wait_for("nobody.test", 404)
    assert fetch(site.envoy.admin_port, "/ready").status == 200
    daemon.wait_status("Gateway", "gateway-proxy", "Accepted")
