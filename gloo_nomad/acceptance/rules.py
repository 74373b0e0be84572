"""Checks messages against the rules that stand in Envoy's own API, as annotations.

Envoy refuses a whole resource for one field that breaks a rule (https://github.com/bufbuild/protoc-gen-validate).
The descriptors in ``xds-protos`` carry the rules. What is inside an ``Any`` is not looked at: check it before packing.
"""

from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from validate import validate_pb2

from gloo_nomad.acceptance.values import Check, count_check, value_check


class Breach(NamedTuple):
    """A field of Envoy's API that breaks a rule: its path in the message, and what is wrong with it."""

    path: str
    reason: str


class _FieldPlan(NamedTuple):
    """What to do with a field: what is wrong with it unless it is set, what is checked, and whether to look inside."""

    name: str
    number: int
    repeated: bool
    presence: bool
    unset: str
    whole: Check | None
    key: Check | None
    item: Check | None
    descend: bool


class _Plan(NamedTuple):
    fields: dict[int, _FieldPlan]
    """By number, those whose value has to be looked at."""
    needed: tuple[_FieldPlan, ...]
    """Those that break a rule unless they are set."""
    oneofs: tuple[str, ...]


def broken_rules(message: Any) -> list[Breach]:
    """Every rule that *message*, one of Envoy's, breaks at any depth.

    Tens of thousands of routes are asked, and hardly any breaks one: paths are put together only where one is broken.
    """
    plan = _plan(message.DESCRIPTOR)
    found = [Breach("", f"one of {oneof} is required") for oneof in plan.oneofs if message.WhichOneof(oneof) is None]
    found += [Breach(field.name, field.unset) for field in plan.needed if not _is_set(message, field)]
    for descriptor, value in message.ListFields():
        known = plan.fields.get(descriptor.number)
        if known is not None:
            found += _check_field(value, known)
    return found


def _is_set(message: Any, field: _FieldPlan) -> bool:
    return bool(message.HasField(field.name) if field.presence else getattr(message, field.name))


def _below(name: str, breaches: list[Breach]) -> list[Breach]:
    return [Breach(f"{name}.{path}" if path else name, reason) for path, reason in breaches]


def _check_field(value: Any, field: _FieldPlan) -> list[Breach]:
    found = []
    if field.whole is not None and (reason := field.whole(value)):
        found.append(Breach(field.name, reason))
    if field.repeated:
        found += _check_entries(value, field)
    elif field.descend and (breaches := broken_rules(value)):
        found += _below(field.name, breaches)
    return found


def _check_entries(entries: Any, field: _FieldPlan) -> list[Breach]:
    """Each entry of a list or a map."""
    found = []
    for key in sorted(entries) if hasattr(entries, "keys") else range(len(entries)):
        if field.key is not None and (reason := field.key(key)):
            found.append(Breach(f"{field.name}[{key}]", reason))
        if field.item is not None and (reason := field.item(entries[key])):
            found.append(Breach(f"{field.name}[{key}]", reason))
        if field.descend and (breaches := broken_rules(entries[key])):
            found += _below(f"{field.name}[{key}]", breaches)
    return found


@cache
def _plan(message: Descriptor) -> _Plan:
    """The fields of a message type that have rules, or hold messages that may have some."""
    if message.GetOptions().Extensions[validate_pb2.disabled]:
        return _Plan({}, (), ())
    plans = [plan for plan in map(_field_plan, message.fields) if plan is not None]
    looked_at = {plan.number: plan for plan in plans if plan.whole or plan.key or plan.item or plan.descend}
    oneofs = (oneof.name for oneof in message.oneofs if oneof.GetOptions().Extensions[validate_pb2.required])
    return _Plan(looked_at, tuple(plan for plan in plans if plan.unset), tuple(oneofs))


def _field_plan(field: FieldDescriptor) -> _FieldPlan | None:
    rules = field.GetOptions().Extensions[validate_pb2.rules]
    whole, key, item = _checks(rules, field)
    alone = field.containing_oneof is None  # "required" inside a oneof only counts when it is the one that is set
    required = alone and (rules.message.required or rules.duration.required or rules.any.required)
    descend = _holds_messages(field) and not rules.message.skip and not rules.repeated.items.message.skip
    if not (required or whole or key or item or descend):
        return None
    presence = field.has_presence and not field.is_repeated
    unset = "is required" if required else ""
    if not presence and whole is not None:
        unset = whole(() if field.is_repeated else field.default_value)
    return _FieldPlan(field.name, field.number, field.is_repeated, presence, unset, whole, key, item, descend)


def _checks(rules: Any, field: Any) -> tuple[Check | None, Check | None, Check | None]:
    """Checks of the field as a whole, of each key of a map, and of each entry."""
    kind = rules.WhichOneof("type")
    if kind == "repeated":
        return count_check(rules.repeated, "items", "entries"), None, value_check(rules.repeated.items, field)
    if kind == "map":
        parts = field.message_type.fields_by_name
        keys = value_check(rules.map.keys, parts["key"])
        return count_check(rules.map, "pairs", "entries"), keys, value_check(rules.map.values, parts["value"])
    if field.is_repeated:
        return None, None, None
    return value_check(rules, field), None, None


def _holds_messages(field: Any) -> bool:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        message = message.fields_by_name["value"].message_type
    return message is not None and not str(message.full_name).startswith("google.protobuf.")
