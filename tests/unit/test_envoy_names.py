"""Names that Envoy sees: the reference's where dashboards know them, and never the same for two things."""

from hypothesis import given
from hypothesis import strategies as st

from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy import names

texts = st.text(alphabet="ab./|%_\n", max_size=4)
namespaces = st.text(alphabet="ab._", max_size=4)


def test_names_of_the_reference() -> None:
    """Clusters, virtual hosts and routes are named as before."""
    assert names.cluster_name(Ref("gloo-system", "petstore")) == "petstore_gloo-system"
    assert names.cluster_name(Ref("", "petstore")) == "petstore"
    assert names.consul_cluster_name("web") == "consul-svc:web_gloo-system"
    assert names.virtual_host_name("gloo-system.my.vs") == "gloo-system_my_vs"
    assert names.route_name("gloo-system_vs", 2, "", 1) == "gloo-system_vs-route-2-matcher-1"
    assert names.route_name("gloo-system_vs", 2, "named", 0) == "gloo-system_vs-route-2-named-matcher-0"


@given(namespaces, texts, namespaces, texts)
def test_secrets_are_kept_apart(namespace: str, name: str, other_namespace: str, other: str) -> None:
    """Two Secrets never share an SDS name: the wrong certificate would be served."""
    one, two = Ref(namespace, name), Ref(other_namespace, other)

    assert (names.certificate_name(one) == names.certificate_name(two)) is (one == two)
    assert (names.authority_name(one) == names.authority_name(two)) is (one == two)
    assert names.certificate_name(one) != names.authority_name(two)


@given(st.lists(texts, min_size=3, max_size=3), st.lists(texts, min_size=3, max_size=3))
def test_files_are_kept_apart(one: list[str], two: list[str]) -> None:
    """Two sets of files never share an SDS name."""
    assert (names.certificate_files_name(*one) == names.certificate_files_name(*two)) is (one == two)


@given(st.text(alphabet="ab/.", min_size=1, max_size=4), st.text(alphabet="dc1", max_size=4))
def test_service_keys_read_back(service: str, datacenter: str) -> None:
    """What is written of a service and its datacenter is read again."""
    assert names.parse_consul_service_key(names.consul_service_key(service, datacenter)) == (service, datacenter)
