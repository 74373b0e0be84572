"""Which Upstreams discovery writes and deletes for services that are registered with Nomad; pure.

They carry the label ``discovered_by: nomadplugin``, and are named ``nomad-<service>``, or outside of Nomad's namespace
``default`` ``nomad-<namespace>-<service>``, so that those of Consul's services never stand in their way. In such an
Upstream discovery owns the service's name, its tags and the two annotations that say where it is; everything else is
the user's and stays.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

from gloo_nomad.api.gen import settings_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.discovery.upstreams import LABEL, Plan, object_name, plan_changes, watched_tags
from gloo_nomad.store.change import Entry
from gloo_nomad.upstreams.nomad import DEFAULT_NAMESPACE, apply_place, nomad_namespace

NOMAD_PLUGIN: Final = "nomadplugin"

NomadServices = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Tags of services by Nomad's namespace and name."""


def plan_nomad_upstreams(
    services: NomadServices, stored: Mapping[Ref, Entry], settings: settings_pb2.Settings, namespace: str
) -> Plan:
    """The difference between what is stored and what the services ask for."""
    needed = watched_tags(settings)
    wanted: dict[Ref, upstream_pb2.Upstream] = {}
    for place, name, tags in _in_order(services):
        if not needed <= set(tags):
            continue
        upstream = _build_upstream(place, name, tags, settings, namespace)
        if Ref(namespace, upstream.metadata.name) in wanted:
            upstream.metadata.name += f"-{hashlib.sha256(f'{place}/{name}'.encode()).hexdigest()[:8]}"
        wanted[Ref(namespace, upstream.metadata.name)] = upstream
    return plan_changes(wanted, stored, namespace, NOMAD_PLUGIN, _merged)


def _in_order(services: NomadServices) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Namespace, name and tags; those of the default namespace first, so that they have the short names."""
    for place in sorted(services, key=lambda place: (place != DEFAULT_NAMESPACE, place)):
        for name, tags in sorted(services[place].items()):
            yield place, name, tags


def _build_upstream(
    place: str, service: str, tags: tuple[str, ...], settings: settings_pb2.Settings, namespace: str
) -> upstream_pb2.Upstream:
    upstream = upstream_pb2.Upstream()
    inside = "" if place == DEFAULT_NAMESPACE else f"{place}-"
    upstream.metadata.name = object_name(f"nomad-{inside}{service}")
    upstream.metadata.namespace = namespace
    upstream.metadata.labels[LABEL] = NOMAD_PLUGIN
    upstream.metadata.annotations.update(settings.upstreamOptions.global_annotations)
    apply_place(place, upstream)
    upstream.consul.service_name = service
    upstream.consul.service_tags.extend(tags)
    return upstream


def _merged(stored: upstream_pb2.Upstream, wanted: upstream_pb2.Upstream) -> upstream_pb2.Upstream:
    """The stored Upstream with what discovery owns as it is wanted."""
    merged = upstream_pb2.Upstream()
    merged.CopyFrom(stored)
    apply_place(nomad_namespace(wanted), merged)
    merged.consul.service_name = wanted.consul.service_name
    merged.consul.service_tags[:] = wanted.consul.service_tags
    return merged
