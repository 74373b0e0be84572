"""Envoy's messages inside ``Any``: their modules are loaded when such a message is first met.

A configuration names extensions by type URL. The package of a type is also the package of its generated modules
(``envoy.extensions.filters.http.cors.v3.Cors`` is in ``envoy/extensions/filters/http/cors/v3/``).
"""

import importlib
import pkgutil
from functools import cache
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pool, message_factory, struct_pb2
from google.protobuf.message import DecodeError, Message

_PACKAGES: Final = ("envoy.", "xds.", "udpa.", "google.", "opencensus.", "opentelemetry.")


@cache
def message_type(name: str) -> type[Message] | None:
    """The class of a message by its full name, or None if nobody here knows it."""
    pool = descriptor_pool.Default()
    for load in (False, True):
        if load:
            _load_package(name)
        try:
            return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        except KeyError:
            continue
    return None


def _load_package(name: str) -> None:
    if not name.startswith(_PACKAGES):
        return
    package = ".".join(part for part in name.split(".") if part[:1].islower())
    try:
        parent = importlib.import_module(package)
    except ImportError:
        return
    for found in pkgutil.iter_modules(parent.__path__):
        if found.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{found.name}")


def unpack(packed: Any) -> Message | None:
    """The message in an Any, or None if its type is unknown or its bytes are broken."""
    found = message_type(packed.type_url.rpartition("/")[2])
    if found is None:
        return None
    message = found()
    try:
        message.ParseFromString(packed.value)
    except DecodeError:
        return None
    return message


def pack_unknown(packed: Any) -> any_pb2.Any:
    """What stands for an Any that cannot be shown."""
    note = struct_pb2.Struct()
    note.update({"typeUrl": packed.type_url, "bytes": len(packed.value), "note": "this type is not known here"})
    shown = any_pb2.Any()
    shown.Pack(note)
    return shown
