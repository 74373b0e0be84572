"""The discovery role asks real services for their functions, and writes them into Upstreams in a real Consul."""

import json
import time
from typing import Any

import pytest

from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.described_services import PETS, V1, V1ALPHA, serve_documents, serve_pets
from tests.site import REF, Place, host

pytestmark = [pytest.mark.consul]

QUICK = {
    "openApiRefreshSeconds": 0.5,
    "grpcReflectionRefreshSeconds": 0.5,
    "functionDiscoveryMaxPauseSeconds": 2.0,
}
ANNOTATION = "gloo-nomad/discovered-functions"
PATIENCE = 40.0


def settings(**discovery: Any) -> dict[str, Any]:
    """Settings with function discovery that does not wait long."""
    return {"discovery": discovery, "extensions": {"configs": {"gloo-nomad": QUICK}}}


def document(*names: str) -> bytes:
    """A document with a GET for each name."""
    paths = {f"/{name}/{{id}}": {"get": {"operationId": name}} for name in names}
    return json.dumps({"swagger": "2.0", "basePath": "/v1", "paths": paths}).encode()


def static(port: int, **more: Any) -> dict[str, Any]:
    """An Upstream on this machine."""
    return {"static": {"hosts": [{"addr": "127.0.0.1", "port": port}], **more}}


def spec(daemon: Daemon, name: str) -> dict[str, Any]:
    """The ``serviceSpec`` of an Upstream as it is stored; empty without one."""
    stored = daemon.stored("Upstream", name) or {}
    found: dict[str, Any] = (stored.get("static") or stored.get("consul") or {}).get("serviceSpec", {})
    return found


def functions(daemon: Daemon, name: str) -> list[str]:
    """The names of the functions in an Upstream."""
    return sorted(spec(daemon, name).get("rest", {}).get("transformations", {}))


def wait_functions(daemon: Daemon, name: str, *wanted: str) -> None:
    """Waits until an Upstream has exactly these."""
    wait_until(
        lambda: functions(daemon, name) == sorted(wanted),
        f"functions {wanted} of {name} (it has {spec(daemon, name)}; {daemon.server.log.read_text()[-2000:]})",
        PATIENCE,
    )


def test_functions_of_a_document(place: Place) -> None:
    """They are found, follow the document, stay while the service is down, and go when it has none any more."""
    daemon = place.start(roles=("discovery",), settings=settings())
    with serve_documents({"/v2/swagger": document("cats")}) as service:
        daemon.put("Upstream", "pets", {**static(service.port), "useHttp2": False, "metadata": named("pets", team="a")})
        wait_functions(daemon, "pets", "cats")
        rest = spec(daemon, "pets")["rest"]
        assert rest["swaggerInfo"] == {"url": f"http://127.0.0.1:{service.port}/v2/swagger"}
        assert rest["transformations"]["cats"]["headers"][":path"] == {"text": '/v1/cats/{{ default(id, "") }}'}
        stored = daemon.stored("Upstream", "pets") or {}
        assert stored["metadata"]["annotations"] == {ANNOTATION: "openapi"}
        assert stored["metadata"]["labels"] == {"team": "a"}
        assert stored["useHttp2"] is False
        before = daemon.index("Upstream", "pets")
        assert service.paths[:5] == [
            "/swagger.json",
            "/swagger/docs/v1",
            "/swagger/docs/v2",
            "/v1/swagger",
            "/v2/swagger",
        ]
        assert {headers["X-Gloo-Discovery"] for _, headers in service.asked} == {"Swagger-Discovery"}

        asked = len(service.asked)
        wait_until(lambda: len(service.asked) > asked + 2, "two more looks", PATIENCE)
        assert set(service.paths[asked:]) == {"/v2/swagger"}
        assert daemon.index("Upstream", "pets") == before
        service.pages["/v2/swagger"] = document("cats", "dogs")
        wait_functions(daemon, "pets", "cats", "dogs")
        port = service.port
    time.sleep(3)  # down for longer than three looks
    assert functions(daemon, "pets") == ["cats", "dogs"]
    with serve_documents({}, port):
        wait_until(lambda: spec(daemon, "pets") == {}, "the end of the functions", PATIENCE)
        assert "annotations" not in (daemon.stored("Upstream", "pets") or {})["metadata"]


def named(name: str, **labels: str) -> dict[str, Any]:
    """Metadata with labels."""
    return {"name": name, "namespace": "gloo-system", "labels": labels}


def test_what_the_user_wrote_stays(place: Place) -> None:
    """A serviceSpec of the user's is not touched, and of a document that the user names only functions are added."""
    daemon = place.start(roles=("discovery",), settings=settings())
    with serve_documents({"/swagger.json": document("cats"), "/mine": document("mine")}) as service:
        own: dict[str, Any] = {"rest": {"transformations": {"own": {"passthrough": {}}}}}
        daemon.put("Upstream", "own", static(service.port, serviceSpec=own))
        url = {"rest": {"swaggerInfo": {"url": f"http://127.0.0.1:{service.port}/mine"}}}
        daemon.put("Upstream", "url", static(service.port, serviceSpec=url))
        inline = {"rest": {"swaggerInfo": {"inline": document("inline").decode()}}}
        daemon.put("Upstream", "inline", static(service.port, serviceSpec=inline))
        with serve_documents({"/elsewhere": document("elsewhere")}) as other:
            elsewhere = {"rest": {"swaggerInfo": {"url": f"http://127.0.0.1:{other.port}/elsewhere"}}}
            daemon.put("Upstream", "elsewhere", static(service.port, serviceSpec=elsewhere))
            daemon.put("Upstream", "found", static(service.port))
            wait_functions(daemon, "url", "mine")
            wait_functions(daemon, "inline", "inline")
            wait_functions(daemon, "found", "cats")
            wait_until(lambda: "leads to no address" in daemon.server.log.read_text(), "the line in the log", PATIENCE)
            assert other.asked == []
        assert spec(daemon, "url")["rest"]["swaggerInfo"] == url["rest"]["swaggerInfo"]
        assert spec(daemon, "inline")["rest"]["swaggerInfo"] == inline["rest"]["swaggerInfo"]
        assert spec(daemon, "own") == own
        assert spec(daemon, "elsewhere") == elsewhere


def test_modes_labels_and_switches(place: Place) -> None:
    """Without the block only labelled Upstreams are looked at; with it all others but those; switches end all."""
    daemon = place.start(roles=("discovery",), settings={"extensions": settings()["extensions"]})
    with serve_documents({"/swagger.json": document("cats")}) as service:
        label = "discovery.solo.io/function_discovery"
        daemon.put("Upstream", "plain", static(service.port))
        daemon.put(
            "Upstream", "off", {**static(service.port), "metadata": {**named("off"), "labels": {label: "disabled"}}}
        )
        daemon.put("Upstream", "on", {**static(service.port), "discoveryMetadata": {"labels": {label: "enabled"}}})
        wait_functions(daemon, "on", "cats")
        assert functions(daemon, "plain") == []

        daemon.put("Settings", "default", {"discovery": {}})
        wait_functions(daemon, "plain", "cats")
        assert functions(daemon, "off") == []

        more = {"discoverOpenApi": False}
        daemon.put(
            "Settings", "default", {"discovery": {}, "extensions": {"configs": {"gloo-nomad": {**QUICK, **more}}}}
        )
        time.sleep(2)
        daemon.put("Upstream", "later", static(service.port))
        time.sleep(3)
        assert functions(daemon, "later") == []
        daemon.put("Settings", "default", {"discovery": {}})
        wait_functions(daemon, "later", "cats")

        daemon.put("Settings", "default", {"discovery": {"fdsMode": "DISABLED"}})
        time.sleep(2)
        asked = len(service.asked)
        time.sleep(2)
        assert len(service.asked) == asked
        assert functions(daemon, "later") == ["cats"]


def test_services_that_mean_harm(place: Place) -> None:
    """Whatever they answer, the daemon lives, asks nobody else, and others are served."""
    with serve_documents({"/openapi.json": document("stolen")}) as victim, serve_documents({}) as bad:
        away = {"Location": f"http://127.0.0.1:{victim.port}/openapi.json"}
        deep = b'{"swagger": "2.0", "paths": ' + b"[" * 500_000
        bad.pages |= {
            "/swagger.json": (302, away, b""),
            "/swagger/docs/v1": deep,
            "/swagger/docs/v2": b'{"swagger": "2.0", "paths": {}}' + b" " * 3_000_000,
            "/v1/swagger": b"swagger: 2\npaths: &a [*a]\n",
            "/v2/swagger": b"<html>swagger</html>",
            "/openapi.json": (200, {"Content-Length": "1000000"}, b"openapi"),
        }
        daemon = place.start(roles=("discovery",), settings=settings())
        daemon.put("Upstream", "bad", static(bad.port))
        wait_until(lambda: "/openapi.json" in bad.paths, "all pages", PATIENCE)
        with serve_documents({"/swagger.json": document("cats")}) as good:
            daemon.put("Upstream", "good", static(good.port))
            wait_functions(daemon, "good", "cats")
        assert spec(daemon, "bad") == {}
        assert victim.asked == []
        daemon.terminate()


def test_nobody_is_hammered(place: Place) -> None:
    """Where nothing is found the pauses grow."""
    slow = {**QUICK, "openApiRefreshSeconds": 0.5, "functionDiscoveryMaxPauseSeconds": 600.0}
    daemon = place.start(
        roles=("discovery",), settings={"discovery": {}, "extensions": {"configs": {"gloo-nomad": slow}}}
    )
    with serve_documents({}) as service:
        daemon.put("Upstream", "silent", static(service.port))
        wait_until(lambda: service.paths.count("/swagger.json") >= 4, "four looks", PATIENCE)
        looks = service.paths.count("/swagger.json")
        time.sleep(3)
        assert service.paths.count("/swagger.json") <= looks + 1


@pytest.mark.parametrize("version", [V1, V1ALPHA])
@pytest.mark.envoy
def test_json_reaches_a_reflected_service(place: Place, version: str) -> None:
    """Reflection finds a service, and then JSON over HTTP/1.1 through Envoy reaches it."""
    daemon = place.start(roles=("gloo", "discovery"), settings=settings())
    with serve_pets(version) as server:
        daemon.put("Upstream", "pets", {**static(server.port), "useHttp2": True})
        route = {
            "matchers": [{"prefix": "/pets"}],
            "routeAction": {"single": {"upstream": {"name": "pets", **REF}}},
        }
        daemon.put("VirtualService", "pets", host("pets.test", route))
        site = place.open(daemon)
        wait_until(lambda: "grpcJsonTranscoder" in spec(daemon, "pets"), "the transcoder", PATIENCE)
        found = spec(daemon, "pets")["grpcJsonTranscoder"]
        assert found.keys() == {"protoDescriptorBin", "services", "matchIncomingRequestRoute"}
        assert found["services"] == [PETS]
        wait_until(lambda: site.get_page("pets.test", "/pets/tom")[0] == 200, "an answer", PATIENCE)
        status, body = site.get_page("pets.test", "/pets/tom")
        assert (status, json.loads(body)) == (200, {"name": "tom", "sound": "meow"})
        assert "tom" in server.called
        assert daemon.wait_status("Upstream", "pets", "Accepted")["state"] == "Accepted"


def test_functions_of_a_consul_service(place: Place) -> None:
    """The first healthy instance with the tags is asked, of an Upstream that discovery itself wrote."""
    name = f"pets-{place.root}"
    daemon = place.start(roles=("discovery",), services=True, settings=settings())
    with serve_documents({"/openapi.json": document("cats")}) as service:
        instance = place.consul.register(name, service.port)
        wait_functions(daemon, name, "cats")
        stored = daemon.stored("Upstream", name) or {}
        assert stored["metadata"]["labels"] == {"discovered_by": "consulplugin"}
        assert stored["consul"]["serviceName"] == name
        place.consul.deregister(instance)
        wait_until(lambda: daemon.stored("Upstream", name) is None, "the end of the Upstream", PATIENCE)
