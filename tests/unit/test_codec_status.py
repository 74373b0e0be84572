"""Statuses are written into the stored text, and nothing else of it changes."""

import json
from typing import Any

import pytest

from gloo_nomad.api import codec, kinds
from gloo_nomad.api.codec import decode, with_status
from gloo_nomad.api.refs import Ref

NAME = Ref("gloo-system", "default")
ACCEPTED = {"state": "Accepted", "reportedBy": "gloo"}
TEXT = b"""\
# written by hand
virtual_host:
  routes: [{matchers: [{prefix: "/a"}], directResponseAction: {status: 200, body: "yes"}}]
  domains: ['*']
metadata: {namespace: gloo-system, name: default, labels: {version: "1.10", on: "0x10"}}
"""


def written(text: bytes, kind: kinds.Kind = kinds.VIRTUAL_SERVICE, reporter: str = "gloo-system") -> dict[str, Any]:
    """The document after a status was written into it."""
    return codec.parse_document(with_status(text, kind, reporter, ACCEPTED))


def test_yaml_keeps_spelling_and_order() -> None:
    """Names, values and the order of keys stay; the statuses come last."""
    before, after = codec.parse_document(TEXT), written(TEXT)

    assert list(after) == ["virtual_host", "metadata", "namespacedStatuses"]
    assert after.pop("namespacedStatuses") == {"statuses": {"gloo-system": ACCEPTED}}
    assert after == before
    assert list(after["virtual_host"]) == ["routes", "domains"]


def test_message_is_the_same() -> None:
    """Writing a status does not change what the object means."""
    before = decode(kinds.VIRTUAL_SERVICE, TEXT, NAME)
    after = decode(kinds.VIRTUAL_SERVICE, with_status(TEXT, kinds.VIRTUAL_SERVICE, "gloo-system", ACCEPTED), NAME)

    assert before.message is not None
    assert after.message == before.message
    assert after.status == {"gloo-system": ACCEPTED}


def test_twice_is_the_same() -> None:
    """The same status again gives the same bytes."""
    once = with_status(TEXT, kinds.VIRTUAL_SERVICE, "gloo-system", ACCEPTED)

    assert with_status(once, kinds.VIRTUAL_SERVICE, "gloo-system", ACCEPTED) == once


def test_other_reporters_stay() -> None:
    """A status belongs to its reporter."""
    text = TEXT + b"namespaced_statuses: {statuses: {other: {state: 2}, mine: {state: 2}}}\n"

    after = written(text, reporter="mine")

    assert after["namespaced_statuses"] == {"statuses": {"other": {"state": 2}, "mine": ACCEPTED}}
    assert "namespacedStatuses" not in after


@pytest.mark.parametrize("value", [b"null", b"3", b"{statuses: null}", b"{statuses: [1]}"])
def test_statuses_of_the_wrong_shape(value: bytes) -> None:
    """What cannot be a status is replaced."""
    after = written(TEXT + b"namespacedStatuses: " + value + b"\n")

    assert after["namespacedStatuses"] == {"statuses": {"gloo-system": ACCEPTED}}


def test_json_stays_json() -> None:
    """One line stays one line, an indented text stays indented."""
    document = codec.parse_document(TEXT)

    one_line = with_status(json.dumps(document).encode(), kinds.VIRTUAL_SERVICE, "a", ACCEPTED)
    indented = with_status(json.dumps(document, indent=4).encode(), kinds.VIRTUAL_SERVICE, "a", ACCEPTED)

    assert b"\n" not in one_line
    assert indented.count(b"\n") > 10
    assert json.loads(one_line) == json.loads(indented)
    assert list(json.loads(one_line)) == ["virtual_host", "metadata", "namespacedStatuses"]


def test_manifest() -> None:
    """A manifest has its statuses where Kubernetes has them."""
    text = b"apiVersion: gateway.solo.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: b}\nspec: {}\n"

    assert written(text)["status"] == {"statuses": {"gloo-system": ACCEPTED}}


def test_single_status() -> None:
    """A RateLimitConfig has one status, replaced as a whole."""
    text = b"metadata: {name: a, namespace: b}\nstatus: {state: PENDING, message: x}\n"

    assert written(text, kinds.RATE_LIMIT_CONFIG)["status"] == ACCEPTED


def test_rejected_object() -> None:
    """An object with an unknown field gets its status too, and keeps the field."""
    after = written(b"metadata: {name: a, namespace: b}\nfoo: 1\n")

    assert after["foo"] == 1
    assert after["namespacedStatuses"]["statuses"]["gloo-system"] == ACCEPTED


@pytest.mark.parametrize("text", [b"", b"a: [", b"\xff", b"[1]"])
def test_no_document(text: bytes) -> None:
    """A text that is no document cannot hold a status, and is left alone."""
    with pytest.raises(ValueError, match=r"."):
        with_status(text, kinds.VIRTUAL_SERVICE, "gloo-system", ACCEPTED)


def test_kind_without_status() -> None:
    """Secrets have no status: nothing is ever written into them."""
    with pytest.raises(ValueError, match="a Secret has no status"):
        with_status(TEXT, kinds.SECRET, "gloo-system", ACCEPTED)


def test_too_large() -> None:
    """A status that would make the value larger than Consul takes is not written."""
    text = json.dumps({"metadata": {"name": "a"}, "x": "y" * (codec.MAX_BYTES - 100)}).encode()

    with pytest.raises(ValueError, match="more than 524288"):
        with_status(text, kinds.VIRTUAL_SERVICE, "gloo-system", ACCEPTED)
