"""The page that says what becomes of every field is complete, and agrees with the warnings on objects."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from gloo_nomad.options.claims import unclaimed
from gloo_nomad.pipeline import claims

CHECKOUT = Path(__file__).parent.parent.parent
SCRIPT = CHECKOUT / ".ci" / "contract"
NUMBERS = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """The names of the script."""
    return runpy.run_path(str(SCRIPT), run_name="contract")


@pytest.fixture(scope="module")
def contract(script: dict[str, Any]) -> Any:
    """Every message, and what is claimed of it."""
    return script["Contract"]()


def test_page_has_every_field(script: dict[str, Any], contract: Any) -> None:
    """Each field of each message that an object can hold stands in the part of its message."""
    text: str = script["render"](contract)
    parts = {part.split("\n", 1)[0]: part for part in text.split("\n### ")}
    lines = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("- `")}
    missing = [
        f"{name}.{item.name}"
        for name, message in contract.messages.items()
        for item in message.fields
        if f"`{item.camelcase_name}`" not in parts.get(name, lines.get(name, ""))
    ]

    assert missing == []
    assert len(contract.messages) > 500


def test_page_agrees_with_the_warnings(script: dict[str, Any], contract: Any) -> None:
    """An object that sets a field is warned exactly where the page says so."""
    wrong = [
        f"{name}.{item.name} {state}"
        for name in contract.live
        for item in contract.messages[name].fields
        if (state := contract.state(contract.messages[name], item)) != script["WRITTEN"]
        and _warned(contract.messages[name], item) != (state == script["WARNS"])
    ]

    assert wrong == []


def _warned(message: Any, item: FieldDescriptor) -> bool:
    made = message_factory.GetMessageClass(message)()
    _set(made, item)
    return any(finding.path == item.camelcase_name for finding in unclaimed(made, claims()))


def _set(message: Any, item: FieldDescriptor) -> None:
    """Gives a field some value."""
    value = getattr(message, item.name)
    if item.message_type is not None and item.message_type.GetOptions().map_entry:
        _set_entry(value, item.message_type.fields_by_name["value"])
    elif item.message_type is not None:
        (value.add if item.is_repeated else value.SetInParent)()
    elif item.is_repeated:
        value.append(_scalar(item))
    else:
        setattr(message, item.name, _scalar(item))


def _set_entry(value: Any, item: FieldDescriptor) -> None:
    if item.message_type is not None:
        value["a"].SetInParent()
    else:
        value["a"] = _scalar(item)


def _scalar(item: FieldDescriptor) -> Any:
    if item.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"a" if item.type == FieldDescriptor.TYPE_BYTES else "a"
    if item.enum_type is not None:
        return item.enum_type.values[-1].number
    return 1.0 if item.cpp_type in NUMBERS else 1


def test_every_reason_fits_a_field(script: dict[str, Any], contract: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reasons of fields that are gone, or were never there, are found."""
    find = script["stale_reasons"]
    assert find(contract) == []
    monkeypatch.setitem(find.__globals__, "REASONS", (*script["REASONS"], (r"gloo\.solo\.io\.NoSuch\.field", "gone")))

    assert find(contract) == [r"gloo\.solo\.io\.NoSuch\.field"]


@pytest.fixture
def run(script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The script, writing into a folder of the test's own."""
    names = script["main"].__globals__
    monkeypatch.setitem(names, "ROOT", tmp_path)
    monkeypatch.setitem(names, "PAGE", tmp_path / "contract.md")

    def start(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["contract", *arguments])
        code: int = names["main"]()
        return code

    return start


def test_drift_is_found(run: Callable[..., int], tmp_path: Path) -> None:
    """Without a page and with one that was edited the check fails; writing it heals that."""
    assert run("--check") == 1
    assert run() == 0
    assert run("--check") == 0
    page = tmp_path / "contract.md"
    page.write_text(page.read_text().replace("| warns |", "| works |", 1))

    assert run("--check") == 1
