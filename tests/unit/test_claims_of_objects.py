"""Who had a domain or an address first: known while running, and from the status after a restart."""

from dataclasses import replace
from typing import Any

from gloo_nomad.api import codec
from gloo_nomad.api.gen import gateway_pb2, ssl_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.claims import MAX_STORED, details_for, server_names, stored_claims
from gloo_nomad.store.statuses import build_status, is_same
from gloo_nomad.store.store import Store

NAME = Ref("gloo-system", "a")
SERVICE = "VirtualService"
CONFLICT = Problem(Severity.ERROR, ObjectRef(SERVICE, *NAME), "virtualHost.domains", "domain conflict")


def entry(version: int, *domains: str, status: dict[str, Any] | None = None, kind: str = SERVICE) -> Entry:
    """A virtual service, made at version 1."""
    document = {"metadata": {"name": NAME.name, "namespace": NAME.namespace}, "virtualHost": {"domains": domains}}
    if kind == "Gateway":
        document = {**document, "bindAddress": "::", "bindPort": int(domains[0])}
        del document["virtualHost"]
    decoded = codec.decode(KINDS[kind], codec.to_json(document).encode(), NAME)
    assert decoded.message is not None
    return Entry(decoded.message, status=status or {}, version=version, created=1)


def claims(*entries: Entry, kind: str = SERVICE) -> dict[str, int]:
    """What is claimed later than the object exists, after these versions of it."""
    store = Store()
    for each in entries:
        store.apply(Change("test", kind, {NAME: each}))
    return dict(store.snapshot.claimed.get(kind, {}).get(NAME, {}))


def test_what_an_edit_adds_is_claimed_since_the_edit() -> None:
    """What was there from the beginning is as old as the object; what comes, goes and comes again is as old as that."""
    assert claims(entry(1, "a.com")) == {}
    assert claims(entry(1, "a.com"), entry(5, "A.com", "b.com")) == {"b.com": 5}
    assert claims(entry(1, "a.com"), entry(5, "a.com", "b.com"), entry(9, "a.com", "b.com", "c.com")) == {
        "b.com": 5,
        "c.com": 9,
    }
    assert claims(entry(1, "a.com"), entry(5), entry(9, "a.com")) == {"a.com": 9}
    assert claims(entry(1, "80", kind="Gateway"), entry(7, "81", kind="Gateway"), kind="Gateway") == {":::81": 7}


def test_server_names_are_claimed_too() -> None:
    """In lower case; all of them together, or none, mean any."""
    found = [
        server_names(gateway_pb2.VirtualService(ssl_config=ssl_pb2.SslConfig(sni_domains=names)))
        for names in (["A.com", "b.com"], ["a.com", "*"], [])
    ]
    assert found == [{"a.com", "b.com"}, {""}, {""}]
    assert server_names(gateway_pb2.VirtualService()) == frozenset()


def test_a_write_that_changes_nothing_claims_nothing() -> None:
    """A status that is written raises the version of the object, and not the age of its claims."""
    assert claims(entry(1, "a.com"), entry(5, "b.com"), entry(8, "b.com")) == {"b.com": 5}


def test_claims_outlive_the_process_in_the_status() -> None:
    """An object in conflict carries them; without a conflict, or with another error, nothing is written."""
    status = build_status([CONFLICT], claimed={"b.com": 5})
    assert status["details"] == {"claimedSince": {"b.com": 5}}
    assert claims(entry(8, "b.com", status={"gloo-system": status})) == {"b.com": 5}
    assert "details" not in build_status([replace(CONFLICT, path="virtualHost.routes")], claimed={"b.com": 5})
    assert "details" not in build_status([], claimed={"b.com": 5})
    assert not is_same(status, build_status([CONFLICT], claimed={"b.com": 6}))
    assert is_same(status, build_status([CONFLICT], claimed={"b.com": 5}))


def test_what_else_stands_in_a_status_is_no_claim() -> None:
    """Whatever somebody wrote there neither fails nor counts; only so many are written."""
    odd: list[Any] = [7, None, [], "x", {"claimedSince": 3}, {"claimedSince": {1: 2, "a": "b", "c": -1, "d": True}}]
    for details in odd:
        assert stored_claims({"r": {"details": details}}) == {}
    assert stored_claims({"r": 3, "s": {"details": {"claimedSince": {"a": 2.0}}}}) == {"a": 2}
    many = {f"{number}.com": number for number in range(1, MAX_STORED + 50)}
    assert len(details_for(many, ["bindPort"])["claimedSince"]) == MAX_STORED
