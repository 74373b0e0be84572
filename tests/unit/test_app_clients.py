"""From settings and environment to clients of Consul and Vault."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.clients import check_clients, consul_options
from gloo_nomad.app.vault import vault_client
from gloo_nomad.clients.vault import VaultOptions
from gloo_nomad.settings import RuntimeSettings, SettingsError


def settings(document: dict[str, Any], environ: dict[str, str] | None = None) -> RuntimeSettings:
    """Settings in force."""
    message = json_format.ParseDict(document, settings_pb2.Settings())
    return RuntimeSettings(message, Ref("gloo-system", "default"), environ or {})


def vault(document: dict[str, Any], environ: dict[str, str] | None = None) -> VaultOptions:
    """The options of the Vault client that these settings lead to."""
    found = settings({"vaultSecretSource": document}, environ)
    return vault_client(found.message.vault_secret_source, found).options


def test_consul() -> None:
    """Everything that the settings say of Consul reaches its client, and what only the environment can say."""
    options = consul_options(
        settings(
            {
                "consul": {
                    "httpAddress": "https://consul.test/prefix",
                    "datacenter": "dc2",
                    "token": "t",
                    "username": "u",
                    "password": "p",
                    "caFile": "ca",
                    "caPath": "cas",
                    "certFile": "cert",
                    "keyFile": "key",
                    "insecureSkipVerify": True,
                }
            },
            {"CONSUL_NAMESPACE": "n", "CONSUL_PARTITION": "x", "CONSUL_TLS_SERVER_NAME": "s"},
        )
    )

    assert options is not None
    assert str(options.address) == "https://consul.test:8500/prefix"
    assert (options.datacenter, options.namespace, options.partition) == ("dc2", "n", "x")
    assert (options.username, options.password, options.token.read()) == ("u", "p", "t")
    tls = options.tls
    assert (tls.ca_file, tls.ca_path, tls.cert_file, tls.key_file) == ("ca", "cas", "cert", "key")
    assert (tls.server_name, tls.insecure) == ("s", True)


def test_no_consul() -> None:
    """Without an address there is no client; a bad one is told with its field."""
    assert consul_options(settings({})) is None
    with pytest.raises(SettingsError, match=r"^consul.httpAddress: expected host:port"):
        consul_options(settings({"consul": {"httpAddress": "ftp://x"}}))


def test_a_token_file_is_followed(tmp_path: Path) -> None:
    """Nomad's workload identity renews its token in a file; it wins over the token of the settings."""
    file = tmp_path / "token"
    file.write_text("first\n")
    environ = {"CONSUL_HTTP_TOKEN_FILE": str(file), "VAULT_TOKEN_FILE": str(file)}
    consul = consul_options(settings({"consul": {"httpAddress": "c:1", "token": "t"}}, environ))
    found = vault({"address": "http://v:1"}, environ)

    assert consul is not None
    assert (consul.token.read(), found.token.read()) == ("first", "first")
    file.write_text("second-token")
    assert (consul.token.read(), found.token.read()) == ("second-token", "second-token")


def test_vault() -> None:
    """Address, token and TLS come from the settings first and the environment then."""
    environ = {"VAULT_ADDR": "http://env:1", "VAULT_TOKEN": "env", "VAULT_NAMESPACE": "n", "VAULT_TLS_SERVER_NAME": "s"}
    written, standard = vault({"address": "http://file:2", "accessToken": "file"}, environ), vault({}, environ)

    assert (str(written.address), written.token.read()) == ("http://file:2", "file")
    assert (str(standard.address), standard.token.read()) == ("http://env:1", "env")
    assert (standard.namespace, standard.tls.server_name) == ("n", "s")
    assert vault({"token": "old"}, environ).token.read() == "old"


def test_vaults_tls() -> None:
    """``tlsConfig`` counts; the old fields beside it only where it is absent."""
    new = vault({"address": "http://v:1", "tlsConfig": {"tlsServerName": "new"}, "tlsServerName": "old"})
    old = vault({"address": "http://v:1", "tlsServerName": "old", "insecure": True})

    assert (new.tls.server_name, new.tls.insecure) == ("new", False)
    assert (old.tls.server_name, old.tls.insecure) == ("old", True)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"vaultSecretSource": {}}, "vaultSecretSource.address is missing; write it, or set VAULT_ADDR"),
        ({"vaultSecretSource": {"address": "x y"}}, "vaultSecretSource.address: expected host:port"),
        ({"vaultSecretSource": {"address": "http://v", "aws": {"region": "r"}}}, "vaultSecretSource.aws"),
        (
            {"vaultSecretSource": {"address": "https://v", "tlsConfig": {"clientCert": "/nowhere.pem"}}},
            "vaultSecretSource.tlsConfig",
        ),
        ({"consul": {"httpAddress": "https://c", "caFile": "/nowhere.pem"}}, "consul: its TLS files cannot be used"),
        ({"secretOptions": {"sources": [{"vault": {}}]}}, "vaultSecretSource.address is missing"),
    ],
)
def test_what_no_client_can_be_built_of(document: dict[str, Any], told: str) -> None:
    """It is found before anything starts, and named."""
    with pytest.raises(SettingsError) as caught:
        check_clients(settings(document))
    assert told in str(caught.value)


def test_what_is_not_used_is_not_looked_at() -> None:
    """A Vault beside ``secretOptions`` that name sources is not asked for secrets, so its address is nobody's."""
    document = {
        "vaultSecretSource": {"address": "::::"},
        "secretOptions": {"sources": [{"directory": {"directory": "s"}}]},
    }
    check_clients(settings(document))
