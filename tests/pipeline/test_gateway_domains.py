"""Domains of virtual services behind one gateway."""

import pytest

from tests.pipeline.gateway_world import GATEWAY, SSL_GATEWAY, World, service, translate, with_gateway


def named(name: str, domains: str) -> str:
    """A virtual service with these domains."""
    return service(f"domains: {domains}", name)


def test_no_domains_means_all() -> None:
    """A virtual service without domains answers for every host."""
    assert with_gateway(service("routes: []")).hosts() == {"gloo-system.vs": ["*"]}


def test_missing_virtual_host_is_a_warning() -> None:
    """A virtual service without virtualHost is served empty."""
    outcome = with_gateway("metadata: {name: vs, namespace: gloo-system}")
    assert outcome.hosts() == {"gloo-system.vs": ["*"]}
    (said,) = outcome.said()
    assert said.startswith("warning VirtualService gloo-system.vs virtualHost: is missing")


def test_domain_named_twice_is_served_once() -> None:
    """A domain that one virtual service has twice, in whatever case, is a warning."""
    outcome = with_gateway(named("vs", "[a.com, b.com, A.com]"))
    assert outcome.hosts() == {"gloo-system.vs": ["a.com", "b.com"]}
    (said,) = outcome.said()
    assert (
        said == "warning VirtualService gloo-system.vs virtualHost.domains[2]: A.com is there twice; it is served once"
    )


@pytest.mark.parametrize(
    ("domain", "text"), [("''", "the virtual host has an empty domain"), ('"a\\nb"', "it has a control character")]
)
def test_invalid_domain_leaves_out_its_virtual_host(domain: str, text: str) -> None:
    """An empty domain, or one that Envoy refuses, is an error; the gateway serves the others."""
    outcome = with_gateway(named("vs", f"[a.com, {domain}]"), named("other", "[b.com]"))
    assert outcome.hosts() == {"gloo-system.other": ["b.com"]}
    (said,) = outcome.said()
    assert said.startswith("error VirtualService gloo-system.vs virtualHost.domains[1]: ")
    assert text in said


def test_domain_that_matches_nothing_is_a_warning() -> None:
    """A blank or a slash in a domain is served as written, and said."""
    outcome = with_gateway(named("vs", "['a.com ', 'http://b.com']"))
    assert outcome.hosts() == {"gloo-system.vs": ["a.com ", "http://b.com"]}
    assert [said.split(": ")[1] for said in outcome.said()] == [
        "'a.com ' matches no request",
        "'http://b.com' matches no request",
    ]


def test_oldest_keeps_a_contested_domain() -> None:
    """Both virtual services and the gateway are told; the older one keeps the domain, the other its other domains."""
    outcome = with_gateway(named("z-old", "[a.com, o.com]"), named("a-new", "[a.com, n.com]"), named("c", "[c.com]"))
    assert outcome.hosts() == {
        "gloo-system.a-new": ["n.com"],
        "gloo-system.c": ["c.com"],
        "gloo-system.z-old": ["a.com", "o.com"],
    }
    assert outcome.said() == [
        (
            "error VirtualService gloo-system.z-old virtualHost.domains: domain conflict: a.com is a domain of "
            "gloo-system.a-new too, on gateway gloo-system.gateway-proxy; this one had it first and keeps it"
        ),
        (
            "error VirtualService gloo-system.a-new virtualHost.domains: domain conflict: a.com is a domain of "
            "gloo-system.z-old too, on gateway gloo-system.gateway-proxy; gloo-system.z-old had it first and keeps it"
        ),
        (
            "error Gateway gloo-system.gateway-proxy httpGateway: domain conflict: the virtual services "
            "gloo-system.z-old, gloo-system.a-new have the same domain a.com; gloo-system.z-old keeps it"
        ),
    ]


@pytest.mark.parametrize(("one", "two"), [("[]", "[]"), ("[]", "['*']"), ("['*']", "['*']"), ("[A.com]", "[a.COM]")])
def test_same_domain_in_other_words_is_a_conflict(one: str, two: str) -> None:
    """Missing domains and * are the same, and so are upper and lower case: Envoy refuses both."""
    outcome = with_gateway(named("one", one), named("two", two))
    assert list(outcome.hosts()) == ["gloo-system.one"]
    assert [problem.severity.name for problem in outcome.problems] == ["ERROR"] * 3


def test_three_claimants_name_each_other() -> None:
    """Each of several claimants is told of all others, and one domain each is lost only where it is contested."""
    outcome = with_gateway(named("one", "[a.com]"), named("two", "[a.com, b.com]"), named("three", "[a.com, b.com]"))
    assert outcome.hosts() == {"gloo-system.one": ["a.com"], "gloo-system.two": ["b.com"]}
    third = [said for said in outcome.said() if said.startswith("error VirtualService gloo-system.three")]
    assert "gloo-system.one, gloo-system.two too" in third[0]
    assert "b.com is a domain of gloo-system.two too" in third[1]


def test_conflict_is_within_a_gateway() -> None:
    """The same domain behind different gateways is no conflict."""
    secure = service("domains: [a.com]", "secure", "sslConfig: {secretRef: {name: s, namespace: n}}")
    outcome = translate({"Gateway": [GATEWAY, SSL_GATEWAY], "VirtualService": [named("plain", "[a.com]"), secure]})
    assert outcome.said() == []
    assert outcome.hosts() == {"gloo-system.plain": ["a.com"]}
    assert outcome.hosts("listener-::-8443") == {"gloo-system.secure": ["a.com"]}


def test_conflict_ends_with_its_cause() -> None:
    """When the older claimant is deleted, the other gets the domain and nothing is wrong any more."""
    world = World()
    world.put("Gateway", GATEWAY)
    world.put("VirtualService", named("old", "[a.com]"), named("new", "[a.com]"), named("bystander", "[b.com]"))
    before = world.translate()
    world.delete("VirtualService", "old")
    after = world.translate()
    assert after.said() == []
    assert after.hosts() == {"gloo-system.bystander": ["b.com"], "gloo-system.new": ["a.com"]}
    assert after.host("gloo-system.bystander") is before.host("gloo-system.bystander")


def test_object_that_is_made_anew_is_young_again() -> None:
    """Who deletes and stores the older claimant again, within one round, has made it the younger one."""
    world = World()
    world.put("Gateway", GATEWAY)
    world.put("VirtualService", named("one", "[a.com]"), named("two", "[a.com]"))
    assert list(world.translate().hosts()) == ["gloo-system.one"]
    world.delete("VirtualService", "one")
    world.put("VirtualService", named("one", "[a.com]"))
    assert list(world.translate().hosts()) == ["gloo-system.two"]


def test_virtual_service_without_age_is_the_youngest() -> None:
    """Age decides before the name, and an unknown age loses."""
    from gloo_nomad.api.refs import Ref
    from gloo_nomad.gateway.domains import age_of

    created = {Ref("n", "z"): 1, Ref("n", "y"): 2}
    refs = [Ref("n", name) for name in "axyz"]
    assert [ref.name for ref in sorted(refs, key=lambda ref: age_of(ref, "a.com", created, {}))] == ["z", "y", "a", "x"]
