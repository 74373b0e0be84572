"""Objects to a running Envoy: translated, served over the real xDS server, changed while requests go on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from gloo_nomad.demo.certificates import Authority, KeyPair
from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.fetch import Connection, fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.store.services import Instance
from tests.pipeline.envoy_world import GATEWAY, SSL_GATEWAY, World, make_world, upstream, virtual_service
from tests.xds_client import ROLE
from tests.xds_world import World as XdsWorld
from tests.xds_world import in_loop, open_world

pytestmark = pytest.mark.envoy
RunEnvoy = Callable[..., Envoy]
RunEcho = Callable[..., int]


@dataclass
class Site:
    """A world whose every change is published."""

    objects: World
    xds: XdsWorld

    def put(self, *texts: str) -> None:
        """Stores objects and publishes what comes of them."""
        self.objects.put(*texts)
        self.publish()

    def publish(self) -> None:
        """Publishes what the objects mean now."""
        self.xds.cache.publish({ROLE: self.objects.snapshot(ROLE)})


@asynccontextmanager
async def running(run_envoy: RunEnvoy, *objects: str) -> AsyncIterator[tuple[Site, Envoy]]:
    """An Envoy that is served these objects; it must reject nothing that it is sent."""
    async with open_world() as xds:
        site = Site(make_world(*objects), xds)
        site.publish()
        bootstrap = build_bootstrap(xds_port=xds.server.port, admin_port=free_port(), role=ROLE)
        envoy = await asyncio.to_thread(run_envoy, bootstrap, ready=True)
        yield site, envoy
        assert xds.nacks == []


async def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when the condition, asked in a thread, holds."""
    await asyncio.to_thread(wait_until, condition, "what the test waits for", 15.0)


def gateway(port: int, text: str = GATEWAY) -> str:
    """A gateway on a port of loopback."""
    return text.replace('"::"', "127.0.0.1").replace("8080", str(port)).replace("8443", str(port))


def secret(name: str, pair: KeyPair | None = None, root: str = "") -> str:
    """A TLS Secret."""
    document = {"kind": "Secret", "metadata": {"name": name, "namespace": "gloo-system"}, "tls": {}}
    if pair is not None:
        document.update(pair.build_secret())
    if root:
        document["tls"] = {**document["tls"], "rootCa": root}  # type: ignore[dict-item]
    return yaml.safe_dump(document)


def answering(name: str, secret_name: str) -> str:
    """A virtual service behind TLS that answers with its own name."""
    config = f"sslConfig: {{secretRef: {{name: {secret_name}, namespace: gloo-system}}, sniDomains: [{name}.test]}}"
    route = f"{{matchers: [{{prefix: /}}], directResponseAction: {{status: 200, body: {name}}}}}"
    return virtual_service(route, name=name, domains=f"[{name}.test]", more=config)


@in_loop
async def test_tls_of_two_virtual_services(run_envoy: RunEnvoy, tmp_path: Path) -> None:
    """One waits for its secret while the other is served; a renewal drops no connection."""
    authority, port = Authority(), free_port()
    roots = tmp_path / "roots.pem"
    roots.write_text(authority.certificate)
    first, second = authority.issue("a.test"), authority.issue("a.test")

    def ask(host: str) -> tuple[str, bytes]:
        answer = fetch(port, "/", host=host, tls_roots=roots)
        return answer.text, answer.certificate

    objects = (gateway(port, SSL_GATEWAY), secret("a", first), answering("a", "a"), answering("b", "b"))
    async with running(run_envoy, *objects) as (site, _):
        await wait_for(lambda: ask("a.test") == ("a", first.der))
        with pytest.raises(OSError):
            await asyncio.to_thread(ask, "b.test")

        with Connection(port, host="a.test", tls_roots=roots) as kept:
            assert kept.request("/").text == "a"
            site.put(secret("a", second))
            await wait_for(lambda: ask("a.test") == ("a", second.der))
            assert kept.request("/").certificate == first.der

        site.put(secret("b", authority.issue("b.test")))
        await wait_for(lambda: ask("b.test")[0] == "b")


@in_loop
async def test_tls_to_an_upstream_is_verified(run_envoy: RunEnvoy) -> None:
    """The right root certificate and name let requests through, another name does not; all by SDS."""
    authority, plain, secure = Authority(), free_port(), free_port()
    target = f"static: {{hosts: [{{addr: 127.0.0.1, port: {secure}}}]}}"

    def trusting(name: str) -> str:
        config = f"{{secretRef: {{name: roots, namespace: gloo-system}}, sni: a.test, verifySubjectAltName: [{name}]}}"
        return upstream(spec=f"{target}\nsslConfig: {config}")

    def status() -> int:
        return fetch(plain, "/", host="front.test").status

    rewriting = (
        "{matchers: [{prefix: /}], routeAction: {single: {upstream: {name: up, namespace: gloo-system}}},"
        " options: {hostRewrite: a.test}}"
    )
    objects = (
        gateway(plain),
        gateway(secure, SSL_GATEWAY),
        secret("a", authority.issue("a.test")),
        secret("roots", root=authority.certificate),
        answering("a", "a"),
        virtual_service(rewriting, name="front", domains="[front.test]"),
        trusting("a.test"),
    )
    async with running(run_envoy, *objects) as (site, _):
        await wait_for(lambda: status() == 200)

        site.put(trusting("b.test"))
        await wait_for(lambda: status() == 503)

        site.put(trusting("a.test"))
        await wait_for(lambda: status() == 200)


@in_loop
async def test_instances_move_under_load(run_envoy: RunEnvoy, run_echo: RunEcho) -> None:
    """Instances of a Consul service are replaced; no request fails, and the cluster is not touched."""
    port = free_port()
    route = "{matchers: [{prefix: /}], routeAction: {single: {consul: {serviceName: web}}}}"
    echoes = [await asyncio.to_thread(run_echo, name) for name in ("one", "two")]
    async with running(run_envoy, gateway(port), virtual_service(route)) as (site, envoy):
        site.objects.put_instances("web", Instance("127.0.0.1", echoes[0], "1"))
        site.publish()
        await wait_for(lambda: fetch(port, "/").status == 200)
        answers: list[str] = []

        def ask() -> bool:
            answer = fetch(port, "/")
            answers.append(str(answer.json()["instance"]) if answer.status == 200 else str(answer.status))
            return answers[-1] == "two"

        site.objects.put_instances("web", Instance("127.0.0.1", echoes[1], "2"))
        site.publish()
        await wait_for(ask)

        assert set(answers) <= {"one", "two"}
        assert await asyncio.to_thread(envoy.stat, "cluster_manager.cluster_modified") == 0
