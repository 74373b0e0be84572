"""Two datacenters that are joined while everything runs."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.sources import consul_catalog
from gloo_nomad.sources.consul_catalog import ConsulCatalog
from tests.site import REF, Place, host
from tests.source_listener import open_client

pytestmark = [pytest.mark.consul, pytest.mark.envoy]


@pytest.fixture
def agents(
    new_consul: Callable[..., ConsulAgent], tmp_path: Path
) -> tuple[ConsulAgent, ConsulAgent, Callable[[], Any]]:
    """An agent in ``earth``, one in ``mars`` that knows nothing of it, and what joins them."""
    earth, mars = (new_consul(config={"datacenter": name}) for name in ("earth", "mars"))
    port = json.loads((tmp_path / "consul-1" / "consul.json").read_text())["ports"]["serf_wan"]
    return earth, mars, lambda: earth.request("PUT", f"agent/join/127.0.0.1:{port}?wan=1")


def test_a_datacenter_that_joins_is_seen(
    agents: tuple[ConsulAgent, ConsulAgent, Callable[[], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services of a datacenter that joins later are found without a restart; an allowed list leaves it out."""
    monkeypatch.setattr(consul_catalog, "_DATACENTERS", 0.3)
    earth, mars, join = agents
    mars.register("rover", 8001, Tags=["red"])

    async def run() -> None:
        client = open_client(earth)
        every, listed = ConsulCatalog(client).watch_names(), ConsulCatalog(client, ["earth"]).watch_names()
        async with asyncio.timeout(30):
            assert list(await anext(every)) == ["earth"]
            assert list(await anext(listed)) == ["earth"]
            await asyncio.to_thread(join)
            names = await anext(every)
            while "mars" not in names or "rover" not in names["mars"]:
                names = await anext(every)
            assert names["mars"]["rover"] == ("red",)
            await asyncio.to_thread(earth.register, "probe", 8002)
            assert list(await anext(listed)) == ["earth"]
        await every.aclose()
        await listed.aclose()
        await client.close()

    asyncio.run(run())


def test_a_route_to_another_datacenter(
    place: Place, agents: tuple[ConsulAgent, ConsulAgent, Callable[[], Any]], run_echo: Callable[..., int]
) -> None:
    """Datacenters of a destination are tried in their order; while none is named anywhere, the agent's own is asked."""
    earth, mars, join = agents
    join()
    place.consul = earth
    here = earth.register("web", run_echo("of-earth"))
    there = mars.register("web", run_echo("of-mars"))
    daemon = place.start(services=True)
    daemon.put("VirtualService", "own", host("own.test", to_datacenters()))
    site = place.open(daemon)
    site.wait_for("own.test", 200, "of-earth", 20)
    assert all("of-earth" in site.get("own.test")[1] for _ in range(10))
    daemon.put("VirtualService", "far", host("far.test", to_datacenters("mars")))
    daemon.put("VirtualService", "both", host("both.test", to_datacenters("mars", "earth")))
    for name in ("far", "both"):
        site.wait_for(f"{name}.test", 200, "of-mars", 20)
        assert all("of-mars" in site.get(f"{name}.test")[1] for _ in range(10))
    mars.deregister(there)
    site.wait_for("both.test", 200, "of-earth")
    earth.deregister(here)
    site.wait_for("both.test", 503)


def to_datacenters(*names: str) -> dict[str, Any]:
    """A route to the service ``web`` of these datacenters."""
    return {"routeAction": {"single": {"consul": {"serviceName": "web", "dataCenters": list(names)}}}}


def test_a_failed_datacenter_fails_over(
    place: Place, agents: tuple[ConsulAgent, ConsulAgent, Callable[[], Any]], run_echo: Callable[..., int]
) -> None:
    """The own datacenter is served first, whatever is written first; when it fails the other one, and it comes back."""
    earth, mars, join = agents
    join()
    place.consul = earth
    port = run_echo("of-earth")
    here = earth.register("web", port)
    mars.register("web", run_echo("of-mars"))
    daemon = place.start(services=True)
    daemon.put("Upstream", "web", {"consul": {"serviceName": "web", "dataCenters": ["mars", "earth"]}})
    route = {"matchers": [{"prefix": "/"}], "routeAction": {"single": {"upstream": {"name": "web", **REF}}}}
    daemon.put("VirtualService", "web", host("web.test", route))
    site = place.open(daemon)
    site.wait_for("web.test", 200, "of-earth", 30)
    wait_until(lambda: all("of-earth" in site.get("web.test")[1] for _ in range(10)), "only earth", 20)
    with site.asked("web.test") as counts:
        earth.request("PUT", f"agent/service/maintenance/{here}?enable=true")
        wait_until(lambda: all("of-mars" in site.get("web.test")[1] for _ in range(10)), "only mars", 20)
        earth.request("PUT", f"agent/service/maintenance/{here}?enable=false")
        wait_until(lambda: all("of-earth" in site.get("web.test")[1] for _ in range(10)), "only earth again", 20)
        mars.stop()
        wait_until(lambda: any(source["error"] for source in daemon.admin("/healthz")["sources"]), "a report", 60)
    assert {status for _, status in counts} == {200}, counts


def test_datacenters_as_equals(
    place: Place, agents: tuple[ConsulAgent, ConsulAgent, Callable[[], Any]], run_echo: Callable[..., int]
) -> None:
    """With ``equalDatacenters`` instances of both get requests."""
    earth, mars, join = agents
    join()
    place.consul = earth
    earth.register("web", run_echo("of-earth"))
    mars.register("web", run_echo("of-mars"))
    daemon = place.start(
        services=True, settings={"extensions": {"configs": {"gloo-nomad": {"equalDatacenters": True}}}}
    )
    daemon.put("Upstream", "web", {"consul": {"serviceName": "web", "dataCenters": ["earth", "mars"]}})
    route = {"matchers": [{"prefix": "/"}], "routeAction": {"single": {"upstream": {"name": "web", **REF}}}}
    daemon.put("VirtualService", "web", host("web.test", route))
    site = place.open(daemon)
    site.wait_for("web.test", 200, "of-earth", 30)
    site.wait_for("web.test", 200, "of-mars", 30)
