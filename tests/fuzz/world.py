"""Objects of any text through the whole translation, as they would come out of Consul KV."""

from collections.abc import Iterable
from typing import Final

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.pipeline import Pipeline, Translation
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.store import Store

NAMESPACE: Final = "gloo-system"
GATEWAY: Final = "bindAddress: '::'\nbindPort: 8080\nhttpGateway: {}\n"
UPSTREAM: Final = "static: {hosts: [{addr: 127.0.0.1, port: 8081}]}\n"
Object = tuple[str, str, str]
"""Kind, name, and the text without metadata."""


def translate(objects: Iterable[Object]) -> Translation:
    """All of them, with a gateway and an upstream ``up``, translated."""
    store = Store()
    for number, (kind, name, text) in enumerate(
        [("Gateway", "gateway-proxy", GATEWAY), ("Upstream", "up", UPSTREAM), *objects]
    ):
        metadata = f"metadata: {{name: {name}, namespace: {NAMESPACE}}}\n"
        decoded = codec.decode(KINDS[kind], (metadata + text).encode(errors="replace"), Ref(NAMESPACE, name))
        entry = Entry(decoded.message, decoded.rejection, created=number)
        store.apply(Change("fuzz", kind, {Ref(NAMESPACE, name): entry}))
    return Pipeline().translate(store.snapshot, settings_pb2.Settings())
