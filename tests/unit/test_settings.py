"""Settings: the file, then the environment, then flags; what cannot be used is told with its field and a remedy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gloo_nomad.settings import OWN_FIELDS, Flags, RuntimeSettings, SettingsError, load_settings, parse_address

CONSUL = {"CONSUL_HTTP_ADDR": "consul.test:8500"}


def write(folder: Path, document: Mapping[str, Any] | str, name: str = "default") -> str:
    """A Settings file where the program looks for it; the value of ``--dir``."""
    home = folder / "gloo-system"
    home.mkdir(exist_ok=True)
    if not isinstance(document, str):
        named = {"metadata": {"name": name, "namespace": "gloo-system"}, **document}
        document = yaml.safe_dump(named)
    (home / f"{name}.yaml").write_text(document)
    return str(folder)


def load(folder: Path, document: Mapping[str, Any] | str, environ: Mapping[str, str] | None = None) -> RuntimeSettings:
    """The settings of a file alone."""
    return load_settings(Flags(directory=write(folder, document)), environ or {})


def refusal(folder: Path, document: Mapping[str, Any] | str) -> str:
    """Why a file cannot be used."""
    with pytest.raises(SettingsError) as caught:
        load(folder, document)
    return str(caught.value)


def test_a_consul_address_is_enough() -> None:
    """Without a file the objects are below ``gloo`` in that Consul, and every default holds."""
    settings = load_settings(Flags(), CONSUL)

    assert settings.uses_consul_kv
    assert settings.root_key == "gloo"
    assert settings.message.consul.http_address == "consul.test:8500"
    assert settings.config_directory == ""
    assert not settings.discovers_services
    assert settings.write_namespace == settings.reporter == "gloo-system"
    assert settings.watch_namespaces == frozenset()
    assert settings.xds_bind == ("0.0.0.0", 9977)
    assert settings.admin_bind == ("127.0.0.1", 9091)
    assert settings.front_door_bind == ("127.0.0.1", 9095)
    assert settings.proxy_debug_bind == ("127.0.0.1", 9966)
    assert settings.own("createDefaultGateways") is True


def test_a_folder_is_enough() -> None:
    """``--config-dir`` alone reads objects, secrets and artifacts from that folder, and needs no Consul."""
    settings = load_settings(Flags(config_directory="objects"), {})

    assert settings.config_directory == "objects"
    assert settings.message.directory_secret_source.directory == "objects"
    assert settings.message.directory_artifact_source.directory == "objects"
    assert not settings.uses_consul_kv
    assert settings.message.consul.http_address == ""


def test_nothing_is_not_enough() -> None:
    """Without file, folder and Consul the three ways are named."""
    with pytest.raises(SettingsError, match=r"--dir .* --config-dir .*--consul-address or CONSUL_HTTP_ADDR"):
        load_settings(Flags(), {})


def test_the_file_says_where_things_are(tmp_path: Path) -> None:
    """Root key, namespaces, discovery and bind addresses of the file are in force."""
    settings = load(
        tmp_path,
        {
            "discoveryNamespace": "edge",
            "watchNamespaces": ["team-a", "team-b"],
            "consulKvSource": {"rootKey": "/custom/"},
            "consul": {"httpAddress": "10.0.0.1:8500", "serviceDiscovery": {}},
            "gloo": {"xdsBindAddr": "127.0.0.1:1", "proxyDebugBindAddr": "[::1]:2"},
            "extensions": {"configs": {"gloo-nomad": {"adminBindAddr": "0.0.0.0:3", "createDefaultGateways": False}}},
        },
    )

    assert settings.write_namespace == "edge"
    assert settings.watch_namespaces == {"team-a", "team-b", "edge"}
    assert settings.root_key == "custom"
    assert settings.discovers_services
    assert (settings.xds_bind, settings.proxy_debug_bind) == (("127.0.0.1", 1), ("::1", 2))
    assert settings.admin_bind == ("0.0.0.0", 3)
    assert settings.own("createDefaultGateways") is False
    assert settings.own("frontDoorBindAddr") == OWN_FIELDS["frontDoorBindAddr"]


def test_the_reporter_is_the_pods_namespace(tmp_path: Path) -> None:
    """POD_NAMESPACE names the reporter of statuses, else the write namespace does."""
    document = {"consulKvSource": {}, "discoveryNamespace": "edge"}

    assert load(tmp_path, document).reporter == "edge"
    assert load(tmp_path, document, {"POD_NAMESPACE": "pod"}).reporter == "pod"


def test_consul_has_an_address_when_it_is_needed(tmp_path: Path) -> None:
    """Without an address the local agent is meant, for objects and for services of a folder's routes."""
    kv = load(tmp_path, {"consulKvSource": {}})
    services = load(tmp_path, {"directoryConfigSource": {"directory": "x"}, "consul": {"serviceDiscovery": {}}})
    folder = load(tmp_path, {"directoryConfigSource": {"directory": "x"}})

    assert kv.message.consul.http_address == services.message.consul.http_address == "127.0.0.1:8500"
    assert folder.message.consul.http_address == ""


def test_http_address_wins_over_the_old_field(tmp_path: Path) -> None:
    """``consul.address`` counts only without ``httpAddress``."""
    old = load(tmp_path, {"consul": {"address": "old:1"}, "consulKvSource": {}})
    both = load(tmp_path, {"consul": {"address": "old:1", "httpAddress": "new:2"}, "consulKvSource": {}})

    assert old.message.consul.http_address == "old:1"
    assert both.message.consul.http_address == "new:2"


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"CONSUL_HTTP_TOKEN": "t"}, "token", "t"),
        ({"CONSUL_CACERT": "/ca"}, "ca_file", "/ca"),
        ({"CONSUL_CAPATH": "/cas"}, "ca_path", "/cas"),
        ({"CONSUL_CLIENT_CERT": "/cert"}, "cert_file", "/cert"),
        ({"CONSUL_CLIENT_KEY": "/key"}, "key_file", "/key"),
        ({"CONSUL_HTTP_AUTH": "user:pass:word"}, "username", "user"),
        ({"CONSUL_HTTP_AUTH": "user:pass:word"}, "password", "pass:word"),
        ({"CONSUL_HTTP_SSL": "true"}, "http_address", "https://consul.test:8500"),
        ({"CONSUL_HTTP_SSL": "1"}, "http_address", "https://consul.test:8500"),
        ({"CONSUL_HTTP_SSL": "false"}, "http_address", "consul.test:8500"),
        ({"CONSUL_HTTP_SSL": "true", "CONSUL_HTTP_ADDR": "unix:///s"}, "http_address", "unix:///s"),
    ],
)
def test_consuls_variables(environ: dict[str, str], field: str, value: str) -> None:
    """The variables of Consul's own clients are taken where no file says otherwise."""
    settings = load_settings(Flags(), {**CONSUL, **environ})

    assert getattr(settings.message.consul, field) == value


@pytest.mark.parametrize(
    ("text", "insecure"), [("false", True), ("0", True), ("F", True), ("true", False), ("", False)]
)
def test_consuls_certificate_check(text: str, *, insecure: bool) -> None:
    """CONSUL_HTTP_SSL_VERIFY is read as Go reads it."""
    settings = load_settings(Flags(), {**CONSUL, "CONSUL_HTTP_SSL_VERIFY": text})

    assert settings.message.consul.insecure_skip_verify.value is insecure


def test_the_file_wins_over_the_environment(tmp_path: Path) -> None:
    """What the file says of Consul and Vault stays, also an explicit false."""
    settings = load(
        tmp_path,
        {
            "consulKvSource": {},
            "consul": {"httpAddress": "file:1", "token": "file", "insecureSkipVerify": False, "username": "file"},
            "vaultSecretSource": {"address": "http://file:2", "accessToken": "file"},
        },
        {
            **CONSUL,
            "CONSUL_HTTP_TOKEN": "env",
            "CONSUL_HTTP_SSL_VERIFY": "false",
            "CONSUL_HTTP_AUTH": "env:env",
            "VAULT_ADDR": "http://env:3",
            "VAULT_TOKEN": "env",
        },
    )

    consul, vault = settings.message.consul, settings.message.vault_secret_source
    assert (consul.http_address, consul.token, consul.username) == ("file:1", "file", "file")
    assert consul.insecure_skip_verify.value is False
    assert (vault.address, vault.access_token) == ("http://file:2", "file")


def test_vaults_variables(tmp_path: Path) -> None:
    """VAULT_ADDR asks for secrets of that Vault, unless the file names a source of its own."""
    environ = {**CONSUL, "VAULT_ADDR": "http://vault.test:8200", "VAULT_TOKEN": "token"}
    without = load_settings(Flags(), environ).message
    folder = load(tmp_path, {"consulKvSource": {}, "directorySecretSource": {"directory": "s"}}, environ).message
    sources = {"secretOptions": {"sources": [{"directory": {"directory": "s"}}]}}
    several = load(tmp_path, {"consulKvSource": {}, **sources}, environ).message
    old_token = load(tmp_path, {"consulKvSource": {}, "vaultSecretSource": {"token": "old"}}, environ).message

    assert without.vault_secret_source.address == "http://vault.test:8200"
    assert without.vault_secret_source.access_token == "token"
    assert folder.WhichOneof("secret_source") == "directory_secret_source"
    assert several.WhichOneof("secret_source") is None
    assert old_token.vault_secret_source.address == "http://vault.test:8200"
    assert old_token.vault_secret_source.access_token == "old"


def test_flags_win_over_all(tmp_path: Path) -> None:
    """Every flag that says something replaces what file and environment say."""
    document = {
        "consulKvSource": {},
        "consul": {"httpAddress": "file:1"},
        "secretOptions": {"sources": [{"directory": {"directory": "s"}}]},
        "gloo": {"xdsBindAddr": "0.0.0.0:1"},
        "extensions": {"configs": {"gloo-nomad": {"adminBindAddr": "0.0.0.0:2", "frontDoorBindAddr": "0.0.0.0:3"}}},
    }
    flags = Flags(
        directory=write(tmp_path, document),
        consul_address="flag:1",
        vault_address="http://flag:2",
        config_directory="folder",
        xds_bind="127.0.0.1:4",
        admin_bind="127.0.0.1:5",
        front_door_bind="127.0.0.1:6",
    )
    settings = load_settings(flags, {**CONSUL, "VAULT_ADDR": "http://env:3"})

    assert settings.message.consul.http_address == "flag:1"
    assert settings.message.vault_secret_source.address == "http://flag:2"
    assert not settings.message.secret_options.sources
    assert settings.config_directory == "folder"
    assert settings.xds_bind == ("127.0.0.1", 4)
    assert settings.admin_bind == ("127.0.0.1", 5)
    assert settings.front_door_bind == ("127.0.0.1", 6)


def test_another_name_and_namespace(tmp_path: Path) -> None:
    """``--namespace`` and ``--name`` choose the file and the object of Consul KV."""
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "mine.yaml").write_text("metadata: {name: mine, namespace: edge}\nconsulKvSource: {}\n")
    settings = load_settings(Flags(directory=str(tmp_path), namespace="edge", name="mine"), {})

    assert settings.ref == ("edge", "mine")
    assert settings.message.metadata.name == "mine"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path that was looked for is in the text."""
    with pytest.raises(SettingsError) as caught:
        load_settings(Flags(directory=str(tmp_path)), CONSUL)

    assert f"{tmp_path}/gloo-system/default.yaml: No such file" in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Bad YAML, an unknown field, a wrong type and another object's name are told with file and field."""
    assert "default.yaml" in refusal(tmp_path, "metadata: [}")
    assert "default.yaml: gloo.xdsBindAddress: unknown field" in refusal(tmp_path, {"gloo": {"xdsBindAddress": "x"}})
    assert "default.yaml: consul.token" in refusal(tmp_path, {"consul": {"token": ["x"]}})
    assert "gloo-system.default" in refusal(tmp_path, {"metadata": {"name": "other", "namespace": "gloo-system"}})


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"kubernetesConfigSource": {}}, "kubernetesConfigSource: is not supported"),
        ({"directoryConfigSource": {}}, "directoryConfigSource.directory: is missing"),
        ({"consulKvSource": {}, "directorySecretSource": {}}, "directorySecretSource.directory: is missing"),
        ({"consulKvSource": {}, "directoryArtifactSource": {}}, "directoryArtifactSource.directory: is missing"),
        (
            {"consulKvSource": {}, "secretOptions": {"sources": [{"vault": {}}, {"directory": {}}]}},
            "secretOptions.sources[1].directory.directory: is missing",
        ),
        ({"consulKvSource": {}, "gloo": {"xdsBindAddr": "9977"}}, 'gloo.xdsBindAddr: "9977" is not host:port'),
        ({"consulKvSource": {}, "gloo": {"proxyDebugBindAddr": "a:b"}}, 'gloo.proxyDebugBindAddr: "a:b" is not'),
        ({"consulKvSource": {}, "gloo": {"restXdsBindAddr": "a:b"}}, 'gloo.restXdsBindAddr: "a:b" is not'),
    ],
)
def test_a_file_that_asks_for_the_impossible(tmp_path: Path, document: dict[str, Any], told: str) -> None:
    """Sources without a place, sources of Kubernetes and addresses that are none are refused at the start."""
    assert told in refusal(tmp_path, document)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"adminBindAddr": 9091}, "extensions.configs[gloo-nomad].adminBindAddr: is to be text"),
        (
            {"createDefaultGateways": "no"},
            "extensions.configs[gloo-nomad].createDefaultGateways: is to be true or false",
        ),
        ({"adminBindAddr": "x"}, 'extensions.configs[gloo-nomad].adminBindAddr: "x" is not host:port'),
        ({"devBindAddr": "x:y"}, 'extensions.configs[gloo-nomad].devBindAddr: "x:y" is not host:port'),
        ({"frontDoorBindAddr": "1.2.3.4"}, 'extensions.configs[gloo-nomad].frontDoorBindAddr: "1.2.3.4" is not'),
    ],
)
def test_own_settings_of_another_type(tmp_path: Path, own: dict[str, Any], told: str) -> None:
    """A text is no yes or no, and a number no address."""
    document = {"consulKvSource": {}, "extensions": {"configs": {"gloo-nomad": own}}}

    assert told in refusal(tmp_path, document)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:9977", ("0.0.0.0", 9977)),
        (":80", ("0.0.0.0", 80)),
        ("localhost:0", ("localhost", 0)),
        ("[::]:9977", ("::", 9977)),
        ("[fe80::1]:65535", ("fe80::1", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    """Host and port; without a host all IPv4 addresses are meant, and an IPv6 host stands in brackets."""
    assert parse_address(text, "field") == address


@pytest.mark.parametrize("text", ["", "9977", "host", "host:", "h:-1", "h:65536", "h:²", "::1:80", "[::1:80", "h]:1"])
def test_addresses_that_are_none(text: str) -> None:
    """Everything else is refused with the field, never with another exception."""
    with pytest.raises(SettingsError, match=r"^field: .* is not host:port"):
        parse_address(text, "field")


def test_the_environment_does_not_show() -> None:
    """What stands for the settings in a log has no variables in it: tokens are among them."""
    assert "canary" not in repr(load_settings(Flags(), {**CONSUL, "VAULT_TOKEN_FILE": "canary"}))
