"""How long questions to Consul wait, and how often names are looked up: what the settings say of it."""

from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.consul_settings import blocking_wait, dns_interval
from gloo_nomad.settings import RuntimeSettings


def settings(document: dict[str, Any]) -> RuntimeSettings:
    """Settings with nothing else."""
    return RuntimeSettings(json_format.ParseDict(document, settings_pb2.Settings()), Ref("gloo-system", "default"), {})


@pytest.mark.parametrize(
    ("document", "seconds"),
    [
        ({}, 60),
        ({"refreshRate": "20s"}, 20),
        ({"refreshRate": "20s", "consul": {"waitTime": "7s"}}, 7),
        ({"consul": {"waitTime": "0s"}}, 60),
        ({"consul": {"waitTime": "0.010s"}}, 1),
        ({"consul": {"waitTime": "3600s"}}, 600),
    ],
)
def test_blocking_wait(document: dict[str, Any], seconds: float) -> None:
    """``waitTime``, else ``refreshRate``, else a minute; within what Consul takes."""
    assert blocking_wait(settings(document)) == seconds


@pytest.mark.parametrize(
    ("document", "seconds"),
    [({}, 5), ({"consul": {"dnsPollingInterval": "30s"}}, 30), ({"consul": {"dnsPollingInterval": "0.001s"}}, 0.1)],
)
def test_dns_interval(document: dict[str, Any], seconds: float) -> None:
    """``dnsPollingInterval``, else five seconds; never without a pause."""
    assert dns_interval(settings(document)) == seconds
