"""Objects as users write them: what is accepted, and what the answer to a mistake says."""

import json

import pytest
from google.protobuf import json_format

from gloo_nomad.api import codec, kinds
from gloo_nomad.api.codec import decode
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

    @pytest.mark.parametrize(
        "value",
        ["7123e456", "-1E400", "0x10000000000000000", "-0x8000000000000001", "0o17777777777777777777777",
         "0x_", "-0b__", "0o_"],
    )  # fmt: skip
    def test_no_number_for_go(self, value: str) -> None:
        """What Go's YAML takes for no number, and so writes without quotes, is text: a commit in a label."""
        assert codec.parse_document(f"a: {value}\n".encode()) == {"a": value}

    @pytest.mark.parametrize("value", ["1e308", "0xffffffffffffffff", "-0x8000000000000000", "0x_f", "0b11", "0o17"])
    def test_numbers_of_64_bits(self, value: str) -> None:
        """The largest numbers, and those with a prefix, are numbers still."""
        assert isinstance(codec.parse_document(f"a: {value}\n".encode())["a"], int | float)
