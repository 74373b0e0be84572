"""Secrets never leave through the admin pages: canaries in every place that can hold one."""

import json
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2
from google.protobuf import any_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

import gloo_nomad.api.gen
from gloo_nomad.admin import dumps
from gloo_nomad.admin.logs import REDACTED
from gloo_nomad.admin.redaction import SECRET_MESSAGES, SENSITIVE, Redactor
from gloo_nomad.api import codec, kinds
from gloo_nomad.api.gen import secret_pb2 as gloo_secret_pb2
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.messages import to_bytes, typed_config
from gloo_nomad.resources import CLUSTER, LISTENER, SECRET, Resource, XdsSnapshot
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

CANARY = "canary-7f3a91"
PLAIN = Redactor()

SECRETS = {
    "tls": {"certChain": CANARY, "privateKey": CANARY, "rootCa": CANARY, "ocspStaple": "Y2FuYXJ5LTdmM2E5MQ=="},
    "aws": {"accessKey": CANARY, "secretKey": CANARY, "sessionToken": CANARY},
    "azure": {"apiKeys": {"_master": CANARY}},
    "header": {"headers": {"x-any": CANARY}},
    "oauth": {"clientSecret": CANARY},
    "apiKey": {"apiKey": CANARY, "labels": [CANARY], "metadata": {"user": CANARY}, "uuid": CANARY},
    "credentials": {"username": CANARY, "password": CANARY},
    "encryption": {"key": CANARY},
    "extensions": {"configs": {"any": {"deep": [{"value": CANARY}]}}},
}


def build(kind: kinds.Kind, fields: dict[str, Any]) -> Any:
    """An object named ns.name with these fields."""
    decoded = codec.decode(kind, json.dumps({"metadata": {"namespace": "ns", "name": "name"}, **fields}).encode())
    assert decoded.message is not None, decoded.rejection
    return decoded.message


@pytest.mark.parametrize("which", sorted(SECRETS))
def test_secret_object(which: str) -> None:
    """Of a Secret only its name is shown, whichever kind of secret it is."""
    secret = build(kinds.SECRET, {which: SECRETS[which]})
    shown = json.dumps(dumps.dump_message(secret, PLAIN))
    assert CANARY not in shown
    assert "Y2FuYXJ5LTdmM2E5MQ==" not in shown
    assert '"name": "name"' in shown
    assert CANARY in str(secret) or b"canary" in to_bytes(secret)  # the original is untouched


def test_every_kind_of_secret_is_tested() -> None:
    """A new kind of Secret has to be added to the canaries above."""
    oneof = gloo_secret_pb2.Secret.DESCRIPTOR.oneofs_by_name["kind"]
    assert {field.camelcase_name for field in oneof.fields} == set(SECRETS)


def test_annotations_of_a_secret() -> None:
    """An annotation may repeat the whole Secret (kubectl's last-applied-configuration does)."""
    secret = build(kinds.SECRET, {"header": {"headers": {"a": "b"}}})
    secret.metadata.annotations["last-applied"] = CANARY
    secret.metadata.labels["team"] = "blue"
    shown = dumps.dump_message(secret, PLAIN)
    assert shown["metadata"]["annotations"] == {"last-applied": REDACTED}
    assert shown["metadata"]["labels"] == {"team": "blue"}


def test_settings() -> None:
    """Tokens and passwords in Settings are not shown, the addresses beside them are."""
    settings = build(
        kinds.SETTINGS,
        {
            "consul": {"httpAddress": f"http://user:{CANARY}@consul:8500", "token": CANARY, "password": CANARY},
            "vaultSecretSource": {"address": "http://vault:8200", "token": CANARY, "accessToken": CANARY},
            "secretOptions": {"sources": [{"vault": {"aws": {"secretAccessKey": CANARY, "sessionToken": CANARY}}}]},
            "extensions": {"configs": {"gloo-nomad": {"apiToken": CANARY, "deep": {"dbPassword": CANARY}}}},
        },
    )
    shown = dumps.dump_message(settings, PLAIN)
    assert CANARY not in json.dumps(shown)
    assert shown["consul"]["httpAddress"] == f"http://{REDACTED}@consul:8500"
    assert shown["vaultSecretSource"]["address"] == "http://vault:8200"


def test_auth_config() -> None:
    """Hashed passwords of basic auth are not shown."""
    users = {"joe": {"salt": CANARY, "hashedPassword": CANARY}}
    config = build(kinds.AUTH_CONFIG, {"configs": [{"basicAuth": {"apr": {"users": users}}}]})
    shown = dumps.dump_message(config, PLAIN)
    assert CANARY not in json.dumps(shown)
    assert "joe" in json.dumps(shown)


def envoy_secret() -> Any:
    """An Envoy Secret with canaries inline, and with the name of a file."""
    inline = base_pb2.DataSource(inline_string=CANARY)
    return secret_pb2.Secret(
        name="tls/ns.name",
        tls_certificate=common_pb2.TlsCertificate(
            certificate_chain=base_pb2.DataSource(filename="/etc/cert.pem"),
            private_key=base_pb2.DataSource(inline_bytes=CANARY.encode()),
            password=inline,
            ocsp_staple=inline,
        ),
    )


def test_envoy_secret() -> None:
    """Of an Envoy Secret what is inline is not shown, and names of files are."""
    resource = Resource("tls/ns.name", "1", to_bytes(envoy_secret()))
    shown = dumps.dump_xds(XdsSnapshot({SECRET: {"tls/ns.name": resource}}), PLAIN)
    text = json.dumps(shown)
    assert CANARY not in text
    assert "Y2FuYXJ5" not in text  # its beginning in base64
    assert shown["secrets"]["tls/ns.name"]["tlsCertificate"]["certificateChain"] == {"filename": "/etc/cert.pem"}


def test_generic_envoy_secrets() -> None:
    """Ticket keys, generic secrets and trusted roots are inline bytes as well."""
    inline = base_pb2.DataSource(inline_string=CANARY)
    for secret in (
        secret_pb2.Secret(session_ticket_keys=common_pb2.TlsSessionTicketKeys(keys=[inline])),
        secret_pb2.Secret(generic_secret=secret_pb2.GenericSecret(secret=inline)),
        secret_pb2.Secret(generic_secret=secret_pb2.GenericSecret(secrets={"a": inline})),
        secret_pb2.Secret(validation_context=common_pb2.CertificateValidationContext(trusted_ca=inline)),
    ):
        assert CANARY not in json.dumps(dumps.dump_message(secret, PLAIN))


def test_inside_any() -> None:
    """An Envoy Secret two Anys deep is found."""
    manager = hcm_pb2.HttpConnectionManager(stat_prefix="x")
    manager.http_filters.add(name="a", typed_config=typed_config(envoy_secret()))
    chain = listener_components_pb2.FilterChain()
    chain.filters.add(name="hcm", typed_config=typed_config(manager))
    listener = listener_pb2.Listener(name="l", filter_chains=[chain])
    shown = dumps.dump_xds(XdsSnapshot({LISTENER: {"l": Resource("l", "1", to_bytes(listener))}}), PLAIN)
    assert "tls/ns.name" in json.dumps(shown)
    assert CANARY not in json.dumps(shown)


def test_unknown_any() -> None:
    """An Any of a type that nobody knows is shown by its name only, and does not break the page."""
    chain = listener_components_pb2.FilterChain()
    packed = any_pb2.Any(type_url="type.googleapis.com/no.such.Type", value=CANARY.encode())
    chain.filters.add(name="f", typed_config=packed)
    shown = json.dumps(dumps.dump_message(listener_pb2.Listener(filter_chains=[chain]), PLAIN))
    assert "no.such.Type" in shown
    assert CANARY not in shown


def test_header_of_a_header_secret() -> None:
    """A value that came from a Secret is recognised wherever the translation put it, and nothing else is touched."""
    secret = build(kinds.SECRET, {"header": {"headers": {"x-any": CANARY}}})
    cluster = cluster_pb2.Cluster(name="c")
    check = cluster.health_checks.add().http_health_check
    check.CopyFrom(health_check_pb2.HealthCheck.HttpHealthCheck(path="/health", host="service"))
    check.request_headers_to_add.add().header.CopyFrom(base_pb2.HeaderValue(key="x-any", value=f"Key {CANARY}"))
    check.request_headers_to_add.add().header.CopyFrom(base_pb2.HeaderValue(key="x-raw", raw_value=CANARY.encode()))
    check.request_headers_to_add.add().header.CopyFrom(base_pb2.HeaderValue(key="x-open", value="open"))
    snapshot = ConfigSnapshot({"Secret": Collection({Ref("ns", "name"): secret})})
    xds = XdsSnapshot({CLUSTER: {"c": Resource("c", "1", to_bytes(cluster))}})
    shown = json.dumps(dumps.dump_xds(xds, dumps.redactor_for(snapshot)))
    assert CANARY not in shown
    assert "Y2FuYXJ5" not in shown
    assert f"Key {REDACTED}" in shown
    assert '"open"' in shown


@pytest.mark.parametrize("name", ["Authorization", "cookie", "x-api-key"])
def test_header_with_credentials(name: str) -> None:
    """A header that carries credentials by its name is not shown, wherever its value came from."""
    header = base_pb2.HeaderValue(key=name, value=CANARY)
    assert dumps.dump_message(header, PLAIN) == {"key": name, "value": REDACTED}


def test_private_key_anywhere() -> None:
    """A private key is recognised in any text, also where it does not belong."""
    upstream = build(kinds.UPSTREAM, {"sslConfig": {"sni": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n"}})
    assert "MIIE" not in json.dumps(dumps.dump_message(upstream, PLAIN))


def test_short_secrets_do_not_spoil_the_page() -> None:
    """A secret of a few letters is not searched for: it would be found in every word."""
    secret = build(kinds.SECRET, {"credentials": {"username": "a", "password": "pw"}})
    assert Redactor.knowing([secret]).text("a pwd") == "a pwd"


def _messages(descriptor: Descriptor) -> list[Descriptor]:
    return [descriptor, *(inner for nested in descriptor.nested_types for inner in _messages(nested))]


HARMLESS = re.compile(
    r"authority|endpoint$|_algs$|auth_methods|_header(_name)?$|cipher_suites|_file_name|secret_name|named_extauth"
)


def test_no_telling_field_is_forgotten() -> None:
    """Every text field of the contract whose name tells of a credential is redacted, or known to be harmless."""
    telling = re.compile(r"password|token|secret|private_key|api_?keys?$|salt|credential|cipher|auth|session")
    forgotten = [
        f"{message.full_name}.{field.name}"
        for message in _all_messages()
        for field in message.fields
        if _is_text(field) and telling.search(field.name) and not HARMLESS.search(field.name)
        if message.full_name not in SECRET_MESSAGES and field.name not in SENSITIVE.get(message.full_name, ())
    ]
    assert forgotten == []


def _all_messages() -> Iterator[Any]:
    for module in pkgutil.iter_modules(gloo_nomad.api.gen.__path__):
        if module.name.endswith("_pb2"):
            described = import_module(f"gloo_nomad.api.gen.{module.name}").DESCRIPTOR.message_types_by_name.values()
            yield from (inner for top in described for inner in _messages(top))


def _is_text(field: FieldDescriptor) -> bool:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    return is_map or field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}


def test_table_names_fields_that_exist() -> None:
    """A misspelt entry of the table would protect nothing."""
    known = {
        message.full_name: {field.name for field in message.fields}
        for module in pkgutil.iter_modules(gloo_nomad.api.gen.__path__)
        if module.name.endswith("_pb2")
        for top in import_module(f"gloo_nomad.api.gen.{module.name}").DESCRIPTOR.message_types_by_name.values()
        for message in _messages(top)
    }
    for name, fields in SENSITIVE.items():
        assert fields <= known[name]
    assert set(known) >= SECRET_MESSAGES
    assert settings_pb2.Settings.DESCRIPTOR.full_name in known
