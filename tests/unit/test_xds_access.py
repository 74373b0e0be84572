"""Which role a client may have, by its certificate."""

from collections.abc import Mapping

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.xds.access import RuleMistakeError, identities_of, parse_rules

ROLE = "gloo-system~gateway-proxy"


def auth(pem: str) -> Mapping[str, list[bytes]]:
    """What gRPC says of a client with that certificate."""
    return {"transport_security_type": [b"ssl"], "x509_common_name": [b"x"], "x509_pem_cert": [pem.encode()]}


@pytest.mark.parametrize(
    ("pattern", "identity", "expected"),
    [
        ("proxy.example.com", "proxy.example.com", True),
        ("proxy.example.com", "PROXY.example.com", True),
        ("proxy.example.com", "proxyXexample.com", False),
        ("*.example.com", "proxy.example.com", True),
        ("*.example.com", "evil.proxy.example.com", False),
        ("**.example.com", "evil.proxy.example.com", True),
        ("proxy-*.example.com", "proxy-7.example.com", True),
        ("*", "proxy", True),
        ("*", "proxy.example.com", False),
        ("**", "proxy.example.com", True),
        ("**", "spiffe://dc1/ns/default", True),
        ("**.example.com", "spiffe://dc1/proxy.example.com", False),
        ("spiffe://dc1/ns/*/svc/proxy", "spiffe://dc1/ns/default/svc/proxy", True),
        ("spiffe://dc1/ns/*/svc/proxy", "spiffe://dc1/ns/a/svc/evil/svc/proxy", False),
        ("spiffe://dc1/**", "spiffe://dc1/ns/a/svc/evil/svc/proxy", True),
        ("spiffe://dc1/ns/x", "spiffe://dc1/ns/X", False),
        ("proxy.example.com", "proxy.example.com\n", False),
        ("", "proxy.example.com", False),
    ],
)
def test_identities(pattern: str, identity: str, expected: bool) -> None:
    """A star stays within its part, two stars do not; nothing else is special."""
    assert parse_rules({pattern: "*"}).allows([identity], ROLE) is expected


@pytest.mark.parametrize(
    ("roles", "role", "expected"),
    [
        (ROLE, ROLE, True),
        (ROLE, "gloo-system~other", False),
        (["gloo-system~a", "gloo-system~b*"], "gloo-system~bc", True),
        ("gloo-system~*", "other~gateway-proxy", False),
        ("*", "other~gateway-proxy", True),
        (ROLE, ROLE + "x", False),
        (ROLE, "", True),
    ],
)
def test_roles(roles: object, role: str, expected: bool) -> None:
    """One role or several, with stars; a client without a role is told how to get one."""
    assert parse_rules({"proxy": roles}).allows(["proxy"], role) is expected


def test_each_identity_has_its_own_roles() -> None:
    """The roles of another identity do not count."""
    rules = parse_rules({"a": "ns~a", "b": "ns~b"})

    assert rules.allows(["a"], "ns~a")
    assert not rules.allows(["a"], "ns~b")
    assert rules.allows(["a", "b"], "ns~b")
    assert not rules.allows([], "ns~a")
    assert not parse_rules({}).allows(["a"], "ns~a")


@pytest.mark.parametrize("roles", [7.0, [], [""], "", {"a": "b"}, [1.0]])
def test_mistakes(roles: object) -> None:
    """What is no role is told with the identity that it is for."""
    with pytest.raises(RuleMistakeError, match=r"^proxy: is to be a role like gloo-system~gateway-proxy"):
        parse_rules({"proxy": roles})


def test_who_a_certificate_is() -> None:
    """Its alternative names, and only without them its common name."""
    authority = Authority()

    assert identities_of(auth(authority.issue("proxy.test", "127.0.0.1").certificates)) == ("proxy.test",)
    both = authority.issue("spiffe://dc1/proxy", "proxy.test").certificates
    assert identities_of(auth(both)) == ("spiffe://dc1/proxy", "proxy.test")
    assert identities_of(auth(authority.certificate)) == ("gloo-nomad demo authority",)


def test_a_common_name_is_no_uri() -> None:
    """A URI is an identity only where an authority signed it as one."""
    authority = Authority("spiffe://dc1/proxy")
    subject = x509.load_pem_x509_certificate(authority.certificate.encode()).subject

    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "spiffe://dc1/proxy"
    assert identities_of(auth(authority.certificate)) == ()


@pytest.mark.parametrize("pem", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_nobody(pem: str) -> None:
    """No certificate, or one that cannot be read, is nobody."""
    assert identities_of(auth(pem)) == ()
    assert identities_of({}) == ()
