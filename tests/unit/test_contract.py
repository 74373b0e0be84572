"""The messages are the contract's: every field that users write exists, with the name, number and type it had."""

import importlib
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor

from gloo_nomad.api import gen, kinds
from gloo_nomad.api.refs import Ref

CHECKOUT = Path(__file__).parent.parent.parent
FACTS = CHECKOUT / "tests" / "contract" / "fields.txt"
GENERATED = Path(str(gen.__file__)).parent
SCALARS = {
    number: name.removeprefix("TYPE_").lower() for name, number in vars(FieldDescriptor).items() if name[:5] == "TYPE_"
}


class Fact(NamedTuple):
    """One field of one message."""

    message: str
    number: int
    name: str
    type: str
    oneof: str
    deprecated: bool


def facts() -> Iterator[Fact]:
    """The fields of the list."""
    message = ""
    for line in FACTS.read_text().splitlines():
        if line.startswith(("message ", "enum ")):
            message = line.split()[1]
        found = re.fullmatch(r" +(\d+) (\w+): (.*?)(?:  \[oneof (\w+)\])?( \[deprecated\])?", line)
        if found:
            yield Fact(message, int(found[1]), found[2], found[3], found[4] or "", bool(found[5]))


def messages() -> list[str]:
    """The messages of the list, those without fields included."""
    return re.findall(r"^message (\S+)$", FACTS.read_text(), re.MULTILINE)


def enums() -> Iterator[tuple[str, dict[str, int]]]:
    """The enums of the list, with their values."""
    for line in FACTS.read_text().splitlines():
        if line.startswith("enum "):
            name, values = line.removeprefix("enum ").split(": ")
            yield name, {pair.split("=")[0]: int(pair.split("=")[1]) for pair in values.split(", ")}


@pytest.fixture(scope="module")
def pool() -> Any:
    """All generated messages."""
    for path in GENERATED.glob("*_pb2.py"):
        importlib.import_module(f"gloo_nomad.api.gen.{path.stem}")
    return descriptor_pool.Default()


def type_of(field: Any) -> str:
    """A field's type as the list writes it."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        return f"map<{type_of(entry['key'])}, {type_of(entry['value'])}>"
    inner = field.message_type or field.enum_type
    name = inner.full_name if inner is not None else SCALARS[field.type]
    return f"repeated {name}" if field.is_repeated else str(name)


def fact_of(field: Any) -> Fact:
    """A field of ours as the list has it."""
    holder = field.containing_oneof
    oneof = holder.name if holder is not None and not holder.name.startswith("_") else ""  # "_": made by `optional`
    message = field.containing_type.full_name
    return Fact(message, field.number, field.name, type_of(field), oneof, field.GetOptions().deprecated)


def test_the_list_is_complete() -> None:
    """The list is not cut off: it has as many entries as when it was made."""
    assert len(messages()) == 545
    assert len(list(facts())) == 2038
    assert len(list(enums())) == 71


def test_fields(pool: Any) -> None:
    """Every field of the list exists with its number, type, oneof and deprecation, and there are no others."""
    listed: dict[str, list[Fact]] = {message: [] for message in messages()}
    for fact in facts():
        listed[fact.message].append(fact)

    for message, expected in listed.items():
        ours = [fact_of(field) for field in pool.FindMessageTypeByName(message).fields]
        assert sorted(ours) == sorted(expected), message


def test_enums(pool: Any) -> None:
    """Every enum of the list has exactly its values."""
    for name, values in enums():
        ours = pool.FindEnumTypeByName(name)
        assert {value.name: value.number for value in ours.values} == values, name


def test_json_names(pool: Any) -> None:
    """JSON names are lowerCamelCase, also that of the one field that is written with a capital."""
    for message in messages():
        for field in pool.FindMessageTypeByName(message).fields:
            head, *tail = field.name.split("_")
            camel = head + "".join(part[:1].upper() + part[1:] for part in tail)
            assert field.json_name == ("messages" if field.name == "Messages" else camel)


@pytest.mark.parametrize("kind", kinds.KINDS.values(), ids=kinds.KINDS)
def test_kinds(kind: kinds.Kind, pool: Any) -> None:
    """Each kind has metadata, and carries its statuses in the field that its style says."""
    fields = kind.message.DESCRIPTOR.fields_by_name

    assert fields["metadata"].message_type.full_name == "core.solo.io.Metadata"  # type: ignore[union-attr]
    assert ("namespaced_statuses" in fields) == (kind.status is kinds.StatusStyle.NAMESPACED)


def test_keys() -> None:
    """Consul KV keys are those that the reference and glooctl use."""
    ref = Ref("gloo-system", "default")

    assert kinds.VIRTUAL_SERVICE.key("gloo", ref) == "gloo/gateway.solo.io/v1/VirtualService/gloo-system/default"
    assert kinds.UPSTREAM.key("gloo", ref) == "gloo/gloo.solo.io/v1/Upstream/gloo-system/default"
    assert kinds.RATE_LIMIT_CONFIG.key("r", ref) == "r/ratelimit.solo.io/v1alpha1/RateLimitConfig/gloo-system/default"


def test_folders() -> None:
    """The folder of a kind is its plural, but for those of the matchable gateways."""
    odd = {"MatchableHttpGateway": "httpgateways", "MatchableTcpGateway": "tcpgateways", "Proxy": "proxies"}
    odd["Settings"] = "settings"

    assert {name: kind.plural for name, kind in kinds.KINDS.items()} == {
        name: odd.get(name, f"{name.lower()}s") for name in kinds.KINDS
    }


def test_rate_limit_config() -> None:
    """RateLimitConfig is flat, with raw limits beside metadata."""
    assert set(kinds.RATE_LIMIT_CONFIG.message.DESCRIPTOR.fields_by_name) == {"raw", "metadata"}


def test_proxy_debug_service(pool: Any) -> None:
    """The debug service has the names and numbers that its clients know."""
    service = pool.FindServiceByName("gloo.solo.io.ProxyEndpointService")
    request = service.methods_by_name["GetProxies"].input_type

    assert {field.name: field.number for field in request.fields} == {
        "namespace": 1,
        "name": 2,
        "selector": 3,
        "expression_selector": 5,
    }


def test_generated_code_fits() -> None:
    """Nobody changed a .proto file without generating anew."""
    done = subprocess.run(
        [sys.executable, ".ci/proto", "--check"], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 0, done.stderr


def test_sources_are_documented() -> None:
    """Every .proto file says what it is for, and every message what it means to a user."""
    for path in (CHECKOUT / "gloo_nomad" / "api" / "proto").glob("*.proto"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith("// "), f"{path.name} does not say what it is for"
        for above, line in itertools.pairwise(lines):
            if re.match(r" *(message|enum|service) ", line):
                assert re.match(r" *//", above), f"{path.name}: {line.strip()} has no comment"
