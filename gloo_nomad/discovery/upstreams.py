"""Which Upstreams discovery has to write and delete, decided from what Consul knows and what is stored; pure.

An Upstream that discovery wrote carries the label ``discovered_by: consulplugin``. In such an Upstream discovery owns
the service's name, datacenters, tags and query options; everything else in it is the user's and stays. An Upstream
without that label is never touched, even if it has the name of a service.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.store.change import Entry

LABEL: Final = "discovered_by"
CONSUL_PLUGIN: Final = "consulplugin"
DEFAULT_TLS_TAG: Final = "glooUseTls"
_OWNED: Final = ("service_name", "data_centers", "service_tags", "instance_tags", "instance_blacklist_tags")


@dataclass(frozen=True, slots=True)
class FoundService:
    """One service of Consul's catalog, over all datacenters."""

    name: str
    tags: frozenset[str] = frozenset()
    datacenters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be written: objects with the version they replace (0 creates), and versions to delete."""

    puts: Mapping[Ref, tuple[upstream_pb2.Upstream, int]] = field(default_factory=dict)
    deletes: Mapping[Ref, int] = field(default_factory=dict)


def plan_upstreams(
    services: Mapping[str, FoundService], stored: Mapping[Ref, Entry], settings: settings_pb2.Settings, namespace: str
) -> Plan:
    """The difference between what is stored and what the services ask for."""
    wanted = _wanted(services, settings, namespace)
    puts: dict[Ref, tuple[upstream_pb2.Upstream, int]] = {}
    for ref, upstream in wanted.items():
        entry = stored.get(ref)
        if entry is None:
            puts[ref] = (upstream, 0)
        elif is_discovered(entry) and not _is_current(entry.value, upstream):
            puts[ref] = (_merged(entry.value, upstream), entry.version)
    deletes = {
        ref: entry.version
        for ref, entry in stored.items()
        if ref.namespace == namespace and ref not in wanted and is_discovered(entry)
    }
    return Plan(puts, deletes)


def is_discovered(entry: Entry) -> bool:
    """Whether discovery wrote the object."""
    return entry.value is not None and entry.value.metadata.labels.get(LABEL) == CONSUL_PLUGIN


def _wanted(
    services: Mapping[str, FoundService], settings: settings_pb2.Settings, namespace: str
) -> dict[Ref, upstream_pb2.Upstream]:
    options = settings.consulDiscovery
    allowed = frozenset(options.service_tags_allowlist)
    wanted: dict[Ref, upstream_pb2.Upstream] = {}
    for _, service in sorted(services.items()):
        if allowed and not allowed & service.tags:
            continue
        for upstream in _build_upstreams(service, settings, namespace):
            wanted.setdefault(Ref(namespace, upstream.metadata.name), upstream)
    return wanted


def _build_upstreams(
    service: FoundService, settings: settings_pb2.Settings, namespace: str
) -> tuple[upstream_pb2.Upstream, ...]:
    """One Upstream, or with TLS tagging the plain and the TLS one as the settings say."""
    options = settings.consulDiscovery
    tag = options.tlsTagName or DEFAULT_TLS_TAG
    plain = _build_upstream(service, settings, namespace, "")
    if not options.useTlsTagging or tag not in service.tags:
        return (plain,)
    tls = _build_upstream(service, settings, namespace, "-tls")
    tls.ssl_config.secret_ref.CopyFrom(options.rootCa)
    if not options.splitTlsServices:
        return (tls,)
    tls.consul.instance_tags.append(tag)
    plain.consul.instance_blacklist_tags.append(tag)
    return plain, tls


def _build_upstream(
    service: FoundService, settings: settings_pb2.Settings, namespace: str, suffix: str
) -> upstream_pb2.Upstream:
    upstream = upstream_pb2.Upstream()
    upstream.metadata.name = object_name(service.name) + suffix
    upstream.metadata.namespace = namespace
    upstream.metadata.labels[LABEL] = CONSUL_PLUGIN
    upstream.metadata.annotations.update(settings.upstreamOptions.global_annotations)
    upstream.consul.service_name = service.name
    upstream.consul.data_centers.extend(sorted(service.datacenters))
    upstream.consul.service_tags.extend(sorted(service.tags))
    upstream.consul.consistencyMode = settings.consulDiscovery.consistencyMode
    if settings.consulDiscovery.HasField("query_options"):
        upstream.consul.query_options.CopyFrom(settings.consulDiscovery.query_options)
    return upstream


def object_name(service: str) -> str:
    """A service's name as the name of an object: a DNS-1123 subdomain, at most 253 characters."""
    name = re.sub(r"[^a-z0-9.-]+", "-", service.lower()).strip("-.")
    return name[:249] or "service"


def _is_current(stored: upstream_pb2.Upstream, wanted: upstream_pb2.Upstream) -> bool:
    return all(getattr(stored.consul, name) == getattr(wanted.consul, name) for name in _OWNED)


def _merged(stored: upstream_pb2.Upstream, wanted: upstream_pb2.Upstream) -> upstream_pb2.Upstream:
    merged = upstream_pb2.Upstream()
    merged.CopyFrom(stored)
    for name in _OWNED:
        merged.consul.ClearField(name)
        value = getattr(wanted.consul, name)
        if isinstance(value, str):
            setattr(merged.consul, name, value)
        else:
            getattr(merged.consul, name).extend(value)
    return merged
