"""Our own settings: ``extensions.configs["gloo-nomad"]``, what the contract has no field for.

Each is declared by a module of ``settings.fields``, which is found by walking that package: ``OWN`` has the names with
their defaults, whose type is the type of the setting, ``OWN_FIXED`` those that are decided at the start, and
``OWN_CHOICES`` the texts that a setting may have.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, Final

from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.reports import Finding, error, warning
from gloo_nomad.settings import fields

EXTENSION: Final = "gloo-nomad"
_KINDS_OF_VALUES: Final[Mapping[type, tuple[str, str]]] = {
    str: ("string_value", "text"),
    bool: ("bool_value", "true or false"),
    float: ("number_value", "a number"),
    tuple: ("list_value", "a list"),
    dict: ("struct_value", "a map"),
}


def _modules() -> tuple[ModuleType, ...]:
    names = sorted(found.name for found in pkgutil.iter_modules(fields.__path__))
    return tuple(importlib.import_module(f"{fields.__name__}.{name}") for name in names)


def _declared() -> Mapping[str, Any]:
    declared: dict[str, Any] = {}
    for module in _modules():
        for name, default in getattr(module, "OWN", {}).items():
            if name in declared:
                raise ValueError(f"the setting {name} is declared twice, the second time by {module.__name__}")
            declared[name] = default
    return MappingProxyType({name: declared[name] for name in sorted(declared)})


def _named(list_name: str) -> tuple[str, ...]:
    return tuple(sorted(name for module in _modules() for name in getattr(module, list_name, ())))


OWN_FIELDS: Final = _declared()
"""Our own settings with their defaults; all are optional."""
FIXED_OWN: Final = _named("OWN_FIXED")
"""Those that are decided at the start."""
FIXED: Final = _named("FIXED")
"""The paths of the contract's fields that are."""
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    name: choices for module in _modules() for name, choices in getattr(module, "OWN_CHOICES", {}).items()
}
"""The texts that some may have."""


def own_path(name: str) -> str:
    """Where one of them stands, for messages."""
    return f"extensions.configs[{EXTENSION}].{name}"


def own_value(message: settings_pb2.Settings, name: str) -> Any:
    """One of ``OWN_FIELDS`` as the message has it, or its default."""
    configs = message.extensions.configs
    if EXTENSION in configs and name in configs[EXTENSION].fields:
        value: Any = json_format.MessageToDict(configs[EXTENSION].fields[name])
        return tuple(value) if isinstance(value, list) else value
    return OWN_FIELDS[name]


def own_texts(message: settings_pb2.Settings, name: str) -> frozenset[str]:
    """The texts of one of ``OWN_FIELDS`` that is a list; quick enough to be asked for each object."""
    configs = message.extensions.configs
    if EXTENSION in configs and name in configs[EXTENSION].fields:
        return frozenset(value.string_value for value in configs[EXTENSION].fields[name].list_value.values)
    return frozenset(OWN_FIELDS[name])


def own_findings(message: settings_pb2.Settings) -> Iterator[Finding]:
    """Fields of our own extension that nobody knows, or whose value is of another type."""
    configs = message.extensions.configs
    found = configs[EXTENSION].fields if EXTENSION in configs else {}
    for name in sorted(found):
        path = own_path(name)
        if name not in OWN_FIELDS:
            yield warning(path, f"is not known; known are {', '.join(OWN_FIELDS)}")
            continue
        kind, told = _KINDS_OF_VALUES[type(OWN_FIELDS[name])]
        if found[name].WhichOneof("kind") != kind:
            yield error(path, f"is to be {told}")
        elif name in _CHOICES and found[name].string_value not in _CHOICES[name]:
            yield error(path, f"is to be one of {', '.join(_CHOICES[name])}")
