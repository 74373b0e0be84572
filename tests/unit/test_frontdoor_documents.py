"""Texts with objects whose kind is to be found out, in files and folders."""

from pathlib import Path

import pytest

from gloo_nomad.api.documents import MAX_DOCUMENTS
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.frontdoor.documents import UNKNOWN, parse_documents
from gloo_nomad.frontdoor.naming import ALIASES, check_name, kind_named
from gloo_nomad.frontdoor.tree import read_paths

META = "metadata: {namespace: ns, name: a}\n"
RECOGNISED = [
    ("virtualHost: {domains: ['*']}", "VirtualService"),
    ("virtual_host: {domains: ['*']}", "VirtualService"),
    ("routes: []", "RouteTable"),
    ("httpGateway: {}", "Gateway"),
    ("httpGateway: {}\nbindPort: 8080", "Gateway"),
    ("matcher: {}\nhttpGateway: {}", "MatchableHttpGateway"),
    ("matcher: {}\ntcpGateway: {}", "MatchableTcpGateway"),
    ("static: {hosts: [{addr: a, port: 1}]}", "Upstream"),
    ("consul: {serviceName: a}", "Upstream"),
    ("aws: {region: eu-west-1, lambdaFunctions: []}", "Upstream"),
    ("aws: {accessKey: a, secretKey: b}", "Secret"),
    ("tls: {certChain: a, privateKey: b}", "Secret"),
    ("consul: {httpAddress: 'a:1'}", "Settings"),
    ("discoveryNamespace: a\nconsul: {httpAddress: 'a:1'}", "Settings"),
    ("destinations: []", "UpstreamGroup"),
    ("data: {a: b}", "Artifact"),
    ("configs: [{basicAuth: {}}]", "AuthConfig"),
    ("raw: {}", "RateLimitConfig"),
    ("options: {timeout: 1s}", "RouteOption"),
    ("options: {includeRequestAttemptCount: true}", "VirtualHostOption"),
    ("virtualHost: {domains: ['*']}\nstatus: {state: 1}", "VirtualService"),
    ("routes: []\nnamespacedStatuses: {statuses: {x: {state: Accepted}}}", "RouteTable"),
]


@pytest.mark.parametrize(("fields", "kind"), RECOGNISED)
def test_kind_by_fields(fields: str, kind: str) -> None:
    """A loose flat object is recognised by its fields."""
    (document,) = parse_documents((META + fields).encode(), "a.yaml")
    assert document.rejection is None
    assert document.ref == ObjectRef(kind, "ns", "a")


def test_kind_by_manifest() -> None:
    """A manifest says its kind itself, also where its fields leave a choice."""
    text = b"apiVersion: gateway.solo.io/v1\nkind: VirtualHostOption\nmetadata: {namespace: ns, name: a}\nspec: {}"
    (document,) = parse_documents(text, "a.yaml")
    assert document.ref == ObjectRef("VirtualHostOption", "ns", "a")
    assert document.rejection is None


def test_unknown_kind_of_manifest() -> None:
    """A manifest of another kind is refused, and the known kinds are named."""
    (document,) = parse_documents(b"apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {}", "a.yaml")
    assert document.ref == ObjectRef(UNKNOWN, "", "a.yaml")
    assert document.rejection is not None
    assert document.rejection.message.startswith("Pod is no kind of object; known are Artifact, ")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("options: {cors: {}}", "this may be a VirtualHostOption or RouteOption: say which by"),
        ("colour: red", "the fields do not say what kind of object this is: give apiVersion, kind and spec"),
        ("", "the fields do not say what kind of object this is: give apiVersion, kind and spec"),
    ],
)
def test_kind_cannot_be_told(fields: str, message: str) -> None:
    """What may be several kinds, or none, is refused with what helps."""
    (document,) = parse_documents((META + fields).encode(), "a.yaml")
    assert document.rejection is not None
    assert document.rejection.message.startswith(message)


@pytest.mark.parametrize(
    ("fields", "kind", "path", "message"),
    [
        ("virtualHosts: {}", "VirtualService", "virtualHosts", 'unknown field; did you mean "virtualHost"?'),
        (
            "virtualHost: {domain: []}",
            "VirtualService",
            "virtualHost.domain",
            'unknown field; did you mean "domains"?',
        ),
    ],
)
def test_misspelt(fields: str, kind: str, path: str, message: str) -> None:
    """A misspelt field does not hide the kind, so that the message says what was meant."""
    (document,) = parse_documents((META + fields).encode(), "a.yaml")
    assert document.ref == ObjectRef(kind, "ns", "a")
    assert document.rejection == (path, message)


def test_several_documents() -> None:
    """Documents stand between lines of dashes; empty ones do not count, and lines are those of the text."""
    text = f"""# first
---
{META}routes: []
---
# only a comment
--- # another
{META}virtualHost:
  domain: x
"""
    first, second = parse_documents(text.encode(), "a.yaml")
    assert (first.origin, first.ref.kind) == ("a.yaml, document 1", "RouteTable")
    assert (second.origin, second.ref.kind) == ("a.yaml, document 2", "VirtualService")
    assert second.rejection is not None
    assert second.rejection.message.endswith("(line 10)")


def test_certificate_is_no_separator() -> None:
    """The dashes of a certificate do not end a document."""
    text = META + "tls:\n  certChain: |\n    -----BEGIN CERTIFICATE-----\n    x\n    -----END CERTIFICATE-----\n"
    (document,) = parse_documents(text.encode(), "a.yaml")
    assert document.rejection is None


def test_json_array_and_list() -> None:
    """A JSON array and a Kubernetes List hold several objects."""
    one = '{"metadata":{"namespace":"ns","name":"a"},"routes":[]}'
    two = '{"metadata":{"namespace":"ns","name":"b"},"static":{}}'
    for text in (f"[{one},{two}]", f'{{"kind":"List","apiVersion":"v1","items":[{one},{two}]}}'):
        assert [document.ref.name for document in parse_documents(text.encode(), "x")] == ["a", "b"]


@pytest.mark.parametrize("text", [b"", b"---", b"# nothing", b"[1", b"a: [", b"\xff\xfe", b"[]", b"3", b"a: &a [*a]"])
def test_no_object(text: bytes) -> None:
    """What is no object is one rejected document with a reason, or nothing at all for an empty array."""
    found = parse_documents(text, "x")
    assert all(document.rejection is not None and document.rejection.message for document in found)
    assert len(found) == (0 if text == b"[]" else 1)


def test_too_many_documents() -> None:
    """The number of documents of a text is bounded."""
    (document,) = parse_documents(b"---\n".join([b"a: 1\n"] * (MAX_DOCUMENTS + 1)), "x")
    assert document.rejection is not None
    assert document.rejection.message == f"more than {MAX_DOCUMENTS} documents; split them"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_folder_in_all_layouts(tmp_path: Path) -> None:
    """One folder may mix the plural layout, the key tree and loose files; other files are left alone."""
    _write(tmp_path / "virtualservices/ns/other-name.yaml", META + "virtualHost: {}")
    _write(tmp_path / "gloo/gateway.solo.io/v1/RouteTable/ns/a", META + "routes: []")
    _write(tmp_path / "gloo/gateway.solo.io/v1/RouteTable/ns/b.yaml", META + "routes: []")
    _write(tmp_path / "gloo-system/default.yaml", "metadata: {namespace: ns, name: a}\ndiscoveryNamespace: ns")
    _write(tmp_path / "loose.yml", META + "static: {}")
    _write(tmp_path / "README.md", "not an object")
    _write(tmp_path / ".git/x.yaml", "not an object")
    found = {document.origin: document for document in read_paths([tmp_path])}
    assert {origin: str(document.ref) for origin, document in found.items()} == {
        "virtualservices/ns/other-name.yaml": "VirtualService ns.a",
        "gloo/gateway.solo.io/v1/RouteTable/ns/a": "RouteTable ns.a",
        "gloo/gateway.solo.io/v1/RouteTable/ns/b.yaml": "RouteTable ns.b",
        "gloo-system/default.yaml": "Settings ns.a",
        "loose.yml": "Upstream ns.a",
    }
    rejected = [origin for origin, document in found.items() if document.rejection is not None]
    assert rejected == ["gloo/gateway.solo.io/v1/RouteTable/ns/b.yaml"]  # its metadata says another name than its key


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that cannot be read is a problem of that file alone."""
    _write(tmp_path / "a.yaml", META + "routes: []")
    (tmp_path / "b.yaml").symlink_to(tmp_path / "a.yaml")
    big = tmp_path / "c.yaml"
    with big.open("wb") as out:
        out.truncate(20_000_000)
    first, link, large = read_paths([tmp_path])
    assert first.rejection is None
    assert link.rejection is None
    assert large.rejection is not None
    assert large.rejection.message == "larger than 8388608 bytes; split the file"


def test_names_of_kinds() -> None:
    """A kind is known by its name, plural and short name in any case."""
    for kind in KINDS.values():
        assert kind_named(kind.name.upper()) is kind
        assert kind_named(kind.plural) is kind
    for alias, kind in ALIASES.items():
        assert kind_named(alias) is kind
    assert kind_named("vs") is KINDS["VirtualService"]
    assert kind_named("nothing") is None


@pytest.mark.parametrize("name", ["a", "a-b.c", "0", "a" * 253])
def test_good_names(name: str) -> None:
    """DNS-1123 subdomains are names."""
    assert check_name(Ref("ns", name)) is None


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a..b", "a/b", "a_b", "a\n", "ü", "a" * 254, "..", "."])
def test_bad_names(name: str) -> None:
    """Everything else is refused, and the message says what is allowed."""
    for ref, path in ((Ref("ns", name), "metadata.name"), (Ref(name, "a"), "metadata.namespace")):
        rejection = check_name(ref)
        assert rejection is not None
        assert rejection.path == path
        assert "lower-case letters" in rejection.message
