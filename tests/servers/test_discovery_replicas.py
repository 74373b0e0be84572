"""Two discovery processes on one Consul and one Nomad: one writes, once each; when it dies the other one goes on."""

from collections.abc import Callable
from typing import Any

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.described_services import serve_documents
from tests.nomad_jobs import echo_job, run_job, stop_job
from tests.servers.test_discovery_functions import document, functions
from tests.site import Place

pytestmark = [pytest.mark.consul, pytest.mark.nomad]
PATIENCE = 60.0
SERVICE = "replicated"


def settings(**own: Any) -> dict[str, Any]:
    """Settings by which no service is asked for functions twice during a test."""
    seldom = {"openApiRefreshSeconds": 600, "functionDiscoveryMaxPauseSeconds": 600}
    return {"discovery": {}, "extensions": {"configs": {"gloo-nomad": {**seldom, **own}}}}


def test_each_upstream_is_written_once(new_consul: Callable[..., ConsulAgent], nomad: NomadAgent, place: Place) -> None:
    """Services of both come and go, functions are found, the writer is killed: no key is written twice."""
    agent = place.consul = new_consul(config={"session_ttl_min": "1s"})
    options = settings(leaderSessionSeconds=3)
    first, second = (
        place.start(roles=("discovery",), services=True, settings=options, environ=nomad.environment) for _ in range(2)
    )
    wait_until(lambda: writes(first) + writes(second) > 0, "the Upstream of Consul itself", PATIENCE)
    leader, other = (first, second) if writes(first) else (second, first)

    with serve_documents({}) as silent:
        agent.register("one", silent.port)
        agent.register("two", silent.port)
        run_job(nomad, echo_job(SERVICE))
        try:
            names = ("one", "two", f"nomad-{SERVICE}")
            wait_until(lambda: all(leader.stored("Upstream", name) for name in names), "three Upstreams", PATIENCE)
            wait_until(lambda: "/v2/api-docs" in silent.paths, "looks at a service", PATIENCE)
            assert silent.paths.count("/swagger.json") <= len(("one", "two"))  # each by one process
            assert writes(other) == 0
            before = indexes(agent, place.root)

            leader.server.process.kill()
            leader.server.process.wait()
            agent.register("three", silent.port)
            agent.deregister(f"two-{silent.port}")
            wait_until(lambda: other.stored("Upstream", "three") is not None, "an Upstream after it", PATIENCE)
            wait_until(lambda: other.stored("Upstream", "two") is None, "the removal of another one", PATIENCE)
            after = indexes(agent, place.root)
        finally:
            stop_job(nomad, SERVICE)
    wait_until(lambda: other.stored("Upstream", f"nomad-{SERVICE}") is None, "the removal of Nomad's", PATIENCE)
    assert all(created == modified for created, modified in (before | after).values())
    assert {name: after[name] for name in before.keys() & after.keys()} == {
        name: found for name, found in before.items() if name in after
    }
    assert "two" in before.keys() - after.keys()


def writes(daemon: Daemon) -> int:
    """How often a process wrote Upstreams."""
    return daemon.server.log.read_text().count('"upstreams_written"')


def indexes(agent: ConsulAgent, root: str) -> dict[str, tuple[int, int]]:
    """As of which index each Upstream was made, and written last."""
    found = agent.request("GET", f"kv/{root}/gloo.solo.io/v1/Upstream/?recurse") or []
    return {entry["Key"].rpartition("/")[2]: (entry["CreateIndex"], entry["ModifyIndex"]) for entry in found}


def test_functions_are_asked_for_once(new_consul: Callable[..., ConsulAgent], place: Place) -> None:
    """Both know of a service with a document: one asks and writes."""
    place.consul = new_consul()
    daemons = [place.start(roles=("discovery",), settings=settings()) for _ in range(2)]
    with serve_documents({"/swagger.json": document("cats")}) as service:
        upstream = {"static": {"hosts": [{"addr": "127.0.0.1", "port": service.port}]}}
        daemons[0].put("Upstream", "cats", upstream)
        wait_until(lambda: functions(daemons[1], "cats") == ["cats"], "the function", PATIENCE)
        made, written = indexes(place.consul, place.root)["cats"]
        assert written > made
        assert service.paths == ["/swagger.json"]
        texts = [daemon.server.log.read_text() for daemon in daemons]
        assert sorted(text.count('"functions_written"') for text in texts) == [0, 1]
