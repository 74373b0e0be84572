"""Takes a host out for a while whose answers, or connections, are bad.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.options.guards import field_path, refuse_durations
from gloo_nomad.options.hooks import EVERY, Claims, ClusterContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FIELDS: Claims = {"gloo.solo.io.Upstream": ("outlier_detection",)}
READS: Claims = {"solo.io.envoy.api.v2.cluster.OutlierDetection": EVERY}

_PATH: Final = "outlierDetection"
_DURATIONS: Final = ("interval", "base_ejection_time")


def apply_cluster(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
    if not upstream.HasField("outlier_detection"):
        return ()
    wanted = upstream.outlier_detection
    findings = [*_check(wanted)]
    if not is_rejected(findings):
        _apply_least(wanted, out.outlier_detection)
        for descriptor, value in wanted.ListFields():
            if descriptor.message_type is None:
                setattr(out.outlier_detection, descriptor.name, value)
            else:
                getattr(out.outlier_detection, descriptor.name).CopyFrom(value)
    return findings


def _apply_least(wanted: Any, out: Any) -> None:
    """At least one host may be taken out, as it was when ``maxEjectionPercent`` was written.

    Newer Envoys take out none of nine hosts when ten percent are allowed, which is the default. Zero is zero.
    """
    if not wanted.HasField("max_ejection_percent") or wanted.max_ejection_percent.value:
        out.always_eject_one_host.value = True


def _check(wanted: Any) -> Iterator[Finding]:
    if not wanted.HasField("interval"):
        yield error(f"{_PATH}.interval", "is required: how often hosts are looked at, for example 10s")
    yield from refuse_durations(wanted, _DURATIONS, _PATH)
    for name in _DURATIONS:
        if wanted.HasField(name) and not getattr(wanted, name).ToNanoseconds():
            yield error(field_path(wanted, name, _PATH), "must be longer than 0s")
    for descriptor, value in wanted.ListFields():
        is_percentage = descriptor.name.startswith("enforcing_") or descriptor.name == "max_ejection_percent"
        if is_percentage and value.value > 100:
            yield error(field_path(wanted, descriptor.name, _PATH), f"is a percentage; {value.value} is above 100")
