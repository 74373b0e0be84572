"""One Settings message laid over another: what the object in Consul KV says wins over the file, field by field.

Some things are decided before Consul can be asked: where objects are read from, how Consul is reached, and the
addresses that are listened on. An object in Consul KV cannot change them: it would saw off the branch that it sits on.
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.reports import Finding, warning
from gloo_nomad.settings.own import EXTENSION, FIXED, FIXED_OWN, own_path

_FIXED: Final = tuple(tuple(path.split(".")) for path in FIXED)
_TOLD: Final = "is decided at the start: write it into the Settings file, or give the flag or variable; ignored here"


def merge(base: settings_pb2.Settings, top: settings_pb2.Settings) -> settings_pb2.Settings:
    """*base* with *top* on it, except for what is decided at the start."""
    wanted = settings_pb2.Settings()
    wanted.CopyFrom(top)
    for parent, name in _written_fixed(wanted):
        parent.ClearField(name)
    for own in _own_fixed(wanted):
        del wanted.extensions.configs[EXTENSION].fields[own]
    wanted.ClearField("metadata")
    merged = settings_pb2.Settings()
    merged.CopyFrom(base)
    lay_over(merged, wanted)
    return merged


def ignored_findings(base: settings_pb2.Settings, top: settings_pb2.Settings) -> Iterator[Finding]:
    """A warning for each field of *top* that would change what is decided at the start."""
    for parent, name in _written_fixed(top):
        path = next(path for path in _FIXED if path[-1] == name and _parent(top, path) is parent)
        if getattr(_parent(base, path), name) != getattr(parent, name):
            yield warning(".".join(_json_name(top, path)), _TOLD)
    for own in _own_fixed(top):
        before = base.extensions.configs[EXTENSION].fields if EXTENSION in base.extensions.configs else {}
        if own not in before or before[own] != top.extensions.configs[EXTENSION].fields[own]:
            yield warning(own_path(own), _TOLD)


def _written_fixed(message: settings_pb2.Settings) -> list[tuple[Any, str]]:
    """The messages and names of fixed fields that are set."""
    found = []
    for path in _FIXED:
        parent = _parent(message, path)
        if path[-1] in {descriptor.name for descriptor, _ in parent.ListFields()}:
            found.append((parent, path[-1]))
    return found


def _own_fixed(message: settings_pb2.Settings) -> list[str]:
    configs = message.extensions.configs
    return [name for name in FIXED_OWN if EXTENSION in configs and name in configs[EXTENSION].fields]


def _parent(message: Any, path: tuple[str, ...]) -> Any:
    for name in path[:-1]:
        message = getattr(message, name)
    return message


def _json_name(message: Any, path: tuple[str, ...]) -> Iterator[str]:
    descriptor = message.DESCRIPTOR
    for name in path:
        found = descriptor.fields_by_name[name]
        yield found.camelcase_name
        descriptor = found.message_type


def lay_over(out: Any, top: Any) -> None:
    """Puts every field that *top* has onto *out*: messages field by field, maps key by key, lists as a whole.

    A wrapper or a Duration is one value, so that an explicit ``false`` or ``0s`` overrides.
    """
    for descriptor, value in top.ListFields():
        if descriptor.message_type is None:
            _replace(descriptor, value, out)
        elif descriptor.message_type.GetOptions().map_entry:
            _lay_over_map(descriptor, value, getattr(out, descriptor.name))
        elif descriptor.is_repeated:
            _replace(descriptor, value, out)
        elif _is_one_value(descriptor.message_type.full_name):
            getattr(out, descriptor.name).CopyFrom(value)
        else:
            getattr(out, descriptor.name).SetInParent()
            lay_over(getattr(out, descriptor.name), value)


def _is_one_value(message_name: str) -> bool:
    return message_name.startswith("google.protobuf.") and message_name != "google.protobuf.Struct"


def _replace(descriptor: Any, value: Any, out: Any) -> None:
    if descriptor.is_repeated:
        out.ClearField(descriptor.name)
        getattr(out, descriptor.name).extend(value)
    else:
        setattr(out, descriptor.name, value)


def _lay_over_map(descriptor: Any, value: Any, out: Any) -> None:
    if descriptor.message_type.fields_by_name["value"].message_type is None:
        out.update(value)
        return
    for key, message in value.items():
        if _is_one_value(message.DESCRIPTOR.full_name):
            out[key].CopyFrom(message)
        else:
            lay_over(out[key], message)
