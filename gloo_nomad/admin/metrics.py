"""Prometheus metrics: events are counted as they happen, states are read when somebody asks.

Where the reference exports the same thing, its name is exported as well, so that existing dashboards go on working
(its names have ``/`` and ``.``, which its exporter writes as ``_``). The xDS server adds its own to the same registry.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from gloo_nomad import __version__
from gloo_nomad.admin.config_status import status_metrics
from gloo_nomad.admin.dumps import short_name
from gloo_nomad.admin.view import AdminView, LastKnown
from gloo_nomad.reports import Problems, Severity

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, view: AdminView) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        for process in (ProcessCollector, PlatformCollector, GCCollector):
            process(registry=self.registry)
        self._translation = Histogram(
            "gloo_nomad_translation_seconds",
            "Time from a configuration to its Envoy resources.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._translation_reference = Histogram(
            "gloo_edge_translation_time_sec",
            "The same under the reference's name.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._validations = Counter(
            "gloo_nomad_validations",
            "Requests to validate objects, or to write one.",
            ["result"],
            registry=self.registry,
        )
        self._resources = {"accepted": 0, "rejected": 0}
        self.registry.register(_States(view, self._resources))

    def translated(self, seconds: float) -> None:
        """A configuration was translated."""
        self._translation.observe(seconds)
        self._translation_reference.observe(seconds)

    def validated(self, accepted: bool) -> None:
        """Objects were validated before they were written."""
        result = "accepted" if accepted else "rejected"
        self._validations.labels(result).inc()
        self._resources[result] += 1

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)


class _States(Collector):
    """What is read when Prometheus asks."""

    def __init__(self, view: AdminView, validated: Mapping[str, int]) -> None:
        self._view = view
        self._validated = validated

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("gloo_nomad_build_info", "The version that runs.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield GaugeMetricFamily("gloo_nomad_tasks", "Tasks of the event loop.", value=_count_tasks())
        yield from self._sources()
        yield from self._objects()
        problems = self._view.problems()
        yield from _problems(problems)
        yield from status_metrics(self._view.settings(), self._view.snapshot(), problems)
        yield from self._resources()
        yield from self._streams()
        yield from self._reference()

    def _reference(self) -> Iterator[Metric]:
        """What only dashboards of the reference ask for; its counters have no ``_total``."""
        for result, count in self._validated.items():
            name = f"validation_gateway_solo_io_resources_{result}"
            yield UnknownMetricFamily(name, f"Requests to validate that were {result}.", value=count)
        namespaces = len(self._view.settings().watch_namespaces)
        yield GaugeMetricFamily("gloo_solo_io_namespaces_watched", "How many; 0 for all of them.", value=namespaces)

    def _sources(self) -> Iterator[Metric]:
        listed = GaugeMetricFamily(
            "gloo_nomad_source_listed", "1 once a source has listed everything.", labels=["source"]
        )
        failing = GaugeMetricFamily("gloo_nomad_source_failing", "1 while a source fails.", labels=["source"])
        since = GaugeMetricFamily(
            "gloo_nomad_source_state_since_seconds", "Unix time since when it is so.", labels=["source"]
        )
        for source in self._view.sources():
            listed.add_metric([source.name], int(source.listed))
            failing.add_metric([source.name], int(bool(source.error)))
            since.add_metric([source.name], source.since)
        ready = GaugeMetricFamily(
            "gloo_nomad_ready", "1 once the first configuration is in service.", value=int(is_ready(self._view))
        )
        yield from (listed, failing, since, ready)
        degraded = self._view.degraded_since()
        told = "Unix time since when a source fails or what was kept on disk is served; 0 while all is well."
        yield GaugeMetricFamily("gloo_nomad_degraded_since_seconds", told, value=degraded)
        yield from _last_known(self._view.last_known())

    def _objects(self) -> Iterator[Metric]:
        objects = GaugeMetricFamily("gloo_nomad_snapshot_objects", "Objects in the configuration.", labels=["kind"])
        snapshot = self._view.snapshot()
        for kind in sorted(snapshot.collections):
            objects.add_metric([kind], len(snapshot.of(kind)))
        yield objects

    def _resources(self) -> Iterator[Metric]:
        resources = GaugeMetricFamily("gloo_nomad_served_resources", "Envoy resources.", labels=["role", "type"])
        reference = GaugeMetricFamily(
            "api_gloo_solo_io_translator_resources", "The reference's name for it.", labels=["proxy", "resource"]
        )
        for role, snapshot in sorted(self._view.xds().items()):
            for url in sorted(snapshot.types):
                count = len(snapshot.of(url))
                resources.add_metric([role, short_name(url)], count)
                reference.add_metric([role.rpartition("~")[2], short_name(url)], count)
        yield from (resources, reference)

    def _streams(self) -> Iterator[Metric]:
        streams = GaugeMetricFamily("gloo_nomad_connected_envoys", "Connected Envoys.", labels=["role", "protocol"])
        rejecting = GaugeMetricFamily(
            "gloo_nomad_rejecting_envoys", "Envoys that reject what they have.", labels=["role"]
        )
        clients = [(_known_role(self._view, client.role), client) for client in self._view.clients()]
        for (role, protocol), count in sorted(Tally((role, client.protocol) for role, client in clients).items()):
            streams.add_metric([role, protocol], count)
        for role, count in sorted(Tally(role for role, client in clients if client.last_nack).items()):
            rejecting.add_metric([role], count)
        yield from (streams, rejecting)


def _last_known(kept: LastKnown | None) -> Iterator[Metric]:
    if kept is None:
        return
    name = "gloo_nomad_last_known"
    told = "1 while something is served as it was kept on disk."
    yield GaugeMetricFamily(f"{name}_served", told, value=int(bool(kept.since)))
    yield GaugeMetricFamily(f"{name}_written_seconds", "Unix time of what is on disk.", value=kept.written)
    yield GaugeMetricFamily(f"{name}_failing", "1 while it cannot be kept in full.", value=int(bool(kept.failure)))


def _count_tasks() -> int:
    """How many there are; 0 where no event loop runs, as in a page that is made by a command."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


def _problems(problems: Problems) -> Iterator[Metric]:
    status = GaugeMetricFamily(
        "gloo_nomad_config_status",
        "Objects with problems: 1 warning, 2 rejected. An object without problems is not listed.",
        labels=["kind", "namespace", "name"],
    )
    worst: dict[tuple[str, str, str], int] = {}
    for problem in problems:
        worst[problem.ref] = max(worst.get(problem.ref, 0), int(problem.severity))
    for ref, severity in sorted(worst.items()):
        status.add_metric([*ref], severity)
    rejected = sum(severity >= Severity.ERROR for severity in worst.values())
    total = GaugeMetricFamily("gloo_nomad_objects_with_problems", "Objects by their worst problem.", labels=["worst"])
    total.add_metric(["error"], rejected)
    total.add_metric(["warning"], len(worst) - rejected)
    valid = GaugeMetricFamily(
        "validation_gateway_solo_io_valid_config", "1 while no object is rejected.", value=int(rejected == 0)
    )
    yield from (status, total, valid)


def _known_role(view: AdminView, role: str) -> str:
    """The role as a label; what an Envoy makes up does not become a label of its own."""
    return role if role in view.xds() else "unknown"


def is_ready(view: AdminView) -> bool:
    """Whether every source has listed once and the first configuration is in service, and stays so."""
    return view.published() and not view.stopping() and all(source.listed for source in view.sources())
