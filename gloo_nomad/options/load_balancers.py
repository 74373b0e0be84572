"""How a host is chosen among those of an upstream.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.values import duration_fault
from gloo_nomad.api.gen import load_balancer_pb2, upstream_pb2
from gloo_nomad.options.guards import refuse_durations, refuse_percentage
from gloo_nomad.options.hooks import EVERY, Claims, ClusterContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

_CONFIG: Final = "gloo.solo.io.LoadBalancerConfig"
FIELDS: Claims = {"gloo.solo.io.Upstream": ("load_balancer_config",)}
READS: Claims = {
    _CONFIG: EVERY,
    f"{_CONFIG}.RoundRobin": EVERY,
    f"{_CONFIG}.LeastRequest": EVERY,
    f"{_CONFIG}.SlowStartConfig": EVERY,
    f"{_CONFIG}.RingHash": EVERY,
    f"{_CONFIG}.RingHashConfig": EVERY,
}

MAX_RING_SIZE: Final = 8_388_608
DEFAULT_RING_SIZE: Final = 1024
_PATH: Final = "loadBalancerConfig"
_RUNTIME_KEY: Final = "upstream.slow_start.aggression"
"""Envoy wants a key by which the value can be overridden at run time."""
_TYPES: Final = {
    "round_robin": "ROUND_ROBIN",
    "least_request": "LEAST_REQUEST",
    "random": "RANDOM",
    "ring_hash": "RING_HASH",
    "maglev": "MAGLEV",
}


def apply_cluster(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
    if not upstream.HasField("load_balancer_config"):
        return ()
    config = upstream.load_balancer_config
    findings = [*_check_common(config), *_check_type(config), *_check_hashing(config, out)]
    if not is_rejected(findings):
        _apply_common(config, out)
        kind = config.WhichOneof("type")
        if kind:
            out.lb_policy = _TYPES[kind]
            _apply_type(config, kind, out)
    return findings


def _check_common(config: load_balancer_pb2.LoadBalancerConfig) -> Iterator[Finding]:
    if config.HasField("healthy_panic_threshold"):
        yield from refuse_percentage(config, "healthy_panic_threshold", _PATH)
    yield from refuse_durations(config, ("update_merge_window",), _PATH)


def _check_type(config: load_balancer_pb2.LoadBalancerConfig) -> Iterator[Finding]:
    match config.WhichOneof("type"):
        case "round_robin" if config.round_robin.HasField("slow_start_config"):
            yield from _check_slow_start(config.round_robin.slow_start_config, f"{_PATH}.roundRobin.slowStartConfig")
        case "least_request":
            if config.least_request.choice_count == 1:
                yield error(f"{_PATH}.leastRequest.choiceCount", "must be at least 2: one choice is none")
            if config.least_request.HasField("slow_start_config"):
                path = f"{_PATH}.leastRequest.slowStartConfig"
                yield from _check_slow_start(config.least_request.slow_start_config, path)
        case "ring_hash":
            yield from _check_ring(config.ring_hash.ring_hash_config, f"{_PATH}.ringHash.ringHashConfig")


def _check_slow_start(start: load_balancer_pb2.LoadBalancerConfig.SlowStartConfig, path: str) -> Iterator[Finding]:
    if start.HasField("slow_start_window") and (fault := duration_fault(start.slow_start_window)):
        yield error(f"{path}.slowStartWindow", fault)
    elif not start.slow_start_window.ToNanoseconds():
        yield warning(f"{path}.slowStartWindow", "is not set, so that new hosts have their full share at once")
    if start.HasField("aggression") and not 0 < start.aggression.value < float("inf"):
        yield error(f"{path}.aggression", "must be above 0")
    if start.HasField("min_weight_percent"):
        yield from refuse_percentage(start, "min_weight_percent", path)


def _check_ring(ring: load_balancer_pb2.LoadBalancerConfig.RingHashConfig, path: str) -> Iterator[Finding]:
    least, most = ring.minimum_ring_size or DEFAULT_RING_SIZE, ring.maximum_ring_size or MAX_RING_SIZE
    for name, size in (("minimumRingSize", least), ("maximumRingSize", most)):
        if size > MAX_RING_SIZE:
            yield error(f"{path}.{name}", f"must be at most {MAX_RING_SIZE}")
    if least > most:
        yield error(path, f"minimumRingSize ({least}) must not be above maximumRingSize ({most})")


def _check_hashing(config: load_balancer_pb2.LoadBalancerConfig, out: Any) -> Iterator[Finding]:
    """By name only where every host has one: hosts without would all be the same to the hash."""
    if config.use_hostname_for_hashing.value and not _has_names(out):
        text = "is not used: the hosts of this upstream have addresses and no names; they are hashed by address"
        yield warning(f"{_PATH}.useHostnameForHashing", text)


def _has_names(out: Any) -> bool:
    hosts = [host.endpoint.hostname for place in out.load_assignment.endpoints for host in place.lb_endpoints]
    return bool(hosts) and all(hosts)


def _apply_common(config: load_balancer_pb2.LoadBalancerConfig, out: Any) -> None:
    common = out.common_lb_config
    if config.HasField("healthy_panic_threshold"):
        common.healthy_panic_threshold.value = config.healthy_panic_threshold.value
    if config.HasField("update_merge_window"):
        common.update_merge_window.CopyFrom(config.update_merge_window)
    if config.HasField("locality_weighted_lb_config"):
        common.locality_weighted_lb_config.SetInParent()
    if config.use_hostname_for_hashing.value and _has_names(out):
        common.consistent_hashing_lb_config.use_hostname_for_hashing = True
    if config.close_connections_on_host_set_change:
        common.close_connections_on_host_set_change = True


def _apply_type(config: load_balancer_pb2.LoadBalancerConfig, kind: str, out: Any) -> None:
    if kind == "round_robin" and config.round_robin.HasField("slow_start_config"):
        _apply_slow_start(config.round_robin.slow_start_config, out.round_robin_lb_config.slow_start_config)
    elif kind == "least_request":
        if config.least_request.choice_count:
            out.least_request_lb_config.choice_count.value = config.least_request.choice_count
        if config.least_request.HasField("slow_start_config"):
            _apply_slow_start(config.least_request.slow_start_config, out.least_request_lb_config.slow_start_config)
    elif kind == "ring_hash":
        ring = config.ring_hash.ring_hash_config
        if ring.minimum_ring_size:
            out.ring_hash_lb_config.minimum_ring_size.value = ring.minimum_ring_size
        if ring.maximum_ring_size:
            out.ring_hash_lb_config.maximum_ring_size.value = ring.maximum_ring_size


def _apply_slow_start(start: load_balancer_pb2.LoadBalancerConfig.SlowStartConfig, out: Any) -> None:
    out.slow_start_window.CopyFrom(start.slow_start_window)
    if start.HasField("aggression"):
        out.aggression.default_value = start.aggression.value
        out.aggression.runtime_key = _RUNTIME_KEY
    if start.HasField("min_weight_percent"):
        out.min_weight_percent.value = start.min_weight_percent.value
