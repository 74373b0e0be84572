"""Upstreams that need more than one resource, served over the real xDS server to a running Envoy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.store.services import Instance
from tests.pipeline.envoy_world import TO_UP, upstream, virtual_service
from tests.pipeline.test_effects_upstreams import ConnectProxy
from tests.servers.test_envoy_over_xds import gateway, running, wait_for
from tests.xds_world import in_loop

pytestmark = pytest.mark.envoy
RunEnvoy = Callable[..., Envoy]
RunEcho = Callable[..., int]


@in_loop
async def test_instances_of_consul_come_before_another_place(run_envoy: RunEnvoy, run_echo: RunEcho) -> None:
    """Without an instance the other place answers, from the first instance on that one, and afterwards the place."""
    port, near, far = free_port(), run_echo("near"), run_echo("far")
    place = f"{{lbEndpoints: [{{address: 127.0.0.1, port: {far}}}]}}"
    spec = f"consul: {{serviceName: web}}\nfailover: {{prioritizedLocalities: [{{localityEndpoints: [{place}]}}]}}"
    objects = (gateway(port), upstream(spec=spec), virtual_service(TO_UP))

    def answering(name: str) -> bool:
        answer = fetch(port, "/")
        return answer.status == 200 and answer.json()["instance"] == name

    async with running(run_envoy, *objects) as (site, _):
        await wait_for(lambda: answering("far"))
        site.objects.put_instances("web", Instance("127.0.0.1", near, "1"))
        site.publish()
        await wait_for(lambda: answering("near"))
        site.objects.put_instances("web")
        site.publish()
        await wait_for(lambda: answering("far"))


@in_loop
async def test_a_tunnel_comes_changes_and_goes(run_envoy: RunEnvoy, run_echo: RunEcho, tmp_path: Path) -> None:
    """A proxy that Consul knows is asked for one place, then for another, and then for none."""
    port, echo = free_port(), run_echo("echo")
    proxy = ConnectProxy(echo)
    spec = "consul: {serviceName: proxy}\n"
    asked = [f"httpProxyHostname: '{name}.example.com:80'" for name in ("first", "second")]
    objects = (gateway(port), upstream(spec=spec + asked[0]), virtual_service(TO_UP))

    def answered_through(place: str) -> bool:
        return fetch(port, "/").status == 200 and proxy.asked[-1].startswith(f"CONNECT {place}.example.com:80 ")

    try:
        async with running(run_envoy, *objects) as (site, envoy):
            site.objects.put_instances("proxy", Instance("127.0.0.1", proxy.port, "1"))
            site.publish()
            await wait_for(lambda: answered_through("first"))
            site.put(upstream(spec=spec + asked[1]))
            await wait_for(lambda: answered_through("second"))
            site.objects.put_instances("proxy", Instance("127.0.0.1", echo, "1"))
            site.put(upstream(spec=spec))
            await wait_for(lambda: fetch(port, "/").status == 200)
            await wait_for(lambda: "solo_io_generated" not in envoy.admin("/listeners").text)
    finally:
        proxy.stop()
