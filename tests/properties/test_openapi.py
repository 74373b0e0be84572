"""Whatever a service sends as its OpenAPI document, discovery survives it and writes no template but its own."""

import json
import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gloo_nomad.discovery.openapi_lookup import read_functions
from gloo_nomad.discovery.rest_functions import MAX_TEXT, FoundFunctions

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEMPLATE = re.compile(r'\{\{ ?default\([A-Za-z_][A-Za-z0-9_.-]*, "(?:|null|\[\]|\{\})"\) ?\}\}')
"""What discovery writes; everything else has to be plain text."""
OPENINGS = re.compile(r"\{\{|\{%|\{#|\n|\r|##")
"""What begins something in the template language, or another line."""
WORDS = (
    *("paths", "get", "post", "head", "parameters", "requestBody", "content", "application/json", "schema"),
    *("properties", "allOf", "type", "string", "object", "name", "in", "query", "path", "body", "$ref", "basePath"),
    *("servers", "url", "variables", "default", "operationId", "swagger", "openapi", "2.0", "3.1.0", "definitions"),
    *("#/paths", "#/definitions/a", "#/definitions/b", "#/definitions", "a", "b", "/a", "/a/{b}", "/{{a}}", "{% x %}"),
)
TEXTS = st.sampled_from(WORDS) | st.text(max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=6), max_leaves=30
)
PARAMETER = st.fixed_dictionaries(
    {"name": TEXTS, "in": st.sampled_from(("query", "path", "body", "header"))}, optional={"schema": VALUES}
)
OPERATION = st.fixed_dictionaries(
    {},
    optional={
        "operationId": SCALARS,
        "parameters": VALUES | st.lists(PARAMETER, max_size=4),
        "requestBody": VALUES | st.fixed_dictionaries({"content": st.dictionaries(TEXTS, VALUES, max_size=3)}),
    },
)
ITEM = VALUES | st.dictionaries(st.sampled_from(("get", "post", "head", "put", "parameters")), OPERATION, max_size=3)
PATHS = st.dictionaries(TEXTS | TEXTS.map("/{}".format), ITEM, max_size=4)
DOCUMENTS = st.fixed_dictionaries(
    {"paths": VALUES | PATHS, "definitions": VALUES},
    optional={"swagger": SCALARS | st.just("2.0"), "openapi": SCALARS | st.just("3.1.0"), "servers": VALUES},
)


def check(body: bytes) -> None:
    """The answer is a sentence, or templates that hold nothing of the document but names and plain paths."""
    found = read_functions(body)
    if isinstance(found, str):
        assert 0 < len(found) < 400
        return
    assert isinstance(found, FoundFunctions)
    assert sum(template.ByteSize() for template in found.functions.values()) <= MAX_TEXT
    for name, template in found.functions.items():
        assert re.fullmatch(r"[!-~]{1,200}", name)
        for text in (*(value.text for value in template.headers.values()), template.body.text):
            assert not OPENINGS.search(TEMPLATE.sub("", text)), text


@QUICK
@given(DOCUMENTS)
def test_documents(document: dict[str, Any]) -> None:
    """Documents with anything anywhere."""
    check(json.dumps(document).encode())


@QUICK
@given(DOCUMENTS, st.data())
def test_damaged_documents(document: dict[str, Any], data: st.DataObject) -> None:
    """Documents that lost something, or have other bytes, on their way."""
    body = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position] = data.draw(st.integers(0, 255))
    check(bytes(body[: data.draw(st.integers(1, len(body)))]))


@QUICK
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(body: bytes) -> None:
    """No document at all, behind the words that let it be read."""
    check(b"swagger: '2.0'\npaths: {}\n" + body)
