"""Health checks by extensions of Envoy: Redis and Thrift are what stock Envoy has.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/health_checker/health_checker
"""

from typing import Any, Final

from envoy.extensions.health_checkers.redis.v3 import redis_pb2
from envoy.extensions.health_checkers.thrift.v3 import thrift_pb2
from google.protobuf import json_format

from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.acceptance.rules import broken_rules
from gloo_nomad.api.gen import envoy_health_check_pb2
from gloo_nomad.messages import type_url, typed_config
from gloo_nomad.reports import Finding, error

CHECKERS: Final[dict[str, Any]] = {
    "envoy.health_checkers.redis": redis_pb2.Redis,
    "envoy.health_checkers.thrift": thrift_pb2.Thrift,
}
"""What each extension is configured with, by its name."""

_PATH: Final = "customHealthCheck"


def apply_custom(
    custom: envoy_health_check_pb2.HealthCheck.CustomHealthCheck, out: Any, findings: list[Finding]
) -> None:
    """Name and configuration onto Envoy's CustomHealthCheck; *findings* grows by what is wrong with them."""
    shape = CHECKERS.get(custom.name)
    if shape is None:
        known = " and ".join(sorted(CHECKERS))
        findings.append(error(f"{_PATH}.name", f"{quote(custom.name)} is not in Envoy, which has {known}"))
        return
    config, fault = _parse_config(custom, shape)
    breaches = [f"{breach.path} {breach.reason}" for breach in broken_rules(config)] if config is not None else [fault]
    kind = custom.WhichOneof("config_type")
    written = custom.DESCRIPTOR.fields_by_name[kind].camelcase_name if kind else "typedConfig"
    findings += [error(f"{_PATH}.{written}", breach) for breach in breaches]
    if config is not None:
        out.name = custom.name
        out.typed_config.CopyFrom(typed_config(config))


def _parse_config(custom: envoy_health_check_pb2.HealthCheck.CustomHealthCheck, shape: Any) -> tuple[Any | None, str]:
    """The configuration, or why there is none; an old-style Struct has the same fields."""
    config = shape()
    match custom.WhichOneof("config_type"):
        case "config":
            try:
                json_format.ParseDict(json_format.MessageToDict(custom.config), config)
            except json_format.ParseError as failure:
                return None, f"is no configuration of {custom.name}: {' '.join(str(failure).split())[:200]}"
        case "typed_config":
            if custom.typed_config.type_url.rpartition("/")[2] != shape.DESCRIPTOR.full_name:
                return None, f"must have the type {type_url(shape)}"
            config.ParseFromString(custom.typed_config.value)
    return config, ""
