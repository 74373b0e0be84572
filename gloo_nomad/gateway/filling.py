"""Settings of a hybrid gateway handed down to the gateways behind it, field by field.

https://docs.solo.io/gloo-edge/latest/guides/traffic_management/listener_configuration/hybrid_gateway/: a child keeps
what it sets, unless the hybrid gateway prevents that (``preventChildOverrides``).
"""

from typing import Any, Final

from google.protobuf.message import Message

_LEAVES: Final = frozenset({"core.solo.io.ResourceRef"})
"""Messages that are taken as a whole, besides those of Google (durations, wrappers, structs)."""


def apply_missing(parent: Message, out: Message, *, overrides: bool = False) -> None:
    """Fills what *out* leaves unset from *parent*, down to single fields; all that *parent* sets, if it *overrides*."""
    for descriptor, value in parent.ListFields():
        name = descriptor.name
        if _is_branch(descriptor) and out.HasField(name):
            apply_missing(value, getattr(out, name), overrides=overrides)
        elif overrides or not _is_set(out, descriptor):
            _replace(descriptor, value, out)


def _is_branch(descriptor: Any) -> bool:
    """Whether a field is a message that is filled field by field."""
    if descriptor.message_type is None or descriptor.is_repeated:
        return False
    name = descriptor.message_type.full_name
    return not name.startswith("google.protobuf.") and name not in _LEAVES


def _is_set(message: Any, descriptor: Any) -> bool:
    if descriptor.containing_oneof is not None:
        return message.WhichOneof(descriptor.containing_oneof.name) is not None
    if descriptor.has_presence:
        return bool(message.HasField(descriptor.name))
    return bool(getattr(message, descriptor.name))


def _replace(descriptor: Any, value: Any, out: Any) -> None:
    out.ClearField(descriptor.name)
    if descriptor.is_repeated:
        getattr(out, descriptor.name).MergeFrom(value)
    elif descriptor.message_type is not None:
        getattr(out, descriptor.name).CopyFrom(value)
        getattr(out, descriptor.name).SetInParent()
    else:
        setattr(out, descriptor.name, value)
