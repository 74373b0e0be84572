"""Services of Nomad in a running gloo-nomad: routes through a real Envoy, and discovered Upstreams."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.nomad_jobs import SECOND, echo_job, new_job, promote, registered, run_job, set_health, stop_job
from tests.site import REF, Place, Site, host

pytestmark = [pytest.mark.nomad, pytest.mark.consul]

START_SECONDS = 60.0


@pytest.fixture
def service(nomad: NomadAgent) -> Iterator[str]:
    """A name of a job and its service that no other test has."""
    with new_job(nomad) as name:
        yield name


def start(place: Place, nomad: NomadAgent, **own: Any) -> Daemon:
    """A daemon with both roles that know Nomad."""
    settings = {"extensions": {"configs": {"gloo-nomad": own}}} if own else {}
    return place.start(roles=("gloo", "discovery"), settings=settings, environ=nomad.environment)


def to_upstream(name: str, **subset: str) -> dict[str, Any]:
    """A route to an upstream, or to a subset of it."""
    destination: dict[str, Any] = {"upstream": {"name": name, **REF}}
    if subset:
        destination["subset"] = {"values": subset}
    return {"matchers": [{"prefix": "/"}], "routeAction": {"single": destination}}


def answering(site: Site, domain: str) -> Counter[str]:
    """Which instances answered how many of 20 requests."""
    found: Counter[str] = Counter()
    for _ in range(20):
        status, body = site.get(domain)
        found[next((name for name in ("v1", "v2") if f'"instance": "{name}"' in body), str(status))] += 1
    return found


@pytest.mark.envoy
def test_a_route_by_name(nomad: NomadAgent, place: Place, service: str) -> None:
    """A route names a service and nothing else: it is served, an instance whose check fails gets nothing."""
    daemon = start(place, nomad, nomadUpstreams=False)
    daemon.put("VirtualService", "web", host("web.test", to_upstream(f"nomad-svc:{service}")))
    site = place.open(daemon)
    site.wait_for("web.test", 503)

    run_job(nomad, echo_job(service, instance="v1"))
    site.wait_for("web.test", 200, '"instance": "v1"', START_SECONDS)

    (port,) = registered(nomad, service)
    set_health(port, "critical")
    site.wait_for("web.test", 503, seconds=START_SECONDS)
    set_health(port, "passing")
    site.wait_for("web.test", 200, '"instance": "v1"', START_SECONDS)
    assert daemon.stored("Upstream", f"nomad-{service}") is None


@pytest.mark.envoy
def test_canaries_by_subset(nomad: NomadAgent, place: Place, service: str) -> None:
    """A discovered Upstream and its subsets: canaries and the others have routes of their own until the promotion."""
    update = {"Canary": 1, "MaxParallel": 1, "HealthCheck": "checks", "MinHealthyTime": SECOND // 2}

    def job(instance: str) -> dict[str, Any]:
        return echo_job(service, instance=instance, tags=("live",), canary_tags=("canary",), update=update)

    daemon, name = start(place, nomad), f"nomad-{service}"
    run_job(nomad, job("v1"))
    wait_until(lambda: daemon.stored("Upstream", name) is not None, "the discovered Upstream", START_SECONDS)
    upstream = daemon.stored("Upstream", name) or {}
    daemon.put("Upstream", name, {**upstream, "consul": {**upstream["consul"], "subsetTags": ["canary"]}})
    daemon.put("VirtualService", "live", host("live.test", to_upstream(name, tag_canary="0")))
    daemon.put("VirtualService", "canary", host("canary.test", to_upstream(name, tag_canary="1")))
    site = place.open(daemon)
    site.wait_for("live.test", 200, '"instance": "v1"', START_SECONDS)

    run_job(nomad, job("v2"))
    site.wait_for("canary.test", 200, '"instance": "v2"', START_SECONDS)
    assert answering(site, "live.test") == {"v1": 20}
    assert answering(site, "canary.test") == {"v2": 20}

    wait_until(lambda: promote(nomad, service), "the promotion", START_SECONDS)
    site.wait_for("live.test", 200, '"instance": "v2"', START_SECONDS)
    assert (daemon.stored("Upstream", name) or {})["consul"]["subsetTags"] == ["canary"]


def test_discovery_follows_and_is_switched_live(nomad: NomadAgent, place: Place, service: str) -> None:
    """Upstreams come and go with services; switched off nothing is written or removed, switched on it goes on."""
    daemon, name = start(place, nomad), f"nomad-{service}"
    run_job(nomad, echo_job(service, tags=("a",)))
    wait_until(lambda: daemon.stored("Upstream", name) is not None, "the discovered Upstream", START_SECONDS)
    stored = daemon.stored("Upstream", name) or {}
    assert stored["metadata"]["annotations"] == {"gloo-nomad/provider": "nomad"}
    assert stored["consul"] == {"serviceName": service, "serviceTags": ["a"]}

    daemon.put("Upstream", name, {**stored, "connectionConfig": {"connectTimeout": "3s"}})
    run_job(nomad, echo_job(service, tags=("b",)))
    wait_until(
        lambda: (daemon.stored("Upstream", name) or {})["consul"].get("serviceTags") == ["b"], "the tag", START_SECONDS
    )
    assert (daemon.stored("Upstream", name) or {})["connectionConfig"] == {"connectTimeout": "3s"}

    off = {"extensions": {"configs": {"gloo-nomad": {"nomadUpstreams": False}}}}
    daemon.put("Settings", "default", off)
    wait_until(lambda: "nomad-catalog" not in str(daemon.admin("/healthz")), "the end of discovery", START_SECONDS)
    stop_job(nomad, service)
    wait_until(lambda: not registered(nomad, service), "the end of the job", START_SECONDS)
    assert daemon.stored("Upstream", name) is not None

    daemon.delete("Settings", "default")
    wait_until(lambda: daemon.stored("Upstream", name) is None, "the removal", START_SECONDS)
