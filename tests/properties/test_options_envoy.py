"""Whatever options say, Envoy takes what we send: random options through the pipeline into a real Envoy.

Values are drawn from what breaks things: empty and huge texts, line breaks, percent signs, brackets, extremes of
numbers. What we refuse is left out by us; what is left must be loaded.
"""

import random
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import json_format, symbol_database, wrappers_pb2

from gloo_nomad.options.hooks import Claims
from gloo_nomad.options.registry import modules
from tests.envoy_validate import validate_snapshot
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, run_pipeline

HOSTS_PER_RUN: Final = 300
GATEWAYS_PER_RUN: Final = 150
TEXTS: Final = (
    "", "a", "x-header", "X-Header", "a b", "a\nb", "\r", "\x7f", "\t", "\u00e9", "\U0001f600",
    ":path", "host", "Host", "*", "/", "/a",
    "/a//b", "/a/../b", "/..", "//", "/%2f", "/%zz", "/#a", "?a=b", "%", "%%", "100%", "%REQ(a)%", "%REQ()%", "%NOPE%",
    "%START_TIME(%s)%", "%PROTOCOL:3%", "(", "(a)", "[a-z]+", "(?=a)", "a{1001}", "(a|b)*c", r"\1", r"\9", "\\",
    "a" * 200, "a" * 20_000, "5xx", "5xx,gateway-error", "retriable-status-codes", "https://example.com", "86400",
    "-1", "1e9", "example.com:80", "%DYNAMIC_METADATA(a:b)%", "%UPSTREAM_METADATA(a)%", "%CEL(a)%", "=", ";", ",",
)  # fmt: skip
_SERVER: Final = {"name": "x-header", "namespace": "x-header"}
SETTINGS: Final = {"extauth": {"extauthzServerRef": _SERVER}, "ratelimitServer": {"ratelimitServerRef": _SERVER}}
"""Servers for what wants to ask some."""
ON_ENVOYS_DISK: Final = frozenset({"proto_descriptor"})
"""Files that only Envoy can look into."""
FORMATS: Final = tuple(text for text in TEXTS if "%" in text or not text.isprintable())
PLAIN: Final = {
    "allow_origin_regex": "[a-z]+",
    "base_interval": 1,
    "http_status": 503,
    "max_age": "60",
    "max_interval": 5,
    "path": "/a",
    "percentage": 50,
    "file_path": "/a",
    "prefix_rewrite": "/a",
    "regex": "[a-z]+",
    "request_attributes": "request.path",
    "response_attributes": "response.code",
    "retriable_status_codes": 503,
    "retry_on": "5xx",
}
"""What is good for a field, where ``x-header`` and 1 are not: one bad value has to meet good neighbours."""
BADNESS: Final = 0.12
NUMBERS: Final = (0, 1, 2, 50, 99, 100, 200, 404, 503, 599, 600, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS: Final = (0.0, 0.5, 1.0, 50.0, 99.999, 100.0, 100.1, -1.0, 1e-9, float("nan"), float("inf"))
SECONDS: Final = (0, 0, 1, 5, 3600, 10**9, 9_223_372_035, 9_223_372_036, 315_576_000_000)
NANOS: Final = (0, 0, 1, 500_000, 500_000_000, 999_999_999)


def options_of(message: str) -> list[str]:
    """The fields of a message of options that some option makes work."""
    tables: list[Claims] = [getattr(module, "FIELDS", {}) for module in modules("gloo_nomad.options")]
    return sorted({name for table in tables for name in table.get(message, ())})


class Dice:
    """Random messages of the contract, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def options(self, kind: str) -> dict[str, Any]:
        """One or two options of ``RouteOptions``, ``VirtualHostOptions`` or ``WeightedDestinationOptions``."""
        message = symbol_database.Default().GetSymbol(f"gloo.solo.io.{kind}")()
        for name in self.random.sample(options_of(f"gloo.solo.io.{kind}"), k=1):
            self._fill_field(message, message.DESCRIPTOR.fields_by_name[name], 0)
        document: dict[str, Any] = json_format.MessageToDict(message)
        return document

    def _fill(self, message: Any, depth: int) -> None:
        name = message.DESCRIPTOR.full_name
        if name == "google.protobuf.Duration":
            self._fill_duration(message)
        elif name == "google.protobuf.Struct":
            message.update({self.random.choice(TEXTS): self.random.choice(TEXTS)})
        elif name == "google.protobuf.Any":
            message.Pack(wrappers_pb2.StringValue(value=self.random.choice(TEXTS)))
        else:
            for field in self._fields(message.DESCRIPTOR):
                self._fill_field(message, field, depth + 1)

    def _fields(self, descriptor: Any) -> list[Any]:
        """Most fields, and of each oneof a single one."""
        chosen = {oneof.name: self.random.choice(oneof.fields) for oneof in descriptor.oneofs}
        alone = [field for field in descriptor.fields if field.containing_oneof is None]
        chosen = {name: field for name, field in chosen.items() if field.name not in ON_ENVOYS_DISK}
        return [field for field in (*alone, *chosen.values()) if self.random.random() < 0.92]

    def _fill_duration(self, message: Any) -> None:
        if self.random.random() > BADNESS:
            message.seconds = 1
            return
        sign = self.random.choice((1, 1, -1))
        message.seconds = sign * self.random.choice(SECONDS)
        message.nanos = sign * (0 if abs(message.seconds) >= 315_576_000_000 else self.random.choice(NANOS))

    def _fill_field(self, message: Any, field: Any, depth: int) -> None:
        count = self.random.choice((1, 1, 1, 2)) if field.is_repeated else 1
        for _ in range(count):
            self._add(message, field, depth)

    def _add(self, message: Any, field: Any, depth: int) -> None:
        target = getattr(message, field.name)
        if field.message_type is None:
            value = self._scalar(field)
            if field.is_repeated:
                target.append(value)
            else:
                setattr(message, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            self._fill_entry(target, field.message_type.fields_by_name["value"], depth)
        else:
            inner = target.add() if field.is_repeated else target
            inner.SetInParent()
            self._fill(inner, depth)

    def _fill_entry(self, target: Any, value: Any, depth: int) -> None:
        key = self.random.choice(TEXTS)
        if value.message_type is None:
            target[key] = self._scalar(value)
        else:
            self._fill(target[key], depth)

    def _scalar(self, field: Any) -> Any:
        bad = self.random.random() < BADNESS
        if field.type == field.TYPE_BYTES:
            return self.random.randbytes(3)
        if field.cpp_type == field.CPPTYPE_STRING:
            return (
                self.random.choice(FORMATS if field.name == "value" else TEXTS)
                if bad
                else PLAIN.get(field.name, "x-header")
            )
        if field.cpp_type == field.CPPTYPE_BOOL:
            return self.random.random() < 0.7
        if field.cpp_type == field.CPPTYPE_ENUM:
            return 77 if bad else self.random.choice([*field.enum_type.values_by_number])
        if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
            return self.random.choice(FLOATS) if bad else 50.0
        return self.random.choice(NUMBERS) if bad else PLAIN.get(field.name, 1)


def _route(dice: Dice, number: int) -> dict[str, Any]:
    route: dict[str, Any] = {"options": dice.options("RouteOptions")}
    if number % 10 == 0:
        route["directResponseAction"] = {"status": 200}
    elif number % 10 == 1:
        route["redirectAction"] = {"hostRedirect": "example.com"}
    elif number % 10 == 2:
        destination = {"upstream": {"name": "echo", "namespace": "gloo-system"}}
        weighted = {"weight": 1, "destination": destination, "options": dice.options("WeightedDestinationOptions")}
        route["routeAction"] = {"multi": {"destinations": [weighted]}}
    return route


def _host(dice: Dice, number: int) -> dict[str, Any]:
    options = {"options": dice.options("VirtualHostOptions")} if number % 2 else {"routes": [_route(dice, number // 2)]}
    host = {"domains": [f"{number}.example.com"], **options}
    return {"kind": "VirtualService", "metadata": {"name": f"host-{number}"}, "virtualHost": host}


def _gateway(dice: Dice, number: int) -> dict[str, Any]:
    address = {"bindAddress": "127.0.0.1", "bindPort": 20_000 + number}
    options = dice.options("HttpListenerOptions")
    return {"kind": "Gateway", "metadata": {"name": f"g{number}"}, **address, "httpGateway": {"options": options}}


def _objects(seed: int) -> list[dict[str, Any]]:
    """Half of the virtual services have a random option on the route, the others on the virtual host."""
    dice = Dice(seed)
    secret = {"kind": "Secret", "metadata": {"name": "x-header", "namespace": "x-header"}}
    return [
        {**secret, "header": {"headers": {"x-secret": "100%"}}},
        {"kind": "Upstream", "metadata": {"name": "x-header", "namespace": "x-header"}},
        *(_host(dice, number) for number in range(HOSTS_PER_RUN)),
    ]


@pytest.mark.envoy
@pytest.mark.parametrize("seed", range(4))
def test_envoy_takes_whatever_is_left_of_random_options(seed: int, envoy_binary: Path, tmp_path: Path) -> None:
    """Of hundreds of random options some are refused by us, and all the rest is loaded by Envoy."""
    outcome = run_pipeline(fill_frame(_objects(seed)), SETTINGS)
    refused = [problem for problem in outcome.problems if problem["severity"] == "error"]
    unexplained = [problem for problem in refused if problem["message"].startswith("Envoy refuses it")]

    assert 30 < len({problem["object"] for problem in refused}) < HOSTS_PER_RUN - 50
    assert unexplained == [], "an option has to refuse it with a reason of its own"
    assert validate_snapshot(outcome.snapshots[ROLE], envoy_binary, tmp_path)[-600:] == ""


@pytest.mark.envoy
@pytest.mark.parametrize("seed", range(2))
def test_envoy_takes_whatever_is_left_of_random_gateways(seed: int, envoy_binary: Path, tmp_path: Path) -> None:
    """The same for options of gateways: those that Envoy would refuse have no listener."""
    dice = Dice(seed)
    upstream = {"kind": "Upstream", "metadata": {"name": "x-header", "namespace": "x-header"}}
    checked = {"kind": "VirtualService", "virtualHost": {"options": {"extauth": {"customAuth": {}}}}}
    gateways = [_gateway(dice, number) for number in range(GATEWAYS_PER_RUN)]
    outcome = run_pipeline(fill_frame([upstream, checked, *gateways]), SETTINGS)
    refused = {problem["object"] for problem in outcome.problems if problem["severity"] == "error"}

    assert 10 < len(refused) < GATEWAYS_PER_RUN - 10
    assert validate_snapshot(outcome.snapshots[ROLE], envoy_binary, tmp_path)[-600:] == ""
