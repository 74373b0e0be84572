"""Whatever users write, Envoy is never sent what it refuses: asked of a real Envoy."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gloo_nomad.envoy.tls import CIPHER_SUITES, CURVES
from gloo_nomad.resources import LISTENER
from gloo_nomad.store.services import Instance
from tests.envoy_validate import validate_snapshot
from tests.pipeline.certificates import make_pair, sign, tls_secret
from tests.pipeline.envoy_world import GATEWAY, SSL_GATEWAY, TO_UP, World, make_world, upstream, virtual_service

pytestmark = pytest.mark.envoy
NAMESPACE = "gloo-system"

texts = st.one_of(
    st.sampled_from(["", "/", "/a", "a", "*", "x-a", "x a", ":path", "/a/b", "/%41", "//", "é", "a\nb", "\x00", "["]),
    st.text(max_size=12),
)
paths = st.one_of(st.sampled_from(["/", "/a", "/a/b", "/a//b", "/a/..", ""]), texts)
regexes = st.one_of(
    st.sampled_from(["/.*", "(a|b)+", "a{1001}", "(?=a)", "\\1", "[[:alpha:]]", "\\pL{50}", "a{500}", "", "**"]),
    st.text(alphabet="ab/.*+?()[]{}|\\^$-,0129:PQEpLdw<>=!i\u00e9", max_size=14),
)
flags = st.booleans()
durations = st.sampled_from(["0s", "1s", "-1s", "0.001s", "315576000000s", "15s"])


def matched(name: Any) -> Any:
    """Header or query matchers."""
    values = st.one_of(st.tuples(texts, st.just(False)), st.tuples(regexes, st.just(True)))
    return st.builds(lambda key, pair: {"name": key, "value": pair[0], "regex": pair[1]}, name, values)


matchers = st.builds(
    lambda path, headers, parameters, methods, case: {
        **path,
        "headers": headers,
        "queryParameters": parameters,
        "methods": methods,
        **({"caseSensitive": case} if case is not None else {}),
    },
    st.one_of(
        paths.map(lambda path: {"prefix": path}),
        paths.map(lambda path: {"exact": path}),
        regexes.map(lambda regex: {"regex": regex}),
        st.just({"connectMatcher": {}}),
        st.just({}),
    ),
    st.lists(matched(texts), max_size=2),
    st.lists(matched(texts), max_size=2),
    st.lists(st.sampled_from(["GET", "POST", "a b", "", "PURGE"]), max_size=2),
    st.one_of(st.none(), flags),
)
destinations = st.one_of(
    st.just({"upstream": {"name": "up", "namespace": NAMESPACE}}),
    texts.map(lambda name: {"upstream": {"name": name}}),
    st.builds(
        lambda service, tags, centers: {"consul": {"serviceName": service, "tags": tags, "dataCenters": centers}},
        texts,
        st.lists(texts, max_size=2),
        st.lists(texts, max_size=2),
    ),
    st.builds(lambda values: {"upstream": {"name": "up"}, "subset": {"values": values}}, st.dictionaries(texts, texts)),
    st.just({}),
)
actions = st.one_of(
    destinations.map(lambda found: {"routeAction": {"single": found}}),
    st.lists(st.tuples(st.integers(0, 2**32 - 1), destinations), max_size=3).map(
        lambda found: {
            "routeAction": {"multi": {"destinations": [{"weight": weight, "destination": to} for weight, to in found]}}
        }
    ),
    texts.map(lambda header: {"routeAction": {"clusterHeader": header}}),
    st.builds(
        lambda host, path, port, code: {
            "redirectAction": {"hostRedirect": host, **path, "portRedirect": port, "responseCode": code}
        },
        texts,
        st.one_of(
            st.just({}),
            paths.map(lambda path: {"pathRedirect": path}),
            paths.map(lambda path: {"prefixRewrite": path}),
            st.builds(
                lambda regex, text: {"regexRewrite": {"pattern": {"regex": regex}, "substitution": text}},
                regexes,
                st.one_of(texts, st.sampled_from(["\\1", "\\0", "\\", "\\9"])),
            ),
        ),
        st.sampled_from([0, 1, 80, 65535, 65536]),
        st.sampled_from(["FOUND", "SEE_OTHER"]),
    ),
    st.builds(
        lambda status, body: {"directResponseAction": {"status": status, "body": body}},
        st.sampled_from([0, 100, 200, 404, 599, 600]),
        st.one_of(texts, st.just("x" * 5000)),
    ),
    st.just({}),
)
options = st.fixed_dictionaries(
    {},
    optional={
        "timeout": durations,
        "prefixRewrite": paths,
        "hostRewrite": texts,
        "regexRewrite": st.tuples(regexes, texts).map(lambda p: {"pattern": {"regex": p[0]}, "substitution": p[1]}),
        "retries": st.builds(
            lambda on, number, per_try: {"retryOn": on, "numRetries": number, "perTryTimeout": per_try},
            st.one_of(texts, st.just("5xx,reset")),
            st.integers(0, 5),
            durations,
        ),
        "headerManipulation": st.builds(
            lambda key, value, gone: {
                "requestHeadersToAdd": [{"header": {"key": key, "value": value}}],
                "responseHeadersToRemove": [gone],
            },
            texts,
            texts,
            texts,
        ),
        "cors": st.builds(
            lambda origin, regex, age: {"allowOrigin": [origin], "allowOriginRegex": [regex], "maxAge": age},
            texts,
            regexes,
            texts,
        ),
    },
)
routes = st.builds(
    lambda found, action, more: {"matchers": found, **action, "options": more},
    st.lists(matchers, max_size=2),
    actions,
    options,
)
hosts = st.builds(
    lambda domains, found, more: {"domains": domains, "routes": found, "options": more},
    st.lists(st.one_of(st.sampled_from(["a.com", "A.com", "*", "*.b.com", "c.*", "a*b"]), texts), max_size=3),
    st.lists(routes, max_size=4),
    options.map(lambda found: {key: found[key] for key in ("retries", "headerManipulation", "cors") if key in found}),
)


def world_of(drawn: list[dict[str, Any]]) -> World:
    """A world with these virtual hosts behind one gateway."""
    world = make_world(GATEWAY, upstream())
    for number, host in enumerate(drawn):
        document = {
            "kind": "VirtualService",
            "metadata": {"name": f"vs{number}", "namespace": NAMESPACE},
            "virtualHost": host,
        }
        world.put_document(document)
    return world.translate()


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(hosts, min_size=20, max_size=20))
def test_envoy_accepts_any_virtual_host(
    envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory, drawn: list[dict[str, Any]]
) -> None:
    """Twenty random virtual hosts at a time, valid and not: Envoy takes what is made of them."""
    world = world_of(drawn)

    assert validate_snapshot(world.snapshot(), envoy_binary, tmp_path_factory.mktemp("random")) == ""


ports = st.sampled_from([0, 80, 443, 65535, 65536])
addresses = st.one_of(
    st.sampled_from(["10.0.0.1", "::1", "a.example.com", "localhost", "fe80::1%lo", "1.2.3", "", "a b", "-a", "a..b"]),
    texts,
)
upstream_specs = st.one_of(
    st.builds(
        lambda found, tls, rewrite: {"static": {"hosts": found, **tls, **rewrite}},
        st.lists(
            st.builds(
                lambda address, port, name, weight: {"addr": address, "port": port, "sniAddr": name, **weight},
                addresses,
                ports,
                st.one_of(st.just(""), texts),
                st.one_of(st.just({}), st.sampled_from([0, 1, 2**32 - 1]).map(lambda w: {"loadBalancingWeight": w})),
            ),
            max_size=3,
        ),
        st.one_of(st.just({}), flags.map(lambda found: {"useTls": found})),
        st.one_of(st.just({}), flags.map(lambda found: {"autoSniRewrite": found})),
    ),
    texts.map(lambda path: {"pipe": {"path": path}}),
    st.builds(
        lambda service, tags, centers: {"consul": {"serviceName": service, "subsetTags": tags, "dataCenters": centers}},
        texts,
        st.lists(texts, max_size=2),
        st.lists(texts, max_size=2),
    ),
)
upstreams = st.builds(
    lambda spec, timeout, http2, window, tls: {**spec, **timeout, **http2, **window, **tls},
    upstream_specs,
    st.one_of(st.just({}), durations.map(lambda found: {"connectionConfig": {"connectTimeout": found}})),
    st.one_of(st.just({}), flags.map(lambda found: {"useHttp2": found})),
    st.one_of(st.just({}), st.sampled_from([0, 65535, 2**31, 2**32 - 1]).map(lambda w: {"initialStreamWindowSize": w})),
    st.one_of(
        st.just({}),
        st.builds(
            lambda name, suites, alpn: {
                "sslConfig": {"sni": name, "parameters": {"cipherSuites": suites}, "alpnProtocols": alpn}
            },
            texts,
            st.lists(st.one_of(texts, st.sampled_from(sorted(CIPHER_SUITES))), max_size=2),
            st.lists(texts, max_size=2),
        ),
    ),
)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(upstreams, min_size=20, max_size=20))
def test_envoy_accepts_any_upstream(
    envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory, drawn: list[dict[str, Any]]
) -> None:
    """Twenty random upstreams at a time: Envoy takes the clusters that are made of them."""
    world = make_world(GATEWAY, virtual_service(TO_UP))
    for number, spec in enumerate(drawn):
        world.put_document({"kind": "Upstream", "metadata": {"name": f"up{number}", "namespace": NAMESPACE}, **spec})
        service = spec.get("consul", {}).get("serviceName", "")
        if service:
            world.put_instances(service, Instance("10.0.0.1", 80, "i", ("a",)))
    world.translate()

    assert validate_snapshot(world.snapshot(), envoy_binary, tmp_path_factory.mktemp("random")) == ""


def test_every_suite_and_curve_is_known_to_envoy(envoy_binary: Path, tmp_path: Path) -> None:
    """What is allowed to be written is what Envoy's TLS library knows."""
    parameters = {"cipherSuites": sorted(CIPHER_SUITES), "ecdhCurves": sorted(CURVES)}
    config = json.dumps({"secretRef": {"name": "s", "namespace": NAMESPACE}, "parameters": parameters})
    world = make_world(
        SSL_GATEWAY, upstream(), tls_secret("s", make_pair("a")), virtual_service(TO_UP, more=f"sslConfig: {config}")
    )

    assert world.problems() == []
    assert validate_snapshot(world.snapshot(), envoy_binary, tmp_path) == ""


@pytest.mark.parametrize(
    "curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()], ids=lambda c: c.name
)
def test_keys_are_judged_as_envoy_does(envoy_binary: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    """A key that Envoy refuses never gets there; one that it takes does."""
    pair = sign("a", ec.generate_private_key(curve))
    config = "sslConfig: {secretRef: {name: s, namespace: gloo-system}}"
    world = make_world(SSL_GATEWAY, upstream(), tls_secret("s", pair), virtual_service(TO_UP, more=config))

    assert bool(world.names(LISTENER)) is not isinstance(curve, ec.SECP256K1)
    assert validate_snapshot(world.snapshot(), envoy_binary, tmp_path) == ""
