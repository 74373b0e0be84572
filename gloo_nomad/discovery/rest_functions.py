"""The functions in an OpenAPI document, as ``serviceSpec.rest.transformations`` has them; pure.

A function is an operation: it sets ``:method``, ``:path`` with its path and query parameters as ``default(name, "")``,
and for a body in JSON the content type and a template of it. GET and HEAD have no body. It is named by the operation's
id, or by method and path with a dot for each slash. OpenAPI 2: https://spec.openapis.org/oas/v2.0, 3: /oas/v3.1.1.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

from gloo_nomad.api.gen import envoy_transformation_pb2
from gloo_nomad.discovery.bodies import NAME, BodyBuilder
from gloo_nomad.discovery.documents import mappings, resolve, version_of

MAX_FUNCTIONS: Final = 1000
MAX_TEXT: Final = 200 * 1024
"""Characters of all templates together: the Upstream has to fit into a value of Consul KV, 512 KiB."""
MAX_PARAMETERS: Final = 100
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
_BODILESS: Final = frozenset({"get", "head"})
_LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
"""What may stand in a path as it is: nothing that the template language, or a request line, would take for its own."""
_PART: Final = re.compile(r"\{([^{}]*)\}")
_FUNCTION_NAME: Final = re.compile(r"[!-~]{1,200}")
_JSON: Final = re.compile(r"application/(?:[a-z0-9.-]+\+)?json(?: *;.*)?", re.IGNORECASE)

Template = envoy_transformation_pb2.TransformationTemplate


@dataclass(frozen=True, slots=True)
class FoundFunctions:
    """The functions of a document by name, and in a few words what of it is left out."""

    functions: Mapping[str, Template]
    left_out: tuple[str, ...] = ()


def translate_document(document: Mapping[str, Any]) -> FoundFunctions:
    """Every operation that can be written as a template, in the order of the document and within the bounds."""
    base = _base_path(document)
    functions: dict[str, Template] = {}
    left_out: list[str] = []
    size = 0
    for path, method, operation, shared in islice(_operations(document), 10 * MAX_FUNCTIONS):
        reader = _Operation(document, method, path, operation, shared)
        template = reader.template(base)
        if template is None:
            left_out.append(reader.default_name()[:80])
            continue
        size += template.ByteSize()
        if len(functions) >= MAX_FUNCTIONS or size > MAX_TEXT:
            left_out.append(f"all after {len(functions)}: there are too many")
            break
        functions[_free_name(reader, functions)] = template
    return FoundFunctions(functions, tuple(left_out))


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any], Any]]:
    """Path, method, operation, and the parameters that all operations of the path share."""
    for path, item in document["paths"].items():
        found = resolve(item, document)
        if not isinstance(path, str) or not path.startswith("/"):
            continue
        for method in METHODS:
            if isinstance(found.get(method), Mapping):
                yield path, method, found[method], found.get("parameters")


def _free_name(operation: "_Operation", taken: Mapping[str, Template]) -> str:
    """The operation's id, unless another one has it."""
    name = operation.name()
    return operation.default_name() if name in taken else name


@dataclass(frozen=True, slots=True)
class _Operation:
    """One operation of a document."""

    document: Mapping[str, Any]
    method: str
    path: str
    content: Mapping[str, Any]
    shared: Any

    def name(self) -> str:
        found = self.content.get("operationId")
        return found if isinstance(found, str) and _FUNCTION_NAME.fullmatch(found) else self.default_name()

    def default_name(self) -> str:
        return self.method + self.path.replace("/", ".")

    def template(self, base: str) -> Template | None:
        """The operation as a template; None if its path cannot be one."""
        path = path_template(base + self.path)
        if path is None or not _FUNCTION_NAME.fullmatch(self.default_name()):
            return None
        parameters = self._parameters()
        built = Template()
        built.headers[":method"].text = self.method.upper()
        built.headers[":path"].text = path + _query_template(parameters)
        if self.method in _BODILESS:
            built.headers["content-length"].text = "0"
            built.body.text = ""
        elif body := self._body(parameters):
            built.headers["content-type"].text = "application/json"
            built.body.text = body
        else:
            built.passthrough.SetInParent()
        return built

    def _parameters(self) -> list[Mapping[str, Any]]:
        """Those of the operation, and those of its path that it does not have itself."""
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for item in islice((*mappings(self.shared), *mappings(self.content.get("parameters"))), MAX_PARAMETERS):
            parameter = resolve(item, self.document)
            found[str(parameter.get("in")), str(parameter.get("name"))] = parameter
        return list(found.values())

    def _body(self, parameters: list[Mapping[str, Any]]) -> str:
        """The template of the body; "" if there is none in JSON, or nothing is known of it."""
        for parameter in parameters:
            if parameter.get("in") == "body":
                return BodyBuilder(self.document).build(parameter.get("schema"))
        content = resolve(self.content.get("requestBody"), self.document).get("content")
        for media_type, media in content.items() if isinstance(content, Mapping) else ():
            if isinstance(media_type, str) and _JSON.fullmatch(media_type[:200]) and isinstance(media, Mapping):
                return BodyBuilder(self.document).build(media.get("schema"))
        return ""


def path_template(path: str) -> str | None:
    """A path with ``{x}`` as ``{{ default(x, "") }}``; None if it has anything that could mean more than it says."""
    parts = _PART.split(path)
    literals, names = parts[::2], parts[1::2]
    if not all(map(_LITERAL.fullmatch, literals)) or not all(map(NAME.fullmatch, names)):
        return None
    variables = [f'{{{{ default({name}, "") }}}}' for name in names]
    return "".join(text for pair in zip(literals, [*variables, ""], strict=True) for text in pair)


def _query_template(parameters: list[Mapping[str, Any]]) -> str:
    names = [str(parameter.get("name")) for parameter in parameters if parameter.get("in") == "query"]
    pairs = [f'{name}={{{{default({name}, "")}}}}' for name in names if NAME.fullmatch(name)]
    return f"?{'&'.join(pairs)}" if pairs else ""


def _base_path(document: Mapping[str, Any]) -> str:
    """What stands before every path: ``basePath``, or the path of the first server; its host means nothing here."""
    if version_of(document) == "2":
        found = document.get("basePath")
    else:
        server = next(mappings(document.get("servers")), None)
        found = _server_path(server) if isinstance(server, Mapping) else None
    return found.rstrip("/") if isinstance(found, str) and found.startswith("/") else ""


def _server_path(server: Mapping[str, Any]) -> str:
    """The path of a server's URL, with the defaults of its variables."""
    url, variables = server.get("url"), server.get("variables")
    if not isinstance(url, str):
        return ""
    for name, variable in islice(variables.items() if isinstance(variables, Mapping) else (), MAX_PARAMETERS):
        default = variable.get("default") if isinstance(variable, Mapping) else None
        url = url.replace(f"{{{name}}}", str(default)[:200])[:2000]
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
