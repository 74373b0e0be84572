"""Rules of Envoy's API: found in its descriptors, checked at any depth."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import envoy
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from google.protobuf import duration_pb2
from validate import validate_pb2

from gloo_nomad.acceptance.rules import broken_rules
from gloo_nomad.acceptance.values import MAX_DURATION_SECONDS, duration_fault

KNOWN_RULES = {
    "any": {"required"},
    "bool": {"const"},
    "bytes": {"min_len", "max_len"},
    "double": {"gt", "gte", "lt", "lte"},
    "duration": {"gt", "gte", "lt", "lte", "required"},
    "enum": {"defined_only", "not_in"},
    "float": {"gt", "gte", "lt", "lte"},
    "int32": {"gt", "gte", "lt", "lte"},
    "int64": {"gt", "gte", "lt", "lte"},
    "map": {"keys", "values", "min_pairs", "max_pairs"},
    "message": {"required", "skip"},
    "repeated": {"items", "min_items", "max_items", "unique"},
    "string": {"ignore_empty", "in", "max_bytes", "max_len", "min_bytes", "min_len", "pattern", "prefix", "strict",
               "suffix", "well_known_regex"},
    "uint32": {"gt", "gte", "lt", "lte"},
    "uint64": {"gt", "gte", "lt", "lte"},
}  # fmt: skip
"""What ``acceptance.values`` and ``acceptance.rules`` know."""


def broken(message: Any) -> dict[str, str]:
    """Breaches by path."""
    return {breach.path: breach.reason for breach in broken_rules(message)}


def test_every_rule_of_envoys_api_is_known() -> None:
    """No field of Envoy's configuration has a kind of rule that is not checked."""
    fields = [*_fields()]
    unknown = {
        f"{descriptor.full_name}: {kind}.{rule}"
        for descriptor in fields
        for kind, rule in _rules(descriptor.GetOptions().Extensions[validate_pb2.rules])
        if rule not in KNOWN_RULES.get(kind, set())
    }

    assert len(fields) > 2000
    assert sorted(unknown) == []


def _fields() -> Iterator[Any]:
    for folder in envoy.__path__:
        for path in sorted(Path(folder).rglob("v3/*_pb2.py")):
            name = ".".join(("envoy", *path.relative_to(folder).with_suffix("").parts))
            for message in importlib.import_module(name).DESCRIPTOR.message_types_by_name.values():
                yield from _fields_of(message)


def _fields_of(message: Any) -> Iterator[Any]:
    yield from message.fields
    for nested in message.nested_types:
        yield from _fields_of(nested)


def _rules(rules: Any) -> Iterator[tuple[str, str]]:
    for kind, value in rules.ListFields():
        for rule, inner in value.ListFields():
            yield kind.name, rule.name
            if rule.name in ("items", "keys", "values"):
                yield from _rules(inner)


def test_a_complete_message_breaks_nothing() -> None:
    """A virtual host as we make them is fine."""
    host = route_components_pb2.VirtualHost(name="a", domains=["*"])
    route = host.routes.add()
    route.match.prefix = "/"
    route.route.cluster = "c"
    route.route.timeout.seconds = 5

    assert broken(host) == {}


def test_what_is_missing_is_named_by_its_path() -> None:
    """Required fields, oneofs and entries are named wherever they are missing."""
    cluster = cluster_pb2.Cluster()
    cluster.health_checks.add()

    assert broken(cluster) == {
        "name": "must not be empty",
        "health_checks[0]": "one of health_checker is required",
        "health_checks[0].timeout": "is required",
        "health_checks[0].interval": "is required",
        "health_checks[0].unhealthy_threshold": "is required",
        "health_checks[0].healthy_threshold": "is required",
    }


def test_required_in_a_oneof_counts_only_when_it_is_chosen() -> None:
    """`safe_regex` is required only in a matcher that is one."""
    assert broken(route_components_pb2.RouteMatch(prefix="/")) == {}
    assert broken(route_components_pb2.RouteMatch()) == {"": "one of path_specifier is required"}


@pytest.mark.parametrize(
    ("message", "path", "reason"),
    [
        (fault_pb2.FaultAbort(http_status=99), "http_status", "must be at least 200"),
        (fault_pb2.FaultAbort(http_status=600), "http_status", "must be less than 600"),
        (base_pb2.HeaderValue(key=""), "key", "must not be empty"),
        (base_pb2.HeaderValue(key="a" * 16_385), "key", "may have at most 16384 bytes"),
        (base_pb2.HeaderValue(key="a\nb"), "key", "must not have a line break or NUL"),
        (route_components_pb2.RouteAction(cluster="c", priority=9), "priority", "9 is none of the values"),
        (route_components_pb2.VirtualHost(name="a"), "domains", "must not be empty"),
        (extension_pb2.TypedExtensionConfig(name="a"), "typed_config", "is required"),
    ],
)
def test_values_are_checked(message: Any, path: str, reason: str) -> None:
    """Limits, lengths, characters, enums, counts and required messages."""
    assert broken(message)[path].startswith(reason)


def test_limits_of_wrappers_and_durations_hold() -> None:
    """A wrapper is checked by what it holds, a duration in seconds."""
    backoff = route_components_pb2.RetryPolicy.RetryBackOff()
    backoff.base_interval.seconds = 0
    cluster = cluster_pb2.Cluster(name="a")
    cluster.per_connection_buffer_limit_bytes.value = 0
    cluster.preconnect_policy.per_upstream_preconnect_ratio.value = 0.5

    assert broken(backoff) == {"base_interval": "must be greater than 0s"}
    assert broken(cluster) == {"preconnect_policy.per_upstream_preconnect_ratio": "must be at least 1"}


def test_keys_of_maps_are_checked() -> None:
    """Metadata has a name for each entry."""
    route = route_components_pb2.Route()
    route.match.prefix = "/"
    route.redirect.host_redirect = "a"
    route.metadata.filter_metadata[""].update({"a": 1})

    assert broken(route) == {"metadata.filter_metadata[]": "must not be empty"}


def test_no_duration_may_be_negative_or_endless() -> None:
    """Envoy counts every duration in nanoseconds, upwards from zero."""
    assert duration_fault(duration_pb2.Duration(seconds=-1)) == "must not be negative"
    assert duration_fault(duration_pb2.Duration(nanos=-1)) == "must not be negative"
    assert duration_fault(duration_pb2.Duration(seconds=MAX_DURATION_SECONDS)) == ""
    assert duration_fault(duration_pb2.Duration(seconds=MAX_DURATION_SECONDS + 1)).startswith("must be at most")
