"""Functions in OpenAPI documents, and documents that mean harm."""

import json
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from gloo_nomad.discovery.documents import MAX_BYTES, NoDocumentError, parse_document
from gloo_nomad.discovery.openapi_lookup import read_functions
from gloo_nomad.discovery.rest_functions import MAX_FUNCTIONS, MAX_TEXT, FoundFunctions, translate_document

V2 = {"swagger": "2.0"}
V30 = {"openapi": "3.0.3"}
V31 = {"openapi": "3.1.0"}
PET = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "extra": {"type": "object"},
        "home": {"properties": {"city": {"type": "string"}}},
    },
}
PET_BODY = (
    '{"name": "{{ default(name, "") }}","age": {{ default(age, "null") }},"tags": {{ default(tags, "[]") }},'
    '"extra": {{ default(extra, "{}") }},"home": {"city": "{{ default(home.city, "") }}"}}'
)


def found(document: dict[str, Any]) -> FoundFunctions:
    """What is found in a document as a service sends it."""
    functions = read_functions(json.dumps(document).encode())
    assert isinstance(functions, FoundFunctions), functions
    return functions


def functions(document: dict[str, Any]) -> dict[str, Any]:
    """The functions of a document: their headers, with the body beside them."""
    return {name: shown(template) for name, template in found(document).functions.items()}


def shown(template: Any) -> dict[str, Any]:
    """A template in short: headers, and "body" (None: the body passes through)."""
    headers = {name: value.text for name, value in template.headers.items()}
    return {**headers, "body": template.body.text if template.HasField("body") else None}


def one(document: dict[str, Any]) -> dict[str, Any]:
    """The only function of a document."""
    (function,) = functions(document).values()
    found: dict[str, Any] = function
    return found


def get(path: str, **operation: Any) -> dict[str, Any]:
    """A document of OpenAPI 2 with one GET."""
    return {**V2, "paths": {path: {"get": operation}}}


def post(schema: Any, **more: Any) -> dict[str, Any]:
    """A document of OpenAPI 3 with one POST whose body has that schema."""
    content = {"application/json": {"schema": schema}}
    return {**V30, "paths": {"/pets": {"post": {"requestBody": {"content": content}}}}, **more}


def test_get() -> None:
    """GET and HEAD have no body, and say so; path and query become templates."""
    parameters = [{"name": "id", "in": "path"}, {"name": "full", "in": "query"}, {"name": "x", "in": "query"}]
    document = {**V2, "paths": {"/pets/{id}": {"get": {}, "head": {}, "parameters": parameters}}}
    path = '/pets/{{ default(id, "") }}?full={{default(full, "")}}&x={{default(x, "")}}'

    assert functions(document) == {
        "get.pets.{id}": {":method": "GET", ":path": path, "content-length": "0", "body": ""},
        "head.pets.{id}": {":method": "HEAD", ":path": path, "content-length": "0", "body": ""},
    }


def test_names() -> None:
    """The operation's id, or method and path with dots; a name that is taken or strange is not used."""
    paths = {
        "/a": {"get": {"operationId": "getA"}, "delete": {"operationId": "getA"}},
        "/b/c": {"options": {}, "patch": {"operationId": "with space"}, "put": {"operationId": 3}, "trace": {}},
    }

    assert [*functions({**V2, "paths": paths})] == ["getA", "delete.a", "put.b.c", "options.b.c", "patch.b.c"]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({**get("/x"), "basePath": "/v1/"}, "/v1/x"),
        ({**get("/x"), "basePath": "nowhere"}, "/x"),
        ({**get("/x"), **V30, "swagger": "3"}, "/x"),
        ({**V30, "paths": {"/x": {"get": {}}}, "servers": [{"url": "https://elsewhere.test/v2"}]}, "/v2/x"),
        ({**V30, "paths": {"/x": {"get": {}}}, "servers": [{"url": "/v2"}, {"url": "/v3"}]}, "/v2/x"),
        (
            {
                **V31,
                "paths": {"/x": {"get": {}}},
                "servers": [{"url": "https://h.test/{stage}/v2", "variables": {"stage": {"default": "beta"}}}],
            },
            "/beta/v2/x",
        ),
        ({**V31, "paths": {"/x": {"get": {}}}, "servers": [{"url": "https://[broken"}, 3]}, "/x"),
        ({**V31, "paths": {"/x": {"get": {}}}, "servers": "none"}, "/x"),
    ],
)
def test_base_paths(document: dict[str, Any], path: str) -> None:
    """``basePath`` and the first server's path come first; the hosts that a document names mean nothing."""
    assert one(document)[":path"] == path


def test_body_of_openapi_2() -> None:
    """A body parameter is JSON with a template of its schema, through references."""
    parameter = {"in": "body", "name": "pet", "schema": {"$ref": "#/definitions/Pet"}}
    document = {**V2, "paths": {"/pets": {"post": {"parameters": [parameter]}}}, "definitions": {"Pet": PET}}

    assert one(document) == {
        ":method": "POST",
        ":path": "/pets",
        "content-type": "application/json",
        "body": PET_BODY,
    }


@pytest.mark.parametrize("version", [V30, V31])
@pytest.mark.parametrize(
    "media_type", ["application/json", "application/vnd.pet+json", "application/json; charset=utf-8"]
)
def test_body_of_openapi_3(version: dict[str, str], media_type: str) -> None:
    """A request body of any kind of JSON is the same, where it stands and where it is referred to."""
    body = {"content": {"text/plain": {"schema": {"type": "string"}}, media_type: {"schema": {"$ref": "#/x/s/Pet"}}}}
    operation = {"requestBody": {"$ref": "#/x/bodies/a~1b"}}
    document = {**version, "paths": {"/pets": {"put": operation}}, "x": {"s": {"Pet": PET}, "bodies": {"a/b": body}}}

    assert one(document)["body"] == PET_BODY
    assert one(document)["content-type"] == "application/json"


def test_types_of_openapi_31() -> None:
    """A type may be a list there, with null in it."""
    schema = {"properties": {"a": {"type": ["null", "string"]}, "b": {"type": ["integer", "null"]}, "c": True}}

    assert one(post(schema))["body"] == (
        '{"a": "{{ default(a, "") }}","b": {{ default(b, "null") }},"c": {{ default(c, "null") }}}'
    )


def test_all_of() -> None:
    """A schema made of others has the properties of all."""
    schema = {"allOf": [{"$ref": "#/x"}, {"properties": {"b": {}}}], "properties": {"c": {}}}
    body = one(post(schema, x={"properties": {"a": {}}}))["body"]

    assert all(f'"{name}": ' in body for name in "abc")


@pytest.mark.parametrize(
    "schema", [{"type": "string"}, {"type": "array"}, {"oneOf": [PET]}, True, None, {"$ref": "#/nowhere"}]
)
def test_a_body_of_which_nothing_is_known(schema: Any) -> None:
    """It passes through as it came."""
    assert one(post(schema)) == {":method": "POST", ":path": "/pets", "body": None}


def test_shared_parameters() -> None:
    """Parameters of a path are those of its operations, unless an operation has its own."""
    shared = [{"name": "a", "in": "query"}, {"name": "a", "in": "path"}, {"$ref": "#/parameters/B"}]
    document = {
        **V2,
        "paths": {"/x": {"parameters": shared, "get": {"parameters": [{"name": "c", "in": "query"}, 7, None]}}},
        "parameters": {"B": {"name": "b", "in": "query"}},
    }

    assert one(document)[":path"] == '/x?a={{default(a, "")}}&b={{default(b, "")}}&c={{default(c, "")}}'


def test_yaml_is_the_same() -> None:
    """A document in YAML leads to the same functions; a version without quotes is a number there."""
    document = {**post(PET), "paths": {**post(PET)["paths"], "/on": {"get": {"operationId": "on"}}}}
    written = yaml.safe_dump({**document, "openapi": 3.0}, sort_keys=False)

    assert {name: shown(item) for name, item in read(written.encode()).functions.items()} == functions(document)


def read(body: bytes) -> FoundFunctions:
    """The functions in a text that is a document."""
    functions = read_functions(body)
    assert isinstance(functions, FoundFunctions), functions
    return functions


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"<html>swagger</html>",
        b'{"swagger": "2.0"}',
        b'{"swagger": "2.0", "paths": []}',
        b'{"swagger": "1.2", "paths": {}}',
        b'{"openapi": "4.0", "paths": {}}',
        b'{"openapi": {}, "paths": {}}',
        b'{"info": "openapi", "paths": {}}',
        b'{"swagger": "2.0", "paths": {}} trailing',
        b'{"swagger": "\xff", "paths": {}}',
        b"swagger: [\n",
        b"swagger: &a 2\nx: !!python/object/apply:os.system [echo]\npaths: {}\n",
        b'{"swagger": "2.0", "paths": ' + b'{"a":' * 100_000,
        b'{"swagger": "2.0", "paths": {}, "n": ' + b"9" * 10_000 + b"e",
        b"openapi: 3\npaths: " + b"[" * 10_000,
        b"openapi: 3\na: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (c, c, *[c - 1] * 9) for c in b"bcdefghij")
        + b"paths: {}\n",
        b'{"swagger": "2.0", "paths": {}}' + b" " * MAX_BYTES,
    ],
    ids=range(20),
)
def test_what_is_no_document(body: bytes) -> None:
    """It is said why, in a line, and nothing else happens."""
    with pytest.raises(NoDocumentError) as caught:
        parse_document(body)
    assert len(str(caught.value)) < 300
    assert isinstance(read_functions(body), str)


@pytest.mark.parametrize(
    "path",
    [
        '/{{ env("HOME") }}',
        "/{% include x %}",
        "/{# remark #}",
        "/a#b",
        "/a b",
        "/a\r\nhost: evil",
        "/{a b}",
        '/{x, "") }} {{ env("HOME"}',
        "/ünïcode",
        '/"quote"',
        "/{}",
        "/{" + "x" * 200 + "}",
        "/" + "x" * 300,
    ],
)
def test_paths_that_would_be_templates(path: str) -> None:
    """An operation whose path could mean something to the template language is left out, and named."""
    result = found({**V2, "paths": {path: {"get": {"operationId": "bad"}}, "/good": {"get": {}}}})

    assert [*result.functions] == ["get.good"]
    assert len(result.left_out) == 1


@pytest.mark.parametrize("name", ['x") }}{{ env("HOME', "a b", "", "ü", "1", 'a"', "a.b", "a{{b}}"])
def test_names_that_would_be_templates(name: str) -> None:
    """A parameter or property whose name could mean something to the template language is left out."""
    query = get("/x", parameters=[{"name": name, "in": "query"}, {"name": "ok", "in": "query"}])
    body = post({"properties": {name: {"type": "string"}, "ok": {"type": "string"}}})

    assert one(query)[":path"] == '/x?ok={{default(ok, "")}}'
    assert one(body)["body"] == '{"ok": "{{ default(ok, "") }}"}'


@pytest.mark.parametrize(
    "reference",
    [
        "#/x/a",
        "file:///etc/passwd",
        "http://127.0.0.1/x.json",
        "other.json#/x",
        "#",
        "",
        7,
        "#/x/nowhere",
        "#/paths/~1x",
    ],
)
def test_references_lead_nowhere_else(reference: Any) -> None:
    """A reference in a circle, to a file or to a server is nothing: nothing is opened, and the function stays."""
    document = post({"$ref": reference}, x={"a": {"$ref": "#/x/b"}, "b": {"$ref": "#/x/a"}})

    assert one(document)["body"] is None


def test_a_schema_that_holds_itself() -> None:
    """It is written once, and below that as a whole."""
    node = {"properties": {"value": {"type": "string"}, "next": {"$ref": "#/x/Node"}}}

    assert one(post({"$ref": "#/x/Node"}, x={"Node": node}))["body"] == (
        '{"value": "{{ default(value, "") }}","next": {{ default(next, "null") }}}'
    )


def test_a_bomb_of_references() -> None:
    """Ten schemas, each ten times in the one above it, stay small."""
    schemas = {
        f"S{level}": {"properties": {f"p{number}": {"$ref": f"#/x/S{level + 1}"} for number in range(10)}}
        for level in range(10)
    }

    assert len(one(post({"$ref": "#/x/S0"}, x=schemas))["body"]) < 50_000


def test_too_many_operations() -> None:
    """The first thousand are kept, and that there were more is said."""
    result = found({**V2, "paths": {f"/p{number}": {"get": {}} for number in range(MAX_FUNCTIONS + 5)}})

    assert len(result.functions) == MAX_FUNCTIONS
    assert result.left_out == ("all after 1000: there are too many",)


def test_too_large_together() -> None:
    """All templates together stay below what an Upstream in Consul can hold."""
    parameters = [{"name": f"parameter-{number}-{'x' * 60}", "in": "query"} for number in range(200)]
    result = found({**V2, "paths": {f"/{number}": {"get": {"parameters": parameters}} for number in range(50)}})
    size = sum(template.ByteSize() for template in result.functions.values())

    assert 0 < size <= MAX_TEXT
    assert result.left_out


def test_every_template_can_be_stored() -> None:
    """What comes out is a value of the contract, in its JSON form and back."""
    for template in translate_document(parse_document(json.dumps(post(PET)).encode())).functions.values():
        written = json_format.MessageToDict(template)
        assert json_format.ParseDict(written, type(template)()) == template
