"""The reference's gauges of statuses: 0 for an object in order, 1 for one with a warning or an error.

``validation_gateway_solo_io_virtual_service_config_status`` and its like are there for the kinds that the Settings
name, one sample for each set of labels; of several objects with the same labels the worst counts.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Problem
from gloo_nomad.settings.status_labels import Labels, find_value, status_labels
from gloo_nomad.store.snapshot import ConfigSnapshot

_NAMES: Final = {
    "Gateway": "gateway",
    "RouteTable": "route_table",
    "VirtualService": "virtual_service",
    "Proxy": "proxy",
    "Secret": "secret",
    "Upstream": "upstream",
    "UpstreamGroup": "upsteam_group",
}
"""As the reference writes them, with its slip in the last one."""


def status_metrics(
    settings: settings_pb2.Settings, snapshot: ConfigSnapshot, problems: Iterable[Problem]
) -> Iterator[Metric]:
    """The gauges of all kinds that have one."""
    wanted = status_labels(settings)
    if not wanted:
        return
    troubled = {problem.ref for problem in problems}
    for kind, labels in sorted(wanted.items(), key=lambda item: item[0].name):
        name = f"validation_gateway_solo_io_{_NAMES[kind.name]}_config_status"
        gauge = GaugeMetricFamily(name, f"1 for a {kind.name} with a warning or an error.", labels=[*labels])
        for values, status in sorted(_statuses(kind, labels, snapshot, troubled).items()):
            gauge.add_metric(values, status)
        yield gauge


def _statuses(
    kind: Kind, labels: Labels, snapshot: ConfigSnapshot, troubled: set[ObjectRef]
) -> dict[tuple[str, ...], int]:
    objects = snapshot.of(kind.name)
    unread = {ref.ref: _named(kind, ref.ref) for ref in troubled if ref.kind == kind.name and ref.ref not in objects}
    found: dict[tuple[str, ...], int] = {}
    for ref, message in (*objects.items(), *unread.items()):
        values = tuple(find_value(message, path) for path in labels.values())
        found[values] = max(found.get(values, 0), int(kind.object_ref(ref) in troubled))
    return found


def _named(kind: Kind, ref: Ref) -> Any:
    """What is known of an object whose text cannot be read."""
    message: Any = kind.message()
    message.metadata.name, message.metadata.namespace = ref.name, ref.namespace
    return message
