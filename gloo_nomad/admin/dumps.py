"""The configuration, the proxies and the Envoy resources as JSON documents, secrets redacted."""

import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from gloo_nomad.admin.anys import message_type
from gloo_nomad.admin.redaction import Redactor
from gloo_nomad.api.kinds import SECRET
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.proxies import Proxy, VirtualHost
from gloo_nomad.resources import PUSH_ORDER, Resource, XdsSnapshot
from gloo_nomad.store.snapshot import ConfigSnapshot

SHORT_NAMES: Final[Mapping[str, str]] = {
    "clusters": "envoy.config.cluster.v3.Cluster",
    "endpoints": "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "listeners": "envoy.config.listener.v3.Listener",
    "routes": "envoy.config.route.v3.RouteConfiguration",
    "virtualHosts": "envoy.config.route.v3.VirtualHost",
    "scopedRoutes": "envoy.config.route.v3.ScopedRouteConfiguration",
    "secrets": "envoy.extensions.transport_sockets.tls.v3.Secret",
    "runtime": "envoy.service.runtime.v3.Runtime",
}
"""What people call the types of Envoy's resources."""
_BY_TYPE: Final = {name: short for short, name in SHORT_NAMES.items()}


def is_type(name: str) -> bool:
    """Whether Envoy has resources of that type: by its short name, or by its type URL."""
    return name in SHORT_NAMES or name.rpartition("/")[2] in _BY_TYPE


def redactor_for(snapshot: ConfigSnapshot) -> Redactor:
    """A redactor that knows the secrets of a configuration."""
    return Redactor.knowing(snapshot.of(SECRET.name).values())


def dump_message(message: Message, redactor: Redactor) -> dict[str, Any]:
    """A message as a document without secrets."""
    document: dict[str, Any] = json_format.MessageToDict(redactor.redact(message))
    return document


def dump_config(snapshot: ConfigSnapshot, redactor: Redactor, kind: str = "", ref: Ref | None = None) -> dict[str, Any]:
    """Objects by kind, of one kind and of one name if asked for; names in *ref* may be empty."""
    wanted = [kind] if kind else sorted(snapshot.collections)
    return {
        name: [
            _dump_value(value, redactor)
            for found, value in snapshot.of(name).items()
            if ref is None or (ref.namespace in {"", found.namespace} and ref.name in {"", found.name})
        ]
        for name in wanted
    }


def dump_proxies(proxies: Iterable[Proxy], redactor: Redactor) -> list[Any]:
    """The proxies between the two halves of the translation."""
    return [_dump_value(proxy, redactor) for proxy in proxies]


def _dump_value(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, Message):
        return dump_message(value, redactor)
    if isinstance(value, (ObjectRef, Ref)):
        return str(value)
    if isinstance(value, VirtualHost):
        unpacked = {
            field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.name != "packed"
        }
        return _dump_value({**unpacked, "message": value.message}, redactor)
    if dataclasses.is_dataclass(value):
        return {field.name: _dump_value(getattr(value, field.name), redactor) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _dump_value(held, redactor) for key, held in value.items()}
    if isinstance(value, (tuple, list, frozenset, set)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [_dump_value(item, redactor) for item in items]
    return redactor.text(value) if isinstance(value, str) else value


def dump_xds(snapshot: XdsSnapshot, redactor: Redactor, type_name: str = "", name: str = "") -> dict[str, Any]:
    """Envoy resources by type, each under its name; one type (``clusters``) and one resource if asked for."""
    known = [url for url in PUSH_ORDER if url in snapshot.types]
    urls = [*known, *sorted(url for url in snapshot.types if url not in known)]
    dumped: dict[str, Any] = {}
    for url in urls:
        short = short_name(url)
        if type_name in {"", short, url}:
            resources = snapshot.of(url)
            chosen = [found for key, found in sorted(resources.items()) if name in {"", key}]
            dumped[short] = {found.name: dump_resource(url, found, redactor) for found in chosen}
    return dumped


def short_name(url: str) -> str:
    """What people call a type URL."""
    full = url.rpartition("/")[2]
    return _BY_TYPE.get(full, full)


def dump_resource(url: str, resource: Resource, redactor: Redactor) -> dict[str, Any]:
    """One Envoy resource as a document."""
    found = message_type(url.rpartition("/")[2])
    if found is None:
        return {"error": f"the type {url} is not known here", "bytes": len(resource.body)}
    message = found()
    try:
        message.ParseFromString(resource.body)
    except DecodeError:
        return {"error": f"the bytes are no {url}", "bytes": len(resource.body)}
    return dump_message(message, redactor)
