"""What is meant to hurt costs little: each kind of bomb with a bound on its time and on its memory."""

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Final

import pytest

from gloo_nomad.acceptance.regexes import regex_fault
from gloo_nomad.api import codec
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.discovery.openapi_lookup import read_functions
from tests.fuzz.world import translate

CPU_SECONDS: Final = 4.0
"""Of this process, not of the clock; the slowest takes about a fourth of it."""
MEMORY_MIB: Final = 160
HEAD: Final = b"metadata: {name: default, namespace: gloo-system}\n"
WIDE: Final = 11
KIND: Final = KINDS["VirtualService"]


def decode(text: bytes) -> None:
    """A value of Consul KV."""
    assert codec.decode(KIND, text, Ref("gloo-system", "default")).message is None


def aliases(levels: int, width: int) -> bytes:
    """A document whose aliases multiply."""
    lines = [f"a0: &a0 [{','.join('x' * width)}]"]
    lines += [f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * width)}]" for level in range(1, levels)]
    return HEAD + "\n".join(lines).encode()


def delegation(tables: int, width: int) -> None:
    """Route tables of which each delegates so many times to the next: *width* to the power of *tables* routes."""
    to = "delegateAction: {{ref: {{name: {}, namespace: gloo-system}}}}"
    found = [("VirtualService", "vs", "virtualHost:\n  routes:\n  - matchers: [{prefix: /}]\n    " + to.format("t0"))]
    for number in range(tables):
        text = "routes:\n" + f"- {to.format(f't{number + 1}')}\n" * width
        found.append(("RouteTable", f"t{number}", text))
    assert translate(
        [*found, ("RouteTable", f"t{tables}", "routes:\n- directResponseAction: {status: 200}\n")]
    ).problems


def regex(pattern: str) -> None:
    """An expression that is refused or taken at once."""
    regex_fault.cache_clear()
    regex_fault(pattern)


def openapi(document: object) -> None:
    """A document of a service."""
    read_functions(json.dumps(document).encode())


def circle() -> object:
    """Schemas that are made of each other."""
    every = [{"$ref": f"#/definitions/d{number}"} for number in range(200)]
    return {
        "openapi": "3.1.0",
        "paths": {
            f"/p{number}": {"post": {"requestBody": {"content": {"application/json": {"schema": {"allOf": every}}}}}}
            for number in range(200)
        },
        "definitions": {f"d{number}": {"allOf": every} for number in range(200)},
    }


BOMBS: Final[dict[str, Callable[[], None]]] = {
    "aliases that multiply": lambda: decode(aliases(40, 9)),
    "aliases that double": lambda: decode(aliases(63, 2)),
    "many anchors": lambda: decode(HEAD + b"".join(b"k%d: &a%d {a: 1}\n" % (n, n) for n in range(20_000))),
    "merge keys": lambda: decode(HEAD + b"a: &a {x: 1}\n" + b"b: {<<: [" + b"*a," * 50_000 + b"*a]}\n"),
    "deep brackets": lambda: decode(b"[" * 500_000),
    "deep braces of JSON": lambda: decode(b'{"a":' * 100_000),
    "deep indentation": lambda: decode(b"".join(b" " * n + b"a:\n" for n in range(1_000))),
    "deep dashes": lambda: decode(b"- " * 250_000),
    "as large as may be": lambda: decode(b"a: " + b"x" * (512 * 1024 - 3)),
    "larger than may be": lambda: decode(b"a: " + b"x" * (8 * 1024 * 1024)),
    "many keys": lambda: decode(b"".join(b"k%d: 1\n" % n for n in range(45_000))),
    "one key many times": lambda: decode(b'{"a":1,' + b'"a":1,' * 80_000 + b'"b":1}'),
    "many documents": lambda: decode(b"--- {}\n" * 70_000),
    "a number of many digits": lambda: decode(b"a: " + b"9" * 500_000),
    "a number of many digits in JSON": lambda: decode(b'{"a": ' + b"9" * 500_000 + b"}"),
    "an exponent": lambda: decode(HEAD + b"virtualHost: {domains: 1e999999999}\n"),
    "sexagesimal numbers": lambda: decode(b"a: 1" + b":59" * 100_000),
    "tags": lambda: decode(HEAD + b"a: !!python/object/apply:os.system [x]\n"),
    "escapes": lambda: decode(b'a: "' + b"\\U0001F600" * 50_000 + b'"'),
    "surrogates": lambda: decode(b'{"a": "' + b"\\ud800" * 80_000 + b'"}'),
    "marks on one letter": lambda: decode(b"a: e" + "\u0301".encode() * 250_000),
    "right to left": lambda: decode("a: \u202e".encode() * 60_000),
    "bytes that are no text": lambda: decode(b"\xff\xfe" * 250_000),
    "nulls": lambda: decode(b"\x00" * 500_000),
    "a long folded text": lambda: decode(b"a: >\n" + b" x\n\n" * 120_000),
    "a long comment": lambda: decode(b"#" * 500_000),
    "repetitions of repetitions": lambda: regex("((((a{1,100}){1,100}){1,100}){1,100})"),
    "a long alternative": lambda: regex("|".join(f"word{n}" for n in range(50_000))),
    "nested groups": lambda: regex("(" * 100_000 + ")" * 100_000),
    "backtracking": lambda: regex("(a*)*b" * 500),
    "classes of Unicode": lambda: regex(r"[\p{L}\p{N}\p{P}]" * 5_000),
    "delegation that multiplies": lambda: delegation(12, 8),
    "schemas in a circle": lambda: openapi(circle()),
    "a deep document of a service": lambda: openapi(json.loads("[" * 900 + "]" * 900)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_time_is_bounded(name: str) -> None:
    """CPU seconds, so that a busy machine does not count."""
    began = time.process_time()
    BOMBS[name]()
    assert time.process_time() - began < CPU_SECONDS


@pytest.mark.parametrize("name", BOMBS)
def test_memory_is_bounded(name: str) -> None:
    """The most that Python held at a time, the bomb itself included."""
    tracemalloc.start(1)
    try:
        BOMBS[name]()
        most = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert most < MEMORY_MIB
