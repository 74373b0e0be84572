"""Every field of Settings either has an effect or is named in a warning on the Settings object."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.options.registry import modules
from gloo_nomad.pipeline import Pipeline, claims
from gloo_nomad.reports import Severity
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

REF = Ref("gloo-system", "default")
CLAIMED = [
    item for module in modules("gloo_nomad.settings.fields") for item in sorted(getattr(module, "FIELDS", {}).items())
]


def warned(message: settings_pb2.Settings) -> list[str]:
    """The fields of a Settings object that the pipeline warns of."""
    snapshot = ConfigSnapshot({SETTINGS.name: Collection({REF: message})})
    problems = Pipeline().translate(snapshot, settings_pb2.Settings()).problems
    assert all(problem.severity is Severity.WARNING and problem.ref == SETTINGS.object_ref(REF) for problem in problems)
    return [problem.path for problem in problems]


def set_field(message: Any, name: str) -> None:
    """Gives a field some value."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        if value.message_type is None:
            getattr(message, name)["key"] = "value"
        else:
            getattr(message, name)["key"].SetInParent()
    elif field.is_repeated:
        if field.message_type is not None:
            getattr(message, name).add()
        else:
            getattr(message, name).append("x")
    elif field.message_type is not None:
        getattr(message, name).SetInParent()
    else:
        setattr(message, name, "x" if isinstance(field.default_value, str) else 1)


def top_fields() -> Iterator[tuple[str, bool]]:
    """Each field of Settings, and whether it is said to have an effect."""
    descriptor: Descriptor = settings_pb2.Settings.DESCRIPTOR
    for field in descriptor.fields:
        if field.name != "namespaced_statuses":
            yield field.name, field.name in claims()["gloo.solo.io.Settings"]


@pytest.mark.parametrize(("name", "supported"), list(top_fields()))
def test_top_fields(name: str, *, supported: bool) -> None:
    """A supported field is no warning; any other is one that names it as the user writes it."""
    message = settings_pb2.Settings()
    set_field(message, name)
    path = settings_pb2.Settings.DESCRIPTOR.fields_by_name[name].camelcase_name

    assert warned(message) == ([] if supported else [path])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("gloo", "validationBindAddr"),
        ("gateway.validation", "alwaysAccept"),
    ],
)
def test_fields_below(path: str, name: str) -> None:
    """A field without effect inside a supported one is named with its path."""
    message = settings_pb2.Settings()
    parent: Any = message
    for part in path.split("."):
        parent = getattr(parent, next(field.name for field in parent.DESCRIPTOR.fields if field.camelcase_name == part))
        parent.SetInParent()
    set_field(parent, next(field.name for field in parent.DESCRIPTOR.fields if field.camelcase_name == name))

    assert warned(message) == [f"{path}.{name}"]


@pytest.mark.parametrize(
    ("message_name", "names"),
    [
        item
        for module in modules("gloo_nomad.settings.fields")
        for item in sorted(getattr(module, "FIELDS", {}).items())
    ],
)
def test_claims_exist(message_name: str, names: tuple[str, ...]) -> None:
    """What is said to have an effect is a field of the contract."""
    pool = settings_pb2.DESCRIPTOR.pool

    assert set(names) <= set(pool.FindMessageTypeByName(message_name).fields_by_name)
