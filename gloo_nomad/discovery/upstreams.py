"""Which Upstreams discovery has to write and delete, decided from what Consul knows and what is stored; pure.

An Upstream that discovery wrote carries the label ``discovered_by: consulplugin``. In such an Upstream discovery owns
the service's name, datacenters, tags, consistency and query options, and the one tag that tells TLS instances from
others; everything else in it is the user's and stays. An Upstream without that label is never touched, even if it has
the name of a service, nor is one whose text is broken: somebody is about to mend it.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.store.change import Entry
from gloo_nomad.upstreams.tls_tags import settings_tls_tag

LABEL: Final = "discovered_by"
CONSUL_PLUGIN: Final = "consulplugin"
_MAX_NAME: Final = 240
"""Of the 253 characters that a name may have; the rest is for suffixes."""


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
    wanted, tag = _wanted(services, settings, namespace), settings_tls_tag(settings)
    return plan_changes(wanted, stored, namespace, CONSUL_PLUGIN, lambda old, new: _merged(old, new, tag))


def plan_changes(
    wanted: Mapping[Ref, upstream_pb2.Upstream],
    stored: Mapping[Ref, Entry],
    namespace: str,
    plugin: str,
    merge: Callable[[upstream_pb2.Upstream, upstream_pb2.Upstream], upstream_pb2.Upstream],
) -> Plan:
    """What has to be written so that the Upstreams with the label of a *plugin* are those that are wanted.

    *merge* puts what discovery owns of a wanted Upstream onto a copy of the stored one.
    """
    puts: dict[Ref, tuple[upstream_pb2.Upstream, int]] = {}
    for ref, upstream in wanted.items():
        entry = stored.get(ref)
        if entry is None:
            puts[ref] = (upstream, 0)
        elif is_discovered(entry, plugin) and entry.rejection is None:
            merged = merge(entry.value, upstream)
            if merged != entry.value:
                puts[ref] = (merged, entry.version)
    deletes = {
        ref: entry.version
        for ref, entry in stored.items()
        if ref.namespace == namespace and ref not in wanted and is_discovered(entry, plugin)
    }
    return Plan(puts, deletes)


def is_discovered(entry: Entry, plugin: str) -> bool:
    """Whether discovery wrote the object, for a service of that kind."""
    return entry.value is not None and entry.value.metadata.labels.get(LABEL) == plugin


def _wanted(
    services: Mapping[str, FoundService], settings: settings_pb2.Settings, namespace: str
) -> dict[Ref, upstream_pb2.Upstream]:
    """Upstreams by name; where two services would have the same one, that of the service with exactly that name."""
    allowed = frozenset(settings.consulDiscovery.service_tags_allowlist)
    needed = watched_tags(settings)
    found = [
        service for service in services.values() if needed <= service.tags and (not allowed or allowed & service.tags)
    ]
    wanted: dict[Ref, upstream_pb2.Upstream] = {}
    for service in sorted(found, key=lambda service: (object_name(service.name) != service.name, service.name)):
        for upstream in _build_upstreams(service, settings, namespace):
            if Ref(namespace, upstream.metadata.name) in wanted:
                upstream.metadata.name += f"-{hashlib.sha256(service.name.encode()).hexdigest()[:8]}"
            wanted[Ref(namespace, upstream.metadata.name)] = upstream
    return wanted


def watched_tags(settings: settings_pb2.Settings) -> frozenset[str]:
    """``udsOptions.watchLabels`` as tags, which is all that these services have: ``key=value``, or ``key`` alone."""
    labels = settings.discovery.uds_options.watch_labels
    return frozenset(f"{key}={value}" if value else key for key, value in labels.items())


def _build_upstreams(
    service: FoundService, settings: settings_pb2.Settings, namespace: str
) -> tuple[upstream_pb2.Upstream, ...]:
    """One Upstream, or with TLS tagging the plain and the TLS one as the settings say."""
    options, tag = settings.consulDiscovery, settings_tls_tag(settings)
    plain = _build_upstream(service, settings, namespace, "")
    if not options.useTlsTagging or tag not in service.tags:
        return (plain,)
    tls = _build_upstream(service, settings, namespace, "-tls")
    if options.HasField("rootCa"):
        tls.ssl_config.secret_ref.CopyFrom(options.rootCa)
    else:
        tls.ssl_config.SetInParent()
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
    """A service's name as the name of an object: a DNS-1123 subdomain, short enough for a suffix."""
    name = re.sub(r"[^a-z0-9.-]+", "-", service.lower())[:_MAX_NAME].strip("-.")
    return name or "service"


def _merged(stored: upstream_pb2.Upstream, wanted: upstream_pb2.Upstream, tag: str) -> upstream_pb2.Upstream:
    """The stored Upstream with what discovery owns as it is wanted."""
    merged = upstream_pb2.Upstream()
    merged.CopyFrom(stored)
    out, spec = merged.consul, wanted.consul
    out.service_name = spec.service_name
    out.data_centers[:] = spec.data_centers
    out.service_tags[:] = spec.service_tags
    out.consistencyMode = spec.consistencyMode
    out.ClearField("query_options")
    if spec.HasField("query_options"):
        out.query_options.CopyFrom(spec.query_options)
    for kept, asked in (
        (out.instance_tags, spec.instance_tags),
        (out.instance_blacklist_tags, spec.instance_blacklist_tags),
    ):
        kept[:] = [*(found for found in kept if found != tag), *asked]
    return merged
