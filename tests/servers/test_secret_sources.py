"""Several sources of secrets at once, and artifacts in Consul KV, each to what a client of a real Envoy sees."""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from tests.site import Place, Site, direct, host

pytestmark = [pytest.mark.consul, pytest.mark.envoy]
SHOP = Path(__file__).parent.parent / "golden" / "shop.pb"


def shown(site: Site, domain: str, roots: Path) -> bytes:
    """The certificate of a new connection; empty for none."""
    try:
        return site.get_securely(domain, roots).certificate
    except OSError:
        return b""


@pytest.mark.bao
def test_a_folder_and_two_vaults(place: Place, new_openbao: Callable[..., OpenBao]) -> None:
    """Each gives what the others do not have; of what several have the folder's counts, then the first Vault's."""
    first, second, authority = new_openbao(), new_openbao(), Authority()
    roots = place.folder / "roots.pem"
    roots.write_text(authority.certificate)
    folder = place.folder / "secrets" / "gloo-system"
    folder.mkdir(parents=True)
    pairs = {name: authority.issue("shared.test", f"{name}.test") for name in ("folder", "first", "second")}

    def write(name: str, fields: dict[str, Any]) -> None:
        document = {"metadata": {"name": name, "namespace": "gloo-system"}, **fields}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))

    write("folder", pairs["folder"].build_secret())
    write("shared", pairs["folder"].build_secret())
    for vault, name in ((first, "first"), (second, "second")):
        for stored in (name, "shared"):
            vault.put_secret("gloo-system", stored, pairs[name].build_secret(), root=name)
    reader = 'path "secret/*" { capabilities = ["read", "list"] }'
    second.write_policy("reader", reader)
    token = place.folder / "token-of-second"
    token.write_text(second.create_token("reader"))
    sources = [
        {"vault": {"address": first.address, "accessToken": first.token, "rootKey": "first"}},
        {"vault": {"address": second.address, "rootKey": "second"}},
        {"directory": {"directory": str(folder.parent)}},
    ]
    auth = {"perAddress": {second.address: {"method": "token", "tokenFile": str(token)}}}
    own = {"vaultAuth": auth, "vaultPollSeconds": 0.5}
    daemon = place.start(
        settings={"secretOptions": {"sources": sources}, "extensions": {"configs": {"gloo-nomad": own}}}
    )
    for name in (*pairs, "shared"):
        daemon.put("VirtualService", name, host(f"{name}.test", direct(name), tls=name))
    site = place.open(daemon)
    for name, pair in pairs.items():
        wait_until(lambda name=name, pair=pair: shown(site, f"{name}.test", roots) == pair.der, name, 30)  # type: ignore[misc]  # bound now
    for name in ("folder", "first", "second"):
        wait_until(lambda name=name: shown(site, "shared.test", roots) == pairs[name].der, f"shared of {name}", 30)  # type: ignore[misc]  # the same
        if name == "folder":
            told = str(daemon.problems_of("shared"))
            assert "is in secrets-02 and in vault-00; the one in secrets-02 is used" in told
            (folder / "shared.yaml").unlink()
        else:
            vault = first if name == "first" else second
            vault.delete_secret("gloo-system", "shared", root=name)
    daemon.wait_status("VirtualService", "shared", "Rejected")
    assert daemon.status("VirtualService", "second")["state"] == "Accepted"


@pytest.mark.bao
def test_kv_1_that_is_told(place: Place, new_openbao: Callable[..., OpenBao]) -> None:
    """An engine of version 1 below another mount path, its version told, is followed as well."""
    bao, authority = new_openbao(), Authority()
    roots = place.folder / "roots.pem"
    roots.write_text(authority.certificate)
    bao.request("POST", "sys/mounts/team/kv", {"type": "kv", "options": {"version": "1"}})
    bao.write_policy("one", 'path "team/kv/gloo/*" { capabilities = ["read", "list"] }')

    def write() -> bytes:
        pair = authority.issue("tls.test")
        document = {"metadata": {"name": "cert", "namespace": "gloo-system"}, **pair.build_secret()}
        bao.request("POST", "team/kv/gloo/gloo.solo.io/v1/Secret/gloo-system/cert", document)
        return pair.der

    served = write()
    vault = {"address": bao.address, "accessToken": bao.create_token("one"), "pathPrefix": "team/kv"}
    own = {"vaultKvVersion": 1, "vaultPollSeconds": 0.5}
    daemon = place.start(settings={"vaultSecretSource": vault, "extensions": {"configs": {"gloo-nomad": own}}})
    daemon.put("VirtualService", "tls", host("tls.test", direct("secure"), tls="cert"))
    site = place.open(daemon)
    wait_until(lambda: shown(site, "tls.test", roots) == served, "HTTPS", 30)
    served = write()
    wait_until(lambda: shown(site, "tls.test", roots) == served, "the new certificate", 10)


@contextmanager
def catalog(port: int) -> Iterator[None]:
    """A gRPC service ``shop.Catalog`` whose ``Find`` gives back what it got."""

    def find(request: bytes, _: grpc.ServicerContext) -> bytes:
        return request

    handler = grpc.method_handlers_generic_handler("shop.Catalog", {"Find": grpc.unary_unary_rpc_method_handler(find)})
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()


def test_descriptors_in_consul(place: Place) -> None:
    """An Artifact in Consul KV has what Envoy transcodes JSON with; taking it away leaves it in service."""
    port = place.free_port()
    daemon = place.start(settings={"consulKvArtifactSource": {"rootKey": place.root}})
    descriptors = base64.b64encode(SHOP.read_bytes()).decode()
    artifact = {"metadata": {"name": "shop", "namespace": "gloo-system"}, "data": {"shop.pb": descriptors}}
    key = KINDS["Artifact"].key(place.root, Ref("gloo-system", "shop"))
    upstream = {"static": {"hosts": [{"addr": "127.0.0.1", "port": port}]}, "useHttp2": True}
    daemon.put("Upstream", "shop", upstream)
    action = {"single": {"upstream": {"name": "shop", "namespace": "gloo-system"}}}
    route = {"matchers": [{"prefix": "/"}], "routeAction": action}
    daemon.put("VirtualService", "shop", host("shop.test", route))
    site = place.open(daemon)
    transcoder = {
        "protoDescriptorConfigMap": {"configMapRef": {"name": "shop", "namespace": "gloo-system"}},
        "services": ["shop.Catalog"],
        "autoMapping": True,
    }
    http = {"httpGateway": {"options": {"grpcJsonTranscoder": transcoder}}}
    daemon.put("Gateway", "gateway-proxy", {"bindAddress": "127.0.0.1", "bindPort": site.port, **http})
    daemon.wait_status("Gateway", "gateway-proxy", "Rejected")
    place.consul.put(key, json.dumps(artifact))
    daemon.wait_status("Gateway", "gateway-proxy", "Accepted")

    def ask() -> str:
        body = json.dumps({"name": "tea"}).encode()
        sent = {"content-type": "application/json"}
        path = "/shop.Catalog/Find"
        return fetch(site.port, path, host="shop.test", method="POST", headers=sent, body=body).text

    with catalog(port):
        wait_until(lambda: '"tea"' in ask(), f"JSON of the service (it is {ask()})", 20)
        assert json.loads(ask()) == {"name": "tea"}
