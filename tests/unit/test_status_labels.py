"""Paths into objects for labels of metrics, and what is said of those that cannot be used."""

from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.gen import gateway_pb2, settings_pb2
from gloo_nomad.settings.status_labels import find_value, label_findings, parse_path, status_labels

SERVICE = json_format.ParseDict(
    {
        "metadata": {"name": "shop", "namespace": "ns", "labels": {"team": "red", "example.com/tier": "1"}},
        "virtualHost": {"domains": ["a.test", "b.test"], "routes": [{"matchers": [{"prefix": "/"}]}]},
        "displayName": "Shop",
    },
    gateway_pb2.VirtualService(),
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("{.metadata.name}", "shop"),
        ("$.metadata.namespace", "ns"),
        (".displayName", "Shop"),
        ("{ .metadata.labels.team }", "red"),
        ("{.metadata.labels['example.com/tier']}", "1"),
        ("{.virtualHost.domains[1]}", "b.test"),
        ("{.virtualHost.routes[0].matchers[0].prefix}", "/"),
        ("{.virtualHost.domains[2]}", ""),
        ("{.virtualHost.domains}", ""),
        ("{.metadata.labels.nobody}", ""),
        ("{.metadata.nothing.below}", ""),
        ("{.metadata.name[0]}", ""),
        ("{.metadata.name.length}", ""),
    ],
)
def test_values(path: str, value: str) -> None:
    """What stands at the end of a path; nothing for what is missing, or is no single value."""
    steps = parse_path(path)

    assert steps is not None
    assert find_value(SERVICE, steps) == value


@pytest.mark.parametrize(
    "text", ["", "{}", "metadata", "{.metadata", "{.a..b}", "{.items[*]}", "{.a[-1]}", "{range .a}"]
)
def test_what_is_no_path(text: str) -> None:
    """Wildcards, filters and the rest of the language are not there."""
    assert parse_path(text) is None


def _settings(kind: str, labels: dict[str, Any]) -> settings_pb2.Settings:
    written = {"observabilityOptions": {"configStatusMetricLabels": {kind: {"labelToPath": labels}}}}
    return json_format.ParseDict(written, settings_pb2.Settings())


@pytest.mark.parametrize(
    ("kind", "labels", "told"),
    [
        ("VirtualService", {"a": "{.metadata.name}"}, "is no kind with such a metric"),
        ("Gateway.v1.gateway.solo.io", {"a-b": "{.metadata.name}"}, "is no name of a label in Prometheus"),
        ("Gateway.v1.gateway.solo.io", {"__a": "{.metadata.name}"}, "is no name of a label in Prometheus"),
        ("Gateway.v1.gateway.solo.io", {"a": "{.items[*]}"}, "must be a path like {.metadata.name}"),
        ("Secret.v1.gloo.solo.io", {"a": "{.tls.privateKey}"}, "only what is below metadata may be a label"),
    ],
)
def test_what_cannot_be_used_is_left_out(kind: str, labels: dict[str, str], told: str) -> None:
    """The other labels stay, and a warning names the one at fault; nothing of a Secret gets out."""
    settings = _settings(kind, {**labels, "kept": "{.metadata.name}"})
    (finding,) = label_findings(settings)

    assert told in finding.message
    assert all(list(found) == ["kept"] for found in status_labels(settings).values())
