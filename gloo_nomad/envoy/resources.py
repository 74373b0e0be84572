"""Resources that keep their identity: equal bytes under the same name are the same object, round after round."""

from typing import Any

from envoy.config.core.v3 import config_source_pb2

from gloo_nomad.messages import to_bytes, version_of
from gloo_nomad.resources import Resource
from gloo_nomad.store.memo import Memo


def build_resource(memo: Memo, type_url: str, name: str, body: bytes, version: str = "") -> Resource:
    """A resource; the one of the last round if it has the same bytes.

    *version* spares hashing a large body of which the parts' hashes are known.
    """
    version = version or version_of(body)
    return memo.get(("resource", type_url, name, version), (), lambda: Resource(name, version, body))


def pack_resource(memo: Memo, type_url: str, name: str, message: Any) -> Resource:
    """A resource from its message."""
    return build_resource(memo, type_url, name, to_bytes(message))


def ads() -> Any:
    """Says "ask for it on the stream that this came on": every reference from resource to resource goes over ADS."""
    source = config_source_pb2.ConfigSource(resource_api_version="V3")
    source.ads.SetInParent()
    return source
