"""Settings that a hybrid gateway hands down, field by field."""

from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.gen import hcm_pb2, ssl_pb2
from gloo_nomad.gateway.filling import apply_missing

SECRET = {"secretRef": {"name": "p", "namespace": "n"}}
OTHER = {"secretRef": {"name": "c", "namespace": "n"}}

CASES: list[tuple[str, Any, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("unset", ssl_pb2.SslConfig, {"oneWayTls": True}, {}, {"oneWayTls": True}, {"oneWayTls": True}),
    (
        "a wrapper of false is set",
        ssl_pb2.SslConfig,
        {"oneWayTls": True},
        {"oneWayTls": False},
        {"oneWayTls": False},
        {"oneWayTls": True},
    ),
    ("a reference is one value", ssl_pb2.SslConfig, SECRET, OTHER, OTHER, SECRET),
    (
        "a choice is one value",
        ssl_pb2.SslConfig,
        SECRET,
        {"sslFiles": {"tlsCert": "f"}},
        {"sslFiles": {"tlsCert": "f"}},
        SECRET,
    ),
    (
        "lists",
        ssl_pb2.SslConfig,
        {"sniDomains": ["p"]},
        {"sniDomains": ["c"]},
        {"sniDomains": ["c"]},
        {"sniDomains": ["p"]},
    ),
    (
        "messages are filled field by field",
        ssl_pb2.SslConfig,
        {"parameters": {"minimumProtocolVersion": "TLSv1_2", "cipherSuites": ["p"]}},
        {"parameters": {"cipherSuites": ["c"], "ecdhCurves": ["c"]}},
        {"parameters": {"minimumProtocolVersion": "TLSv1_2", "cipherSuites": ["c"], "ecdhCurves": ["c"]}},
        {"parameters": {"minimumProtocolVersion": "TLSv1_2", "cipherSuites": ["p"], "ecdhCurves": ["c"]}},
    ),
    (
        "durations and plain values",
        hcm_pb2.HttpConnectionManagerSettings,
        {"streamIdleTimeout": "9s", "via": "p", "skipXffAppend": True},
        {"streamIdleTimeout": "1s", "via": "c"},
        {"streamIdleTimeout": "1s", "via": "c", "skipXffAppend": True},
        {"streamIdleTimeout": "9s", "via": "p", "skipXffAppend": True},
    ),
    (
        "what the parent leaves unset stays",
        hcm_pb2.HttpConnectionManagerSettings,
        {"tracing": {"verbose": True}},
        {"serverName": "c", "tracing": {"requestHeadersForTags": ["c"]}},
        {"serverName": "c", "tracing": {"requestHeadersForTags": ["c"], "verbose": True}},
        {"serverName": "c", "tracing": {"requestHeadersForTags": ["c"], "verbose": True}},
    ),
]


@pytest.mark.parametrize(
    ("message", "parent", "child", "kept", "overridden"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_child_keeps_what_it_sets_unless_overridden(
    message: Any, parent: dict[str, Any], child: dict[str, Any], kept: dict[str, Any], overridden: dict[str, Any]
) -> None:
    """The parent fills what is unset; with preventChildOverrides it replaces what it sets itself, and no more."""
    above = json_format.ParseDict(parent, message())
    for overrides, expected in ((False, kept), (True, overridden)):
        out = json_format.ParseDict(child, message())
        apply_missing(above, out, overrides=overrides)
        assert out == json_format.ParseDict(expected, message())
    assert above == json_format.ParseDict(parent, message())
