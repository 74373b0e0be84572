"""Answers some requests with an error, or lets them wait, to see how callers bear it.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/fault_filter
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.extensions.filters.http.fault.v3 import fault_pb2 as envoy_fault_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.acceptance.values import duration_fault
from gloo_nomad.api.gen import fault_pb2, route_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import build_percentage, refuse_percentage
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext
from gloo_nomad.options.stages import Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FILTER: Final = "envoy.filters.http.fault"

FIELDS: Claims = {"gloo.solo.io.RouteOptions": ("faults",)}
READS: Claims = {
    "fault.options.gloo.solo.io.RouteFaults": EVERY,
    "fault.options.gloo.solo.io.RouteAbort": EVERY,
    "fault.options.gloo.solo.io.RouteDelay": EVERY,
}


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    faults = options.faults
    if not faults.HasField("abort") and not faults.HasField("delay"):
        return ()
    findings = [*_check(faults)]
    if not is_rejected(findings):
        out.typed_per_filter_config[FILTER].CopyFrom(typed_config(_build_fault(faults)))
    return findings


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if context.needs(FILTER):
        config = typed_config(envoy_fault_pb2.HTTPFault())
        built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config)
        yield StagedFilter(Stage.FAULT, built)


def _check(faults: fault_pb2.RouteFaults) -> Iterator[Finding]:
    if faults.HasField("abort"):
        yield from refuse_percentage(faults.abort, "percentage", "faults.abort")
        if not 200 <= faults.abort.http_status <= 599:
            yield error("faults.abort.httpStatus", f"must be between 200 and 599, not {faults.abort.http_status}")
    if faults.HasField("delay"):
        yield from refuse_percentage(faults.delay, "percentage", "faults.delay")
        if fault := duration_fault(faults.delay.fixed_delay):
            yield error("faults.delay.fixedDelay", fault)
        elif not faults.delay.fixed_delay.ToNanoseconds():
            yield error("faults.delay.fixedDelay", "is required, and longer than 0s")


def _build_fault(faults: fault_pb2.RouteFaults) -> Any:
    built = envoy_fault_pb2.HTTPFault()
    if faults.HasField("abort"):
        built.abort.http_status = faults.abort.http_status
        built.abort.percentage.CopyFrom(build_percentage(faults.abort.percentage))
    if faults.HasField("delay"):
        built.delay.fixed_delay.CopyFrom(faults.delay.fixed_delay)
        built.delay.percentage.CopyFrom(build_percentage(faults.delay.percentage))
    return built
