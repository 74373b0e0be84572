"""Tries a failed request again, on a route or for a whole virtual host.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-retry-on
"""

from collections.abc import Iterator
from typing import Any, Final

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2

from gloo_nomad.acceptance.headers import name_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.acceptance.values import duration_fault
from gloo_nomad.api.gen import retries_pb2, route_options_pb2, virtual_host_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import refuse_durations, refuse_unforwarded
from gloo_nomad.options.hooks import EVERY, Claims, RouteContext, VirtualHostContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

FIELDS: Claims = {
    "gloo.solo.io.RouteOptions": ("retries",),
    "gloo.solo.io.VirtualHostOptions": ("retries",),
}
READS: Claims = {
    "retries.options.gloo.solo.io.RetryPolicy": EVERY,
    "retries.options.gloo.solo.io.RetryPolicy.PreviousPriorities": EVERY,
    "retries.options.gloo.solo.io.RetryBackOff": EVERY,
    "retries.options.gloo.solo.io.RateLimitedRetryBackOff": EVERY,
    "retries.options.gloo.solo.io.ResetHeader": EVERY,
}

_HTTP_CONDITIONS: Final = (
    "5xx",
    "connect-failure",
    "envoy-ratelimited",
    "gateway-error",
    "http3-post-connect-failure",
    "refused-stream",
    "reset",
    "reset-before-request",
    "retriable-4xx",
    "retriable-headers",
    "retriable-status-codes",
)
_GRPC_CONDITIONS: Final = ("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable")
CONDITIONS: Final = frozenset((*_HTTP_CONDITIONS, *_GRPC_CONDITIONS))
"""What ``retryOn`` may name, separated by commas."""
_DEFAULT_UPDATE_FREQUENCY: Final = 2
"""As in Envoy's documentation of the previous priorities extension, which has no default of its own."""


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if not options.HasField("retries"):
        return ()
    findings = [*refuse_unforwarded(options, ("retries",), context), *_check(options.retries)]
    if not is_rejected(findings):
        out.route.retry_policy.CopyFrom(_build_policy(options.retries))
    return findings


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    if not options.HasField("retries"):
        return ()
    findings = [*_check(options.retries)]
    if not is_rejected(findings):
        out.retry_policy.CopyFrom(_build_policy(options.retries))
    return findings


def _check(retries: retries_pb2.RetryPolicy) -> Iterator[Finding]:
    yield from _check_conditions(retries.retry_on)
    yield from refuse_durations(retries, ("per_try_timeout",), "retries")
    for index, code in enumerate(retries.retriable_status_codes):
        if not 100 <= code <= 599:
            yield error(f"retries.retriableStatusCodes[{index}]", f"{code} is no HTTP status (100 to 599)")
    if retries.HasField("retry_back_off"):
        yield from _check_back_off(retries.retry_back_off)
    if retries.HasField("rate_limited_retry_back_off"):
        yield from _check_rate_limited(retries.rate_limited_retry_back_off)
    priorities = retries.previous_priorities
    if priorities.HasField("update_frequency") and not 0 < priorities.update_frequency.value < 2**31:
        yield error("retries.previousPriorities.updateFrequency", "must be at least 1 and less than 2147483648")


def _check_conditions(retry_on: str) -> Iterator[Finding]:
    unknown = [condition for part in retry_on.split(",") if (condition := part.strip()) not in CONDITIONS]
    if unknown and retry_on:
        first, more = quote(unknown[0]), f" and {len(unknown) - 1} more" if unknown[1:] else ""
        yield warning("retries.retryOn", f"{first}{more} is ignored; known are {', '.join(sorted(CONDITIONS))}")


def _check_back_off(back_off: retries_pb2.RetryBackOff) -> Iterator[Finding]:
    path = "retries.retryBackOff"
    if not back_off.HasField("base_interval"):
        yield error(f"{path}.baseInterval", "is required")
        return
    faults = [*_refuse_interval(back_off, "base_interval", f"{path}.baseInterval")]
    if back_off.HasField("max_interval"):
        faults += _refuse_interval(back_off, "max_interval", f"{path}.maxInterval")
        if not faults and back_off.max_interval.ToNanoseconds() < back_off.base_interval.ToNanoseconds():
            yield error(f"{path}.maxInterval", "must not be less than baseInterval")
    yield from faults


def _check_rate_limited(back_off: retries_pb2.RateLimitedRetryBackOff) -> Iterator[Finding]:
    path = "retries.rateLimitedRetryBackOff"
    if not back_off.reset_headers:
        yield error(f"{path}.resetHeaders", "must name at least one header")
    for index, header in enumerate(back_off.reset_headers):
        if fault := name_fault(header.name):
            yield error(f"{path}.resetHeaders[{index}].name", fault)
        if header.format not in retries_pb2.ResetHeader.HeaderFormat.values():
            yield error(f"{path}.resetHeaders[{index}].format", "must be SECONDS or UNIX_TIMESTAMP")
    if back_off.HasField("max_interval"):
        yield from _refuse_interval(back_off, "max_interval", f"{path}.maxInterval")


def _refuse_interval(message: Any, name: str, path: str) -> Iterator[Finding]:
    interval = getattr(message, name)
    if fault := duration_fault(interval):
        yield error(path, fault)
    elif not interval.ToNanoseconds():
        yield error(path, "must be longer than 0s")


def _build_policy(retries: retries_pb2.RetryPolicy) -> Any:
    policy = route_components_pb2.RetryPolicy(
        retry_on=retries.retry_on, retriable_status_codes=retries.retriable_status_codes
    )
    policy.num_retries.value = retries.num_retries or 1
    if retries.HasField("per_try_timeout"):
        policy.per_try_timeout.CopyFrom(retries.per_try_timeout)
    if retries.HasField("retry_back_off"):
        _copy_set(retries.retry_back_off, policy.retry_back_off, ("base_interval", "max_interval"))
    if retries.HasField("rate_limited_retry_back_off"):
        limited = retries.rate_limited_retry_back_off
        _copy_set(limited, policy.rate_limited_retry_back_off, ("max_interval",))
        for header in limited.reset_headers:
            policy.rate_limited_retry_back_off.reset_headers.add(name=header.name, format=int(header.format))
    if retries.HasField("previous_priorities"):
        _apply_previous_priorities(retries.previous_priorities, policy)
    return policy


def _apply_previous_priorities(priorities: retries_pb2.RetryPolicy.PreviousPriorities, out: Any) -> None:
    frequency = priorities.update_frequency.value or _DEFAULT_UPDATE_FREQUENCY
    config = previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=frequency)
    out.retry_priority.name = "envoy.retry_priorities.previous_priorities"
    out.retry_priority.typed_config.CopyFrom(typed_config(config))


def _copy_set(source: Any, out: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if source.HasField(name):
            getattr(out, name).CopyFrom(getattr(source, name))
