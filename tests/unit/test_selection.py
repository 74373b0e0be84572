"""Which virtual services a gateway serves."""

import pytest

from tests.pipeline.gateway_world import NAMESPACE, Outcome, translate

SERVICES = [
    "metadata: {name: a, namespace: gloo-system, labels: {team: x, size: '1'}}\nvirtualHost: {domains: [a.com]}",
    "metadata: {name: b, namespace: gloo-system, labels: {team: y}}\nvirtualHost: {domains: [b.com]}",
    "metadata: {name: c, namespace: other, labels: {team: x}}\nvirtualHost: {domains: [c.com]}",
    "metadata: {name: d, namespace: other}\nvirtualHost: {domains: [d.com]}",
    (
        "metadata: {name: s, namespace: gloo-system, labels: {team: x}}\nvirtualHost: {domains: [s.com]}\n"
        "sslConfig: {secretRef: {name: tls, namespace: gloo-system}}"
    ),
]


def select(http: str, *, ssl: bool = False) -> Outcome:
    """The services behind a gateway with this httpGateway."""
    gateway = (
        f"metadata: {{name: gw, namespace: {NAMESPACE}}}\nbindAddress: '::'\nbindPort: 8080\n"
        f"ssl: {str(ssl).lower()}\nhttpGateway: {http}"
    )
    return translate({"Gateway": [gateway], "VirtualService": SERVICES})


def names(outcome: Outcome) -> str:
    """Names of the virtual services that are served, as one text."""
    if not outcome.proxies[0].listeners:
        return ""
    return " ".join(name.split(".")[1] for name in outcome.hosts())


ALL_BUT_SSL = "a b c d"
CASES = [
    ("everything", "{}", ALL_BUT_SSL),
    ("labels", "{virtualServiceSelector: {team: x}}", "a c"),
    ("two labels", "{virtualServiceSelector: {team: x, size: '1'}}", "a"),
    ("no such label", "{virtualServiceSelector: {team: z}}", ""),
    ("namespaces", "{virtualServiceNamespaces: [other]}", "c d"),
    ("every namespace", "{virtualServiceNamespaces: [other, '*']}", ALL_BUT_SSL),
    ("labels in a namespace", "{virtualServiceSelector: {team: x}, virtualServiceNamespaces: [other]}", "c"),
    ("references", "{virtualServices: [{name: d, namespace: other}, {name: a, namespace: gloo-system}]}", "a d"),
    (
        "references ignore namespaces",
        "{virtualServices: [{name: d, namespace: other}], virtualServiceNamespaces: [gloo-system]}",
        "d",
    ),
    ("the same reference twice", "{virtualServices: [{name: d, namespace: other}, {name: d, namespace: other}]}", "d"),
    (
        "labels before references",
        "{virtualServiceSelector: {team: y}, virtualServices: [{name: d, namespace: other}]}",
        "b",
    ),
    (
        "expressions before labels",
        (
            "{virtualServiceExpressions: {expressions: [{key: team, operator: DoesNotExist}]}, "
            "virtualServiceSelector: {team: y}}"
        ),
        "d",
    ),
    (
        "expressions in a namespace",
        (
            "{virtualServiceExpressions: {expressions: [{key: team, operator: In, values: [x, y]}]}, "
            "virtualServiceNamespaces: [gloo-system]}"
        ),
        "a b",
    ),
    (
        "expressions that ask for nothing",
        "{virtualServiceExpressions: {}, virtualServiceSelector: {team: y}}",
        "a b c d",
    ),
]


@pytest.mark.parametrize(("http", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_one_way_of_selecting_applies(http: str, expected: str) -> None:
    """Expressions go before labels, labels before references, and without any of them all are served."""
    outcome = select(http)
    assert names(outcome) == expected
    assert outcome.said() == []


def test_ssl_gateway_serves_services_with_ssl_config() -> None:
    """A gateway with ssl serves those that have an sslConfig; a reference to another one is passed over in silence."""
    assert names(select("{}", ssl=True)) == "s"
    outcome = select("{virtualServices: [{name: a, namespace: gloo-system}]}", ssl=True)
    assert names(outcome) == ""
    assert outcome.said() == []


def test_missing_reference_is_an_error_of_the_gateway() -> None:
    """A virtual service that does not exist rejects the gateway, which serves the others."""
    outcome = select("{virtualServices: [{name: a, namespace: gloo-system}, {name: z, namespace: gloo-system}]}")
    assert names(outcome) == "a"
    assert outcome.said() == [
        (
            "error Gateway gloo-system.gw httpGateway.virtualServices[1]: virtual service gloo-system.z does not "
            "exist; create it or remove the reference"
        )
    ]


def test_expression_without_values_is_an_error_of_the_gateway() -> None:
    """A requirement that nothing can be measured by selects nothing and rejects the gateway."""
    outcome = select("{virtualServiceExpressions: {expressions: [{key: team, operator: In}]}}")
    assert outcome.proxies[0].listeners == ()
    (said,) = outcome.said()
    assert said.startswith(
        "error Gateway gloo-system.gw httpGateway.virtualServiceExpressions.expressions[0]: In takes"
    )
