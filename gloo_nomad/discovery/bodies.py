"""The body of a request as a template of the reference's language (Inja), made of the schema in an OpenAPI document.

Text becomes ``"{{ default(name, "") }}"``, everything else is written as it comes, with ``null``, ``[]`` or ``{}``
where the request does not have it. Names that are no names in the template language are left out: a document must not
be able to write templates of its own.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gloo_nomad.discovery.documents import mappings, resolve

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
"""What may stand in a template as the name of a value."""
MAX_DEPTH: Final = 8
MAX_PROPERTIES: Final = 300
"""Of one body, over all levels."""
_EMPTY: Final = {"array": "[]", "object": "{}"}


@dataclass(slots=True)
class BodyBuilder:
    """Makes the template of one body."""

    document: Mapping[str, Any]
    left: int = MAX_PROPERTIES
    """How many more properties fit."""
    _inside: list[int] = field(default_factory=list)
    """The schemas that are being written: a schema that holds itself is written once."""

    def build(self, schema: Any) -> str:
        """The template for a body with that schema; "" if its properties are not known."""
        return self._object(resolve(schema, self.document), "")

    def _value(self, schema: Mapping[str, Any], name: str) -> str:
        if nested := self._object(schema, name):
            return nested
        kind = _type(schema)
        if kind == "string":
            return f'"{{{{ default({name}, "") }}}}"'
        return f'{{{{ default({name}, "{_EMPTY.get(kind, "null")}") }}}}'

    def _object(self, schema: Mapping[str, Any], parent: str) -> str:
        """The template of an object with known properties; "" for everything else, and where it goes too deep."""
        if id(schema) in self._inside or len(self._inside) >= MAX_DEPTH:
            return ""
        self._inside.append(id(schema))
        try:
            fields = [*self._fields(schema, parent)]
        finally:
            self._inside.pop()
        return f"{{{','.join(fields)}}}" if fields else ""

    def _fields(self, schema: Mapping[str, Any], parent: str) -> Iterator[str]:
        for key, value in self._properties(schema).items():
            if self.left <= 0:
                return
            if NAME.fullmatch(key):
                self.left -= 1
                name = f"{parent}.{key}" if parent else key
                yield f'"{key}": {self._value(resolve(value, self.document), name)}'

    def _properties(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the schema and of what it is made of (``allOf``), in their order."""
        found: dict[str, Any] = {}
        for part in (schema, *mappings(schema.get("allOf"))):
            properties = resolve(part, self.document).get("properties")
            if isinstance(properties, Mapping):
                found.update(properties)
            if len(found) > MAX_PROPERTIES:
                break
        return {key: value for key, value in found.items() if isinstance(key, str)}


def _type(schema: Mapping[str, Any]) -> str:
    """The type of a value; since OpenAPI 3.1 it may be a list, with ``null`` in it."""
    kind = schema.get("type")
    choices = [kind] if isinstance(kind, str) else [item for item in mappings(kind) if isinstance(item, str)]
    return next((choice for choice in choices if choice != "null"), "")
