"""Mistakes in objects: each gets one line that says where it is and what would be right."""

import json

import pytest

from gloo_nomad.api import kinds
from gloo_nomad.api.codec import Rejection, decode
from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import ObjectRef
from tests.unit.test_codec import GOOD, NAME


def rejection_of(text: str | bytes, kind: Kind = kinds.VIRTUAL_SERVICE) -> Rejection:
    """Why the text is no object; nothing of it is served, and the name is the one that is stored."""
    decoded = decode(kind, text.encode() if isinstance(text, str) else text, NAME)
    assert decoded.message is None
    assert decoded.ref == kind.object_ref(NAME)
    assert decoded.rejection is not None
    return decoded.rejection


MISTAKES = [
    ("1.5s", "xx", "virtualHost.routes[0].options.timeout", '"xx" is not a duration; write for example 1.5s'),
    ("1.5s", "5", "virtualHost.routes[0].options.timeout", "expected a duration, found a number; write for example"),
    ("1.5s", "99999999999h", "virtualHost.routes[0].options.timeout", "is longer than"),
    ("prefix: /a", "prefx: /a", "virtualHost.routes[0].matchers[0].prefx", 'unknown field; did you mean "prefix"?'),
    ("prefix: /a", "zzz: /a", "virtualHost.routes[0].matchers[0].zzz", "unknown field; Matcher has prefix, exact"),
    ("prefix: /a", "prefix: 12", "virtualHost.routes[0].matchers[0].prefix", "expected text, found a number; put"),
    ("prefix: /a", "prefix: yes", "virtualHost.routes[0].matchers[0].prefix", "expected text, found a boolean"),
    ("prefix: /a", "exact: /b\n      prefix: /a", "virtualHost.routes[0].matchers[0].prefix", "only one of"),
    ("prefix: /a", "methods: [GET, null]", "virtualHost.routes[0].matchers[0].methods[1]", "found nothing"),
    ("prefix: /a", 'prefix: "\\ud800"', "", "not valid YAML: line 8"),
    ('["*"]', "3", "virtualHost.domains", "expected a list, found a number"),
    ('["*"]', "'*'", "virtualHost.domains", "expected a list, found text"),
    ("prefixRewrite: /", "prefixRewrite: {a: 1}", "virtualHost.routes[0].options.prefixRewrite", "found a mapping"),
    ("options:", "options: 3\n    foo:", "virtualHost.routes[0].options", "expected a mapping, found a number"),
    ("    options:", "    - b", "", "not valid YAML: line "),
    ("prefixRewrite: /", "upgrades: {}", "virtualHost.routes[0].options.upgrades", "expected a list, found a mapping"),
    ("prefixRewrite: /", "prefix_rewrite: /\n      prefixRewrite: /", "virtualHost.routes[0].options.prefixRewrite",
     '"prefix_rewrite" and "prefixRewrite" are the same field; remove one'),
    ("prefixRewrite: /", "timeout: 2s", "virtualHost.routes[0].options.timeout",
     'the key "timeout" stands twice, the second time in line 16; remove one'),
    ("prefixRewrite: /", "retries: {numRetries: -1}", "virtualHost.routes[0].options.retries.numRetries",
     "-1 is out of range (0 to 4294967295)"),
    ("prefixRewrite: /", "retries: {numRetries: 1.5}", "virtualHost.routes[0].options.retries.numRetries",
     "expected a whole number, found 1.5"),
    ("prefixRewrite: /", "retries: {numRetries: many}", "virtualHost.routes[0].options.retries.numRetries",
     "expected a whole number, found text"),
    ("prefixRewrite: /", "faults: {abort: {percentage: .nan}}", "virtualHost.routes[0].options.faults.abort.percentage",
     "expected a finite number, found nan"),
    ("prefixRewrite: /", "autoHostRewrite: 1", "virtualHost.routes[0].options.autoHostRewrite",
     "expected true or false, found a number"),
    ("name: default", "name: other", "metadata",
     "says gloo-system.other, but the object is stored as gloo-system.default; make them equal"),
    ("  name: default\n", "", "metadata.name", "is required; add name below metadata"),
    ("  namespace: gloo-system\nv", "v", "metadata.namespace", "is required"),
    ("name: default", "name: a b", "metadata.name", '"a b" must be 1 to 253 characters without spaces and slashes'),
    ("name: default", "name: default\n  labels: {app: 3}", "metadata.labels[app]", "expected text, found a number"),
]  # fmt: skip


class TestMistakes:
    """Each mistake rejects that object alone, with the place as written and a remedy."""

    @pytest.mark.parametrize(("old", "new", "path", "message"), MISTAKES)
    def test_field(self, old: str, new: str, path: str, message: str) -> None:
        """The path is the user's own spelling, the message says what would be right."""
        rejection = rejection_of(GOOD.replace(old, new, 1))

        assert rejection.path == path
        assert message in rejection.message

    def test_line(self) -> None:
        """A text of many lines is told where the value stands."""
        assert rejection_of(GOOD.replace("1.5s", "xx")).message.endswith("(line 15)")

    def test_no_line_of_a_large_text(self) -> None:
        """In a very large text the line is not looked for, which would cost as much as reading it again."""
        message = rejection_of(GOOD.replace("1.5s", "xx") + "#\n" * 40_000).message

        assert message == '"xx" is not a duration; write for example 1.5s'

    def test_twice_before_deep_nesting(self) -> None:
        """An error that is found first does not lead into what comes after it."""
        assert "stands twice" in rejection_of("a: 1\na: 2\nb: " + "[" * 200_000).message

    def test_enum(self) -> None:
        """An unknown name or number is answered with the known names."""
        head = "metadata: {name: default, namespace: gloo-system}\n"
        text = head + "virtualHost: {routes: [{redirectAction: {responseCode: %s}}]}"

        for value in ("moved", "301"):
            rejection = rejection_of(text % value)
            assert rejection.path == "virtualHost.routes[0].redirectAction.responseCode"
            assert "is not one of MOVED_PERMANENTLY, FOUND, SEE_OTHER" in rejection.message

    def test_manifest_path(self) -> None:
        """In a manifest the path begins with spec, as written."""
        spec = "".join(f"  {line}\n" for line in GOOD.splitlines()[3:]).replace("1.5s", "xx")
        text = f"kind: VirtualService\nmetadata: {{name: default, namespace: gloo-system}}\nspec:\n{spec}"

        assert rejection_of(text).path == "spec.virtualHost.routes[0].options.timeout"

    @pytest.mark.parametrize(
        ("text", "path", "message"),
        [
            ("kind: Gateway", "kind", '"Gateway" is stored where a VirtualService belongs'),
            (
                "apiVersion: gateway.networking.k8s.io/v1",
                "apiVersion",
                "is stored where a VirtualService of gateway.solo.io",
            ),
            ("spec: 3", "spec", "expected a mapping, found a number"),
            ("spec: {}\nmetadata: []", "metadata", "expected a mapping, found a list"),
            ("spec: {}\nvirtualHost: {}", "virtualHost", "is no part of a Kubernetes manifest; put it below spec"),
        ],
    )
    def test_manifest(self, text: str, path: str, message: str) -> None:
        """A manifest of something else, or one that is half flat, is refused."""
        rejection = rejection_of(text)

        assert rejection.path == path
        assert message in rejection.message

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"", "the value is empty"),
            (b"  \n\t\n", "the value is empty"),
            (b"# nothing\n---\n", "the value holds comments only"),
            (b"null", "the value holds comments only"),
            (b"hello", "expected a mapping with metadata, found text"),
            (b"[1, 2]", "expected a mapping with metadata, found a list"),
            (b"42", "expected a mapping with metadata, found a number"),
            (b"a: [", "not valid YAML: line 2, column 1: did not find expected node"),
            (b'{"a": ', "not valid YAML: line 2"),
            (b"a: 1\n b: 2\n", "not valid YAML: line 2"),
            (b"a: *b\n", "the alias *b names nothing"),
            (b"a: &b [*b]\n", "the alias *b names nothing"),
            (b"a: !!python/object/apply:os.system [true]\n", "has no meaning here"),
            (b"a: !secret x\n", "has no meaning here"),
            (b"? [a, b]\n: c\n", "a key must be plain text"),
            (b"<<: 3\n", "<< takes a mapping"),
            (b"a: 1\n---\nb: 2\n", "a second document begins"),
            (b"\x00\x01\x02", "not valid YAML"),
            (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8 text: byte 1 is 0x89"),
            (b"\xff\xfea\x00:\x00", "not UTF-8 text"),
            (b"a: \xc3\x28", "not UTF-8 text: byte 4 is 0xc3"),
            (b"[" * 100_000, "nested deeper than 64 levels"),
            (b'{"a":' * 100_000, "nested deeper than 64 levels"),
            (b'{"a":' * 80 + b"1" + b"}" * 80, "nested deeper than 64 levels"),
            (b'{"a":1,"b":{"c":1,"c":2}}', 'the key "c" stands twice'),
            (b'{"a":[' + b"1," * 200_001 + b"1]}", "more than 200000 values"),
        ],
    )
    def test_no_document(self, text: bytes, message: str) -> None:
        """Whatever bytes a value has, the answer is one line."""
        rejection = rejection_of(text)

        assert rejection.path == ""
        assert message in rejection.message
        assert "\n" not in rejection.message

    def test_too_large(self) -> None:
        """More than Consul's 512 KiB is refused from every source."""
        text = GOOD + "#" * (600 * 1024)

        assert "614" in rejection_of(text).message
        assert "at most 524288 are accepted" in rejection_of(text).message

    def test_yaml_bomb(self) -> None:
        """Aliases that multiply are counted before they are resolved."""
        text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
        )

        assert "after resolving aliases" in rejection_of(text).message

    def test_yaml_bomb_of_depth(self) -> None:
        """Aliases that nest are counted as well."""
        text = "a0: &a0 [x]\n" + "".join(f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, 100))

        assert "nested deeper than 64 levels after resolving aliases" in rejection_of(text).message

    def test_no_secret_is_repeated(self) -> None:
        """What stands where a secret belongs is never part of the message."""
        for value in ("4711471147", "[hunter2hunter2]", "{a: hunter2hunter2}"):
            text = f"metadata: {{name: default, namespace: gloo-system}}\ntls: {{privateKey: {value}, ocspStaple: =}}\n"
            message = rejection_of(text, kinds.SECRET).message
            assert "4711" not in message
            assert "hunter2" not in message

    def test_hostile_names(self) -> None:
        """A huge or unprintable key is shown short and on one line, and costs nothing."""
        rejection = rejection_of(json.dumps({"x" * 400_000: 1}))
        assert len(rejection.path) < 100

        rejection = rejection_of(json.dumps({"metadata": {"labels": {"a\n\x1b[31m": 1}}}))
        assert rejection.path == "metadata.labels[a\\n\\u001b[31m]"

    def test_name_that_is_stored(self) -> None:
        """The problem is addressed to the key, whatever the value says."""
        decoded = decode(kinds.UPSTREAM, b"metadata: {name: a, namespace: b}\nstatic: {}", NAME)

        assert decoded.message is None
        assert decoded.ref == ObjectRef("Upstream", "gloo-system", "default")

    def test_name_that_is_written(self) -> None:
        """Where no key gives a name, the problem is addressed to the one in the text, if there is one."""
        for text, ref in {
            "metadata: {name: a, namespace: b}\nfoo: 1": ("b", "a"),
            "metadata: {name: a}": ("", "a"),
            "metadata: {name: 3, namespace: [b]}": ("", ""),
            "metadata: {name: a/b, namespace: 'x y'}": ("", ""),
            "metadata: 3": ("", ""),
            "a: [": ("", ""),
        }.items():
            assert decode(kinds.UPSTREAM, text.encode()).ref == ObjectRef("Upstream", *ref)

    def test_rejected_objects_keep_their_status(self) -> None:
        """The status of a rejected object is read, so that it is not written again and again."""
        text = GOOD.replace("1.5s", "xx") + "namespacedStatuses: {statuses: {gloo-system: {state: Rejected}}}\n"

        decoded = decode(kinds.VIRTUAL_SERVICE, text.encode(), NAME)

        assert decoded.message is None
        assert decoded.status == {"gloo-system": {"state": "Rejected"}}

    def test_statuses_of_the_wrong_shape(self) -> None:
        """Whatever stands where statuses belong does not matter to the object."""
        for value in ("3", "[]", "{statuses: 3}", "{foo: {}}", "null"):
            decoded = decode(kinds.VIRTUAL_SERVICE, f"{GOOD}namespacedStatuses: {value}\n".encode(), NAME)
            assert decoded.message is not None
            assert decoded.status == {}
