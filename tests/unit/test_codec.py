"""Objects as users write them: what is accepted, and what the answer to a mistake says."""

import json

import pytest
from google.protobuf import json_format

from gloo_nomad.api import codec, kinds
from gloo_nomad.api.codec import Rejection, decode
from gloo_nomad.api.gen import gateway_pb2, upstream_pb2
from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import ObjectRef, Ref

NAME = Ref("gloo-system", "default")
GOOD = """\
metadata:
  name: default
  namespace: gloo-system
virtualHost:
  domains: ["*"]
  routes:
  - matchers:
    - prefix: /a
    routeAction:
      single:
        upstream:
          name: echo
          namespace: gloo-system
    options:
      timeout: 1.5s
      prefixRewrite: /
"""


def message_of(text: str, kind: Kind = kinds.VIRTUAL_SERVICE) -> gateway_pb2.VirtualService:
    """The accepted object."""
    decoded = decode(kind, text.encode(), NAME)
    assert decoded.rejection is None
    assert isinstance(decoded.message, gateway_pb2.VirtualService)
    return decoded.message


def rejection_of(text: str | bytes, kind: Kind = kinds.VIRTUAL_SERVICE) -> Rejection:
    """Why the text is no object; nothing of it is served, and the name is the one that is stored."""
    decoded = decode(kind, text.encode() if isinstance(text, str) else text, NAME)
    assert decoded.message is None
    assert decoded.ref == kind.object_ref(NAME)
    assert decoded.rejection is not None
    return decoded.rejection


class TestAccepted:
    """What Gloo's users have stored."""

    def test_yaml(self) -> None:
        """A flat YAML document becomes the message."""
        message = message_of(GOOD)

        route = message.virtual_host.routes[0]
        assert list(message.virtual_host.domains) == ["*"]
        assert route.matchers[0].prefix == "/a"
        assert route.options.timeout.ToMilliseconds() == 1500
        assert route.options.prefix_rewrite.value == "/"

    def test_reference(self) -> None:
        """The object is known by kind, namespace and name."""
        assert decode(kinds.VIRTUAL_SERVICE, GOOD.encode()).ref == ObjectRef("VirtualService", "gloo-system", "default")

    @pytest.mark.parametrize("indent", [None, 2])
    def test_json(self, indent: int | None) -> None:
        """JSON means the same as YAML."""
        document = codec.parse_document(GOOD.encode())

        assert message_of(json.dumps(document, indent=indent)) == message_of(GOOD)

    def test_yaml_that_begins_with_a_brace(self) -> None:
        """YAML's flow style is not taken for broken JSON."""
        text = "{metadata: {name: default, namespace: gloo-system}, displayName: shop,}"

        assert message_of(text).display_name == "shop"

    def test_snake_case(self) -> None:
        """Names as the .proto files write them are accepted too."""
        snake = GOOD.replace("virtualHost", "virtual_host").replace("prefixRewrite", "prefix_rewrite")

        assert message_of(snake) == message_of(GOOD)

    def test_manifest(self) -> None:
        """A Kubernetes manifest is the same object; what only Kubernetes has is left out."""
        document = codec.parse_document(GOOD.encode())
        metadata = {**document.pop("metadata"), "uid": "1-2", "creationTimestamp": "2026-01-31T12:00:00Z"}
        manifest = {
            "apiVersion": "gateway.solo.io/v1",
            "kind": "VirtualService",
            "metadata": metadata,
            "spec": document,
        }

        assert message_of(json.dumps(manifest)) == message_of(GOOD)

    def test_manifest_of_a_rate_limit(self) -> None:
        """What a manifest has below spec stands beside metadata here."""
        text = (
            "apiVersion: ratelimit.solo.io/v1alpha1\nkind: RateLimitConfig\n"
            "metadata: {name: default, namespace: gloo-system}\nspec: {raw: {descriptors: [{key: a}]}}\n"
            "status: {state: 1}\n"
        )

        decoded = decode(kinds.RATE_LIMIT_CONFIG, text.encode(), NAME)

        assert decoded.message is not None
        assert decoded.message.raw.descriptors[0].key == "a"  # type: ignore[attr-defined]
        assert decoded.status == {"": {"state": 1}}

    def test_leftover_status(self) -> None:
        """A single status from older versions is ignored."""
        assert message_of(GOOD + "status: {state: 1, foo: bar}\n") == message_of(GOOD)

    def test_statuses_are_not_part_of_the_message(self) -> None:
        """Statuses and the resource version do not change the message, so writing them wakes nobody."""
        text = GOOD.replace("gloo-system\nvirtual", 'gloo-system\n  resourceVersion: "17"\nvirtual')
        text += "namespacedStatuses: {statuses: {gloo-system: {state: Accepted, reportedBy: gloo}}}\n"

        decoded = decode(kinds.VIRTUAL_SERVICE, text.encode(), NAME)

        assert decoded.message == message_of(GOOD)
        assert decoded.status == {"gloo-system": {"state": "Accepted", "reportedBy": "gloo"}}

    def test_null_is_unset(self) -> None:
        """A field without a value is a field that is not there."""
        assert message_of(GOOD + "sslConfig:\ndisplayName: null\n") == message_of(GOOD)

    def test_empty_message_is_set(self) -> None:
        """An empty mapping is present: that switches things on."""
        text = "metadata: {name: default, namespace: gloo-system}\nhttpGateway: {}\n"

        decoded = decode(kinds.GATEWAY, text.encode(), NAME)

        assert decoded.message is not None
        assert decoded.message.HasField("http_gateway")

    @pytest.mark.parametrize(
        ("written", "milliseconds"),
        [("1.5s", 1500), ("0s", 0), ("-1s", -1000), ("500ms", 500), ("1m30s", 90_000), ("1h", 3_600_000), ("0", 0)],
    )
    def test_durations(self, written: str, milliseconds: int) -> None:
        """Seconds as protobuf writes them, and Go's units that the reference takes as well."""
        message = message_of(GOOD.replace("1.5s", f'"{written}"'))

        assert message.virtual_host.routes[0].options.timeout.ToMilliseconds() == milliseconds

    def test_enums(self) -> None:
        """An enum is written by name or by number."""
        head = "metadata: {name: default, namespace: gloo-system}\n"
        text = head + "virtualHost: {routes: [{redirectAction: {responseCode: %s}}]}\n"

        named = message_of(text % "FOUND")

        assert named == message_of(text % 1)
        assert named.virtual_host.routes[0].redirect_action.response_code == 1

    def test_bytes(self) -> None:
        """Bytes are base64, padded or not, in one line or many."""
        certificate = "metadata: {name: default, namespace: gloo-system}\ntls:\n  ocspStaple: %s\n"

        answers = [
            decode(kinds.SECRET, (certificate % text).encode()).message
            for text in ("+/+/AA==", "-_-_AA", "|\n    +/+/\n    AA==\n")
        ]

        assert {answer.tls.ocsp_staple for answer in answers} == {b"\xfb\xff\xbf\x00"}  # type: ignore[union-attr]

    def test_struct(self) -> None:
        """Free-form settings keep their shape."""
        text = GOOD.replace("timeout: 1.5s", "extensions: {configs: {mine: {a: [1, {b: null}], c: yes}}}")

        config = message_of(text).virtual_host.routes[0].options.extensions.configs["mine"]

        assert json_format.MessageToDict(config) == {"a": [1, {"b": None}], "c": True}

    def test_large_and_small_numbers(self) -> None:
        """64-bit numbers may be text, whole numbers may end in .0."""
        text = "metadata: {name: default, namespace: gloo-system, generation: '9007199254740993'}\nport: 80.0\n"

        decoded = decode(kinds.ENDPOINT, text.encode(), NAME)

        assert decoded.message is not None
        assert decoded.message.metadata.generation == 9007199254740993  # type: ignore[attr-defined]
        assert decoded.message.port == 80  # type: ignore[attr-defined]

    def test_keys_are_text_as_written(self) -> None:
        """A label named on, 1.10 or null is that label."""
        labels = "  labels: {on: a, 1.10: b, null: c}\nvirtualHost"

        message = message_of(GOOD.replace("virtualHost", labels, 1))

        assert dict(message.metadata.labels) == {"on": "a", "1.10": "b", "null": "c"}

    def test_times_are_text(self) -> None:
        """What looks like a date or a time of the day is text."""
        labels = "  labels: {since: 2026-01-31, at: 12:30:15}\nvirtualHost"

        message = message_of(GOOD.replace("virtualHost", labels, 1))

        assert dict(message.metadata.labels) == {"since": "2026-01-31", "at": "12:30:15"}

    def test_anchors_and_merges(self) -> None:
        """Aliases and << work; what stands beside << wins."""
        text = """
metadata: {name: default, namespace: gloo-system}
virtualHost:
  options: &base {includeRequestAttemptCount: true, includeAttemptCountInResponse: true}
  routes:
  - &one {matchers: [{prefix: /a}], directResponseAction: &no {status: 404, body: none}}
  - {<<: *one, matchers: [{prefix: /b}]}
  - {matchers: [{prefix: /c}], directResponseAction: *no}
"""
        routes = message_of(text).virtual_host.routes

        assert [route.matchers[0].prefix for route in routes] == ["/a", "/b", "/c"]
        assert {route.direct_response_action.status for route in routes} == {404}


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


class TestEncode:
    """Objects as they are written."""

    def test_round_trip(self) -> None:
        """What is written is read back, as YAML and as JSON."""
        message = message_of(GOOD)
        document = codec.encode(message, {"gloo-system": {"state": "Accepted"}}, kind=kinds.VIRTUAL_SERVICE)

        for text in (codec.to_yaml(document), codec.to_json(document)):
            decoded = decode(kinds.VIRTUAL_SERVICE, text.encode(), NAME)
            assert decoded.message == message
            assert decoded.status == {"gloo-system": {"state": "Accepted"}}

    def test_names(self) -> None:
        """Fields are written in lowerCamelCase, enums by name, the status as the contract has it."""
        upstream = upstream_pb2.Upstream(ssl_config={"sni": "a"}, discovery_metadata={})  # type: ignore[arg-type]

        assert codec.encode(upstream) == {"sslConfig": {"sni": "a"}, "discoveryMetadata": {}}

    def test_single_status(self) -> None:
        """A RateLimitConfig has one status."""
        document = codec.encode(
            kinds.RATE_LIMIT_CONFIG.message(), {"": {"state": "ACCEPTED"}}, kind=kinds.RATE_LIMIT_CONFIG
        )

        assert document == {"status": {"state": "ACCEPTED"}}

    @pytest.mark.parametrize(
        "value",
        ["yes", "on", "1e3", "0x10", "12:30", "2026-01-31", "", "~", "y", "1_000", ".5", "- a", "a: b", "# c", "a\nb\n",
         " a\n b", "\ttab", "é", "\x7f", "'", '"', "=", "<<", "-----BEGIN-----\nMII\n-----END-----\n", "!x", "&x"],
    )  # fmt: skip
    def test_text_stays_text(self, value: str) -> None:
        """Whatever text looks like, YAML says that it is text."""
        assert codec.parse_document(codec.to_yaml({"a": value, value: 1}).encode()) == {"a": value, value: 1}
