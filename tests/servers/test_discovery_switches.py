"""What discovery is told not to look for is not asked for, live; the other one is found all the same."""

from typing import Any

import pytest

from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.described_services import PETS, V1, V1ALPHA, Documents, serve_documents, serve_pets
from tests.servers.test_discovery_functions import (
    PATIENCE,
    QUICK,
    document,
    functions,
    settings,
    spec,
    static,
    wait_functions,
)
from tests.site import Place

pytestmark = [pytest.mark.consul]


def choose(daemon: Daemon, **own: Any) -> None:
    """Settings laid over the file."""
    daemon.put("Settings", "default", {"discovery": {}, "extensions": {"configs": {"gloo-nomad": {**QUICK, **own}}}})


def test_reflection_that_is_switched_off(place: Place) -> None:
    """No server is asked for its services while it is off, nor those that were found; switched on they are."""
    off = {"discovery": {}, "extensions": {"configs": {"gloo-nomad": {**QUICK, "discoverGrpcReflection": False}}}}
    daemon = place.start(roles=("discovery",), settings=off)
    with serve_pets(V1, V1ALPHA) as server, serve_documents({"/swagger.json": document("cats")}) as service:
        daemon.put("Upstream", "pets", {**static(server.port), "useHttp2": True})
        daemon.put("Upstream", "plain", static(server.port))
        daemon.put("Upstream", "cats", static(service.port))
        wait_functions(daemon, "cats", "cats")
        wait_more_looks(service)
        assert server.asked == []
        assert spec(daemon, "pets") == spec(daemon, "plain") == {}

        choose(daemon, discoverGrpcReflection=True)
        wait_until(lambda: "grpcJsonTranscoder" in spec(daemon, "pets"), "the transcoder", PATIENCE)
        wait_until(lambda: "grpcJsonTranscoder" in spec(daemon, "plain"), "the other transcoder", PATIENCE)
        assert server.asked

        choose(daemon, discoverGrpcReflection=False)
        wait_more_looks(service)
        server.asked.clear()
        wait_more_looks(service)
        assert server.asked == []
        assert spec(daemon, "pets")["grpcJsonTranscoder"]["services"] == [PETS]


def wait_more_looks(service: Documents) -> None:
    """Waits until a document was read six times more: what else is looked at as often was looked at by then."""
    before = service.paths.count("/swagger.json")
    wait_until(lambda: service.paths.count("/swagger.json") >= before + 6, "six more looks", PATIENCE)


def test_documents_that_are_switched_off(place: Place) -> None:
    """No document is asked for while that is off, and services are found by reflection."""
    daemon = place.start(roles=("discovery",), settings=settings())
    choose(daemon, discoverOpenApi=False)
    with serve_pets(V1) as server, serve_documents({"/swagger.json": document("cats")}) as service:
        wait_until(lambda: "settings_changed" in daemon.server.log.read_text(), "the settings", PATIENCE)
        daemon.put("Upstream", "cats", static(service.port))
        daemon.put("Upstream", "pets", static(server.port))
        wait_until(lambda: "grpcJsonTranscoder" in spec(daemon, "pets"), "the transcoder", PATIENCE)
        looks = server.asked.count("list_services")
        wait_until(lambda: server.asked.count("list_services") >= looks + 4, "four more looks", PATIENCE)
        assert [path for path in service.paths if not path.startswith("/grpc.")] == []
        assert functions(daemon, "cats") == []
