"""Names the spans of a route, and says how many of its requests are traced (a percentage each, 100 by default).

Tracing itself is switched on by the gateway's connection manager settings.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/observability/tracing
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.headers import value_fault
from gloo_nomad.api.gen import route_options_pb2, tracing_pb2
from gloo_nomad.options.guards import build_percentage, refuse_percentage
from gloo_nomad.options.hooks import EVERY, Claims, RouteContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FIELDS: Claims = {"gloo.solo.io.RouteOptions": ("tracing",)}
READS: Claims = {
    "tracing.options.gloo.solo.io.RouteTracingSettings": EVERY,
    "tracing.options.gloo.solo.io.TracePercentages": EVERY,
}

_SAMPLINGS: Final = (
    ("client_sample_percentage", "client_sampling"),
    ("random_sample_percentage", "random_sampling"),
    ("overall_sample_percentage", "overall_sampling"),
)


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if not options.HasField("tracing"):
        return ()
    tracing = options.tracing
    findings = [*_check(tracing)]
    if is_rejected(findings):
        return findings
    if tracing.route_descriptor:
        out.decorator.operation = tracing.route_descriptor
        if tracing.HasField("propagate"):
            out.decorator.propagate.value = tracing.propagate.value
    if tracing.HasField("trace_percentages"):
        _apply_percentages(tracing.trace_percentages, out.tracing)
    return findings


def _check(tracing: tracing_pb2.RouteTracingSettings) -> Iterator[Finding]:
    if fault := value_fault(tracing.route_descriptor):
        yield error("tracing.routeDescriptor", fault)
    if tracing.HasField("propagate") and not tracing.route_descriptor:
        yield error("tracing.propagate", "needs a routeDescriptor, which is what is passed on")
    for name, _ in _SAMPLINGS:
        yield from refuse_percentage(tracing.trace_percentages, name, "tracing.tracePercentages")


def _apply_percentages(percentages: tracing_pb2.TracePercentages, out: Any) -> None:
    for name, sampling in _SAMPLINGS:
        wanted = getattr(percentages, name).value if percentages.HasField(name) else 100.0  # type: ignore[arg-type]
        getattr(out, sampling).CopyFrom(build_percentage(wanted))
