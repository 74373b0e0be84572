"""HTTP/3 with certificates that come over xDS: renewed while requests go on, and asked of clients."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gloo_nomad.demo.certificates import Authority, KeyPair
from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.resources import LISTENER
from tests.pipeline.envoy_world import SSL_GATEWAY
from tests.pipeline.http3_client import build_client
from tests.servers.test_envoy_over_xds import answering, gateway, running, secret, wait_for
from tests.xds_client import ROLE
from tests.xds_world import in_loop

pytestmark = pytest.mark.envoy

RunEnvoy = Callable[..., Envoy]
HOST = "a.test"
HTTP3_GATEWAY = SSL_GATEWAY.replace("httpGateway: {}", "httpGateway: {options: {extensions: {configs: {http3: {}}}}}")


def _files(pair: KeyPair, folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "client.pem", folder / "client.key"
    certificate.write_text(pair.certificates)
    key.write_text(pair.private_key)
    return certificate, key


@in_loop
async def test_certificates_of_both_sides(run_envoy: RunEnvoy, tmp_path: Path) -> None:
    """The client without a certificate is refused, the one with it is served, also after the server's is renewed."""
    authority, port = Authority(), free_port()
    roots = tmp_path / "roots.pem"
    roots.write_text(authority.certificate)
    pair = _files(authority.issue("client.test"), tmp_path)
    known, stranger = free_port(), free_port()
    objects = (
        gateway(port, HTTP3_GATEWAY),
        secret("a", authority.issue(HOST), authority.certificate),
        answering("a", "a"),
    )
    async with running(run_envoy, *objects) as (site, envoy):
        for listen, shown in ((known, pair), (stranger, None)):
            client = build_client(listen, port, HOST, roots, shown)
            await asyncio.to_thread(run_envoy, client, ready=True)

        def ask(listen: int) -> Answer:
            return fetch(listen, "/", host="front.test")

        await wait_for(lambda: ask(known).text == "a")
        assert (await asyncio.to_thread(ask, stranger)).status == 503
        assert envoy.stat("http.http.downstream_rq_http3_total") >= 1

        modified = envoy.stat("listener_manager.listener_modified")
        site.put(secret("a", authority.issue(HOST), authority.certificate))
        await wait_for(lambda: envoy.stat("sds.tls/gloo-system/a.update_success") >= 2)
        assert (await asyncio.to_thread(ask, known)).text == "a"
        assert envoy.stat("listener_manager.listener_modified") == modified
        assert len(site.xds.cache.snapshots()[ROLE].of(LISTENER)) == 2
