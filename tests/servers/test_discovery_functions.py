"""The discovery role asks real services for their functions, and writes them into Upstreams in a real Consul."""

import json
import time
from typing import Any

import pytest
from grpc_reflection.v1alpha import reflection_pb2

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.described_services import PETS, V1, V1ALPHA, Documents, build_files, serve_documents, serve_pets
from tests.nomad_jobs import echo_job, run_job, stop_job
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


def wait_log(daemon: Daemon, text: str, times: int = 1) -> None:
    """Waits until the log has that text so many times."""
    wait_until(lambda: daemon.server.log.read_text().count(text) >= times, f"{text} in the log", PATIENCE)


def wait_quiet(service: Documents) -> None:
    """Waits until nobody asks any more: nobody did for longer than the longest pause."""

    def is_quiet() -> bool:
        asked = len(service.asked)
        time.sleep(3)
        return len(service.asked) == asked

    wait_until(is_quiet, "quiet", PATIENCE)


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
            wait_log(daemon, "leads to no address")
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
        wait_quiet(service)
        daemon.put("Upstream", "later", static(service.port))
        time.sleep(3)
        assert functions(daemon, "later") == []
        daemon.put("Settings", "default", {"discovery": {}})
        wait_functions(daemon, "later", "cats")

        daemon.put("Settings", "default", {"discovery": {"fdsMode": "DISABLED"}})
        wait_quiet(service)
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


@pytest.mark.nomad
def test_functions_of_a_nomad_service(place: Place, nomad: NomadAgent) -> None:
    """An Upstream of a service that is registered with Nomad is asked at its instance there."""
    name = f"pets-{place.root}"
    pages = place.folder / "pages"
    pages.mkdir()
    (pages / "swagger.json").write_bytes(document("cats"))
    job = echo_job(name, check=False)
    server = ["-m", "http.server", "${NOMAD_PORT_http}", "--bind", "127.0.0.1", "--directory", str(pages)]
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = server
    own = {"gloo-nomad": {**QUICK, "nomadAddress": f"http://127.0.0.1:{nomad.port}"}}
    daemon = place.start(roles=("discovery",), settings={"discovery": {}, "extensions": {"configs": own}})
    metadata = {**named(name), "annotations": {"gloo-nomad/provider": "nomad"}}
    daemon.put("Upstream", name, {"metadata": metadata, "consul": {"serviceName": name}})
    run_job(nomad, job)
    try:
        wait_functions(daemon, name, "cats")
        stored = (daemon.stored("Upstream", name) or {})["metadata"]
        assert stored["annotations"] == {"gloo-nomad/provider": "nomad", ANNOTATION: "openapi"}
    finally:
        stop_job(nomad, name)


def test_functions_over_tls(place: Place) -> None:
    """An Upstream with TLS is asked over TLS, by the authority that it names; without one nothing is believed."""
    authority = Authority()
    roots = place.folder / "roots.pem"
    roots.write_text(authority.certificate)
    daemon = place.start(roles=("discovery",), settings=settings())
    with serve_documents({"/swagger.json": document("cats")}, pair=authority.issue("pets.test")) as service:
        known = {"sni": "pets.test", "sslFiles": {"rootCa": str(roots)}}
        daemon.put("Upstream", "unknown", {**static(service.port), "sslConfig": {"sni": "pets.test"}})
        daemon.put("Upstream", "other", {**static(service.port), "sslConfig": {**known, "sni": "other.test"}})
        daemon.put("Upstream", "known", {**static(service.port), "sslConfig": known})
        wait_functions(daemon, "known", "cats")
        assert spec(daemon, "known")["rest"]["swaggerInfo"]["url"] == f"https://127.0.0.1:{service.port}/swagger.json"
        wait_until(
            lambda: daemon.server.log.read_text().count("CERTIFICATE_VERIFY_FAILED") >= 2, "two refusals", PATIENCE
        )
        assert functions(daemon, "unknown") == functions(daemon, "other") == []


def test_reflected_services_that_go(place: Place) -> None:
    """The transcoder stays while the server is down, and goes when it has no reflection any more; http2 stays unset."""
    daemon = place.start(roles=("discovery",), settings=settings())
    with serve_pets(V1ALPHA) as server:
        daemon.put("Upstream", "pets", static(server.port))
        wait_until(lambda: "grpcJsonTranscoder" in spec(daemon, "pets"), "the transcoder", PATIENCE)
        assert "useHttp2" not in (daemon.stored("Upstream", "pets") or {})
        port = server.port
    time.sleep(3)
    assert spec(daemon, "pets")["grpcJsonTranscoder"]["services"] == [PETS]
    with serve_pets(port=port):
        wait_until(lambda: spec(daemon, "pets") == {}, "the end of the transcoder", PATIENCE)


def test_what_does_not_fit_is_not_written(place: Place) -> None:
    """Descriptors that Consul KV cannot hold are said in the log, and others are served."""
    huge = build_files()
    for number in range(20_000):
        huge[0].message_type.add(name=f"Message{number:020}")
    daemon = place.start(roles=("discovery",), settings=settings())

    def answer(request: Any) -> Any:
        if request.HasField("list_services"):
            return reflection_pb2.ServerReflectionResponse(list_services_response={"service": [{"name": PETS}]})
        data = [file.SerializeToString() for file in huge]
        found = {"file_descriptor_proto": data} if request.HasField("file_containing_symbol") else {}
        return reflection_pb2.ServerReflectionResponse(file_descriptor_response=found)

    with serve_pets(V1, answer=answer) as server, serve_documents({"/swagger.json": document("cats")}) as good:
        daemon.put("Upstream", "huge", static(server.port))
        wait_until(
            lambda: "does not fit into Consul KV" in daemon.server.log.read_text(), "the line in the log", PATIENCE
        )
        daemon.put("Upstream", "good", static(good.port))
        wait_functions(daemon, "good", "cats")
        assert spec(daemon, "huge") == {}


def test_only_the_leader_asks(place: Place) -> None:
    """Of two, one asks and writes; when it ends, the other one goes on."""
    first = place.start(roles=("discovery",), settings=settings())
    with serve_documents({"/swagger.json": document("cats")}) as service:
        first.put("Upstream", "pets", static(service.port))
        wait_functions(first, "pets", "cats")
        second = place.start(roles=("discovery",), settings=settings())
        first.terminate()
        service.pages["/swagger.json"] = document("dogs")
        wait_functions(second, "pets", "dogs")


def test_services_that_are_not_wanted(place: Place) -> None:
    """``udsOptions`` say whether Upstreams are written, and for services with which tags; both live."""
    tagged, plain = f"tagged-{place.root}", f"plain-{place.root}"
    place.consul.register(tagged, 18080, Tags=["team=edge", "public"])
    place.consul.register(plain, 18081, Tags=["public"])
    switched_off = {"discovery": {"udsOptions": {"enabled": False}}}
    daemon = place.start(roles=("discovery",), services=True, settings=switched_off)
    wait_log(daemon, "gloo-nomad/leader")
    time.sleep(2)
    assert daemon.stored("Upstream", tagged) is None

    daemon.put("Settings", "default", {"discovery": {"udsOptions": {"enabled": True, "watchLabels": {"team": "edge"}}}})
    wait_until(lambda: daemon.stored("Upstream", tagged) is not None, "the Upstream of the tagged one", PATIENCE)
    assert daemon.stored("Upstream", plain) is None
    daemon.put("Settings", "default", {"discovery": {"udsOptions": {"enabled": True}}})
    wait_until(lambda: daemon.stored("Upstream", plain) is not None, "the Upstream of the other one", PATIENCE)
    daemon.put("Settings", "default", {"discovery": {"udsOptions": {"watchLabels": {"team": "edge"}, "enabled": True}}})
    wait_until(lambda: daemon.stored("Upstream", plain) is None, "the end of that Upstream", PATIENCE)
    assert daemon.stored("Upstream", tagged) is not None


def test_a_status_in_the_same_moment(place: Place) -> None:
    """A status that is written while the service is asked is not lost, and the functions come right after."""
    slow = {"gloo-nomad": {**QUICK, "openApiRefreshSeconds": 600.0, "functionDiscoveryMaxPauseSeconds": 600.0}}
    daemon = place.start(roles=("discovery",), settings={"discovery": {}, "extensions": {"configs": slow}})
    with serve_documents({"/swagger.json": document("cats")}) as service:

        def report() -> None:
            service.meanwhile = lambda: None
            status = {"namespacedStatuses": {"statuses": {"gloo-system": {"state": "Accepted"}}}}
            daemon.put("Upstream", "pets", {**static(service.port), **status})

        service.meanwhile = report
        daemon.put("Upstream", "pets", static(service.port))
        wait_functions(daemon, "pets", "cats")
        assert daemon.status("Upstream", "pets")["state"] == "Accepted"
