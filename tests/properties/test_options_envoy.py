"""Whatever options say, Envoy takes what we send: random options through the pipeline into a real Envoy.

Values are drawn from what breaks things: empty and huge texts, line breaks, percent signs, brackets, extremes of
numbers. What we refuse is left out by us; what is left must be loaded.
"""

import random
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import json_format, symbol_database

from gloo_nomad.options.hooks import Claims
from gloo_nomad.options.registry import modules
from tests.envoy_validate import validate_snapshot
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, run_pipeline

HOSTS_PER_RUN: Final = 300
TEXTS: Final = (
    "", "a", "x-header", "X-Header", "a b", "a\nb", "\r", "\x7f", "\t", "\u00e9", "\U0001f600",
    ":path", "host", "Host", "*", "/", "/a",
    "/a//b", "/a/../b", "/..", "//", "/%2f", "/%zz", "/#a", "?a=b", "%", "%%", "100%", "%REQ(a)%", "%REQ()%", "%NOPE%",
    "%START_TIME(%s)%", "%PROTOCOL:3%", "(", "(a)", "[a-z]+", "(?=a)", "a{1001}", "(a|b)*c", r"\1", r"\9", "\\",
    "a" * 200, "a" * 20_000, "5xx", "5xx,gateway-error", "retriable-status-codes", "https://example.com", "86400",
    "-1", "1e9", "example.com:80", "%DYNAMIC_METADATA(a:b)%", "%UPSTREAM_METADATA(a)%", "%CEL(a)%", "=", ";", ",",
)  # fmt: skip
PLAIN_TEXTS: Final = ("a", "x-header", "/a", "[a-z]+", "5xx")
"""What is good for most fields, so that one bad value meets good neighbours."""
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
            sign = self.random.choice((1, 1, 1, 1, -1))
            message.seconds = sign * self.random.choice(SECONDS)
            message.nanos = sign * (0 if abs(message.seconds) >= 315_576_000_000 else self.random.choice(NANOS))
        elif name == "google.protobuf.Struct":
            message.update({self.random.choice(TEXTS): self.random.choice(TEXTS)})
        else:
            for field in message.DESCRIPTOR.fields:
                if self.random.random() < 0.85:
                    self._fill_field(message, field, depth + 1)

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
            self._fill(target[self.random.choice(TEXTS)], depth)
        else:
            inner = target.add() if field.is_repeated else target
            inner.SetInParent()
            self._fill(inner, depth)

    def _scalar(self, field: Any) -> Any:
        if field.cpp_type == field.CPPTYPE_STRING:
            return self.random.choice(TEXTS if self.random.random() < 0.15 else PLAIN_TEXTS)
        if field.cpp_type == field.CPPTYPE_BOOL:
            return self.random.random() < 0.7
        if field.cpp_type == field.CPPTYPE_ENUM:
            return self.random.choice((*field.enum_type.values_by_number, 77))
        if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
            return self.random.choice(FLOATS)
        return self.random.choice(NUMBERS)


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


def _objects(seed: int) -> list[dict[str, Any]]:
    """Half of the virtual services have a random option on the route, the others on the virtual host."""
    dice = Dice(seed)
    return [
        {
            "kind": "VirtualService",
            "metadata": {"name": f"host-{number}"},
            "virtualHost": {
                "domains": [f"{number}.example.com"],
                **(
                    {"options": dice.options("VirtualHostOptions")}
                    if number % 2
                    else {"routes": [_route(dice, number // 2)]}
                ),
            },
        }
        for number in range(HOSTS_PER_RUN)
    ]


@pytest.mark.envoy
@pytest.mark.parametrize("seed", range(4))
def test_envoy_takes_whatever_is_left_of_random_options(seed: int, envoy_binary: Path, tmp_path: Path) -> None:
    """Of hundreds of random options some are refused by us, and all the rest is loaded by Envoy."""
    outcome = run_pipeline(fill_frame(_objects(seed)))
    refused = [problem for problem in outcome.problems if problem["severity"] == "error"]
    unexplained = [problem for problem in refused if problem["message"].startswith("Envoy refuses it")]

    assert 50 < len({problem["object"] for problem in refused}) < HOSTS_PER_RUN - 50
    assert unexplained == [], "an option has to refuse it with a reason of its own"
    assert validate_snapshot(outcome.snapshots[ROLE], envoy_binary, tmp_path)[-600:] == ""
