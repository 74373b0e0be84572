"""Servers that filters ask, over the real xDS server: they come, answer and go while requests go on."""

from collections.abc import Callable

import pytest

from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.store.services import CONSUL_SERVICE, Instance
from tests.pipeline.envoy_world import GATEWAY, TO_UP, make_world, upstream, virtual_service
from tests.pipeline.policy_servers import PolicyServer
from tests.servers.test_envoy_over_xds import gateway, running, wait_for
from tests.xds_world import in_loop

RunEnvoy = Callable[..., Envoy]
RunEcho = Callable[..., int]

POLICIES = "{name: policies, namespace: gloo-system}"
ASKING = f"""
    extauth: {{extauthzServerRef: {POLICIES}, requestTimeout: 5s}}
    ratelimitServer: {{ratelimitServerRef: {POLICIES}, requestTimeout: 5s, denyOnFail: true}}
    extProc: {{grpcService: {{extProcServerRef: {POLICIES}}}, messageTimeout: 5s, failureModeAllow: true}}
"""
CHECKED = TO_UP.replace("{matchers", "{options: {extauth: {customAuth: {}}}, matchers")
MIRRORED = TO_UP.replace("{matchers", f"{{options: {{shadowing: {{upstream: {POLICIES}}}}}, matchers")
SERVICE = upstream("policies", "consul: {serviceName: policies}\nuseHttp2: true")


def asking_gateway(port: int) -> str:
    """A gateway with a server for everything."""
    return gateway(port, GATEWAY.replace("httpGateway: {}", f"httpGateway:\n  options:{ASKING}"))


@pytest.mark.envoy
@in_loop
async def test_servers_come_and_go(run_envoy: RunEnvoy, run_echo: RunEcho) -> None:
    """A protected route is closed without a server, asks it as soon as there is an instance, and is closed again."""
    port, policies = free_port(), PolicyServer()
    server = policies.start()
    up = upstream(spec=f"static: {{hosts: [{{addr: 127.0.0.1, port: {run_echo('echo')}}}]}}")

    def answers(status: int, **headers: str) -> Callable[[], bool]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return lambda: fetch(port, "/", headers=sent).status == status

    async with running(run_envoy, asking_gateway(port), up, virtual_service(CHECKED)) as (site, _):
        await wait_for(answers(404, x_user="ann"))
        site.put(SERVICE)
        await wait_for(answers(403, x_user="ann"))
        site.objects.put_instances("policies", Instance("127.0.0.1", policies.port, "1"))
        site.publish()
        await wait_for(answers(200, x_user="ann"))
        assert answers(403)()
        site.objects.put_instances("policies")
        site.publish()
        await wait_for(answers(403, x_user="ann"))
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("gateway_text", "route"),
    [(asking_gateway(8080), TO_UP), (gateway(8080), MIRRORED)],
    ids=["filters", "mirrors"],
)
def test_instances_of_servers_are_watched(gateway_text: str, route: str) -> None:
    """What only filters and mirrors send something to is reached as well as any destination."""
    world = make_world(gateway_text, upstream(), SERVICE, virtual_service(route))

    assert (CONSUL_SERVICE, Ref("", "policies")) in world.translation.services
