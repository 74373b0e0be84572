"""Nothing is dropped in silence: a field that no module makes work is named, at any depth."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from gloo_nomad.api.gen import core_pb2, route_options_pb2, secret_pb2, virtual_host_options_pb2
from gloo_nomad.options.claims import unclaimed
from gloo_nomad.options.hooks import extension_claims
from gloo_nomad.reports import Severity

ROUTE = "gloo.solo.io.RouteOptions"


def paths(document: dict[str, Any], claims: Mapping[str, frozenset[str]], message: Any = None) -> list[str]:
    """Where warnings are."""
    out = message or route_options_pb2.RouteOptions()
    json_format.ParseDict(document, out)
    findings = list(unclaimed(out, claims))
    assert all(finding.severity is Severity.WARNING for finding in findings)
    assert all("is not supported" in finding.message for finding in findings)
    return [finding.path for finding in findings]


def claims(**fields: str) -> Mapping[str, frozenset[str]]:
    """Claims of route options and of what is below them, written shortly."""
    names = {
        "route": ROUTE,
        "retries": "retries.options.gloo.solo.io.RetryPolicy",
        "headers": "headers.options.gloo.solo.io.HeaderManipulation",
        "header": "solo.io.envoy.api.v2.core.HeaderValueOption",
        "metadata": "core.solo.io.Metadata",
        "owner": "core.solo.io.Metadata.OwnerReference",
        "status": "core.solo.io.Status",
    }
    return {names[key]: frozenset(value.split()) for key, value in fields.items()}


def test_claimed() -> None:
    """What is claimed is no warning."""
    assert paths({"timeout": "1s", "prefixRewrite": "/"}, claims(route="timeout prefix_rewrite")) == []


def test_unclaimed() -> None:
    """What is not claimed is named as the user writes it, in the order of the contract."""
    document = {"timeout": "1s", "prefixRewrite": "/", "retries": {"numRetries": 1}}

    assert paths(document, claims(route="retries")) == ["prefixRewrite", "timeout"]


def test_below() -> None:
    """A claimed field is looked into if its message has claims of its own."""
    document = {"retries": {"numRetries": 1, "retryOn": "5xx"}}

    assert paths(document, claims(route="retries", retries="retry_on")) == ["retries.numRetries"]
    assert paths(document, claims(route="retries")) == []


def test_lists() -> None:
    """Items of a list are counted from 0."""
    headers = [{"header": {"key": "a"}}, {"header": {"key": "b"}, "append": True}]
    document = {"headerManipulation": {"requestHeadersToAdd": headers}}
    claimed = claims(route="header_manipulation", headers="request_headers_to_add", header="header")

    assert paths(document, claimed) == ["headerManipulation.requestHeadersToAdd[1].append"]


def test_maps() -> None:
    """Keys of a map stand in brackets, in their order; a map of plain values has nothing below."""
    document = {"subresourceStatuses": {"b": {"reason": "x"}, "a": {"state": 1}}, "reason": "y"}
    claimed = claims(status="subresource_statuses state")

    assert paths(document, claimed, core_pb2.Status()) == ["reason", "subresourceStatuses[b].reason"]
    assert paths({"labels": {"a": "b"}}, claims(metadata="labels"), core_pb2.Metadata()) == []


def test_everything() -> None:
    """A star claims all fields of a message, and what is below them is still looked into."""
    document = {"name": "a", "ownerReferences": [{"uid": "1", "name": "b"}]}

    assert paths(document, claims(metadata="*", owner="name"), core_pb2.Metadata()) == ["ownerReferences[0].uid"]


def test_nobody_knows_the_message() -> None:
    """A message without any claim is the business of whoever holds it."""
    assert paths({"tls": {"certChain": "x"}}, claims(route="timeout"), secret_pb2.Secret()) == []


def test_only_what_is_set() -> None:
    """An empty message has nothing to warn of; an explicitly empty part has."""
    out = virtual_host_options_pb2.VirtualHostOptions()
    empty: Mapping[str, frozenset[str]] = {"gloo.solo.io.VirtualHostOptions": frozenset()}

    assert paths({}, empty, out) == []
    assert paths({"cors": {}}, empty, out) == ["cors"]


def test_names_of_extensions() -> None:
    """Of extensions outside the contract those that some module reads are known by name; others are named."""
    out = json_format.ParseDict(
        {"extensions": {"configs": {"known": {}, "other": {}}}}, route_options_pb2.RouteOptions()
    )
    claimed = {ROUTE: frozenset({"extensions"}), extension_claims(ROUTE): frozenset({"known"})}

    assert [(finding.path, finding.message) for finding in unclaimed(out, claimed)] == [
        ("extensions.configs[other]", "is no extension that is known here; it has no effect")
    ]
