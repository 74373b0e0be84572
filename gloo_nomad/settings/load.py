"""Settings at the start: the file if there is one, then environment and flags on top."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.reports import is_rejected
from gloo_nomad.settings.addresses import SettingsError
from gloo_nomad.settings.own import EXTENSION, own_findings
from gloo_nomad.settings.runtime import DEFAULT_NAMESPACE, DEFAULT_ROOT_KEY, RuntimeSettings, source_findings

DEFAULT_CONSUL: Final = "127.0.0.1:8500"
TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
"""What Go's ParseBool takes, and with it the CONSUL_* variables."""
_CONSUL_VARIABLES: Final = {
    "token": "CONSUL_HTTP_TOKEN",
    "ca_file": "CONSUL_CACERT",
    "ca_path": "CONSUL_CAPATH",
    "cert_file": "CONSUL_CLIENT_CERT",
    "key_file": "CONSUL_CLIENT_KEY",
}


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says; it wins over the file, an empty value says nothing."""

    directory: str = ""
    namespace: str = DEFAULT_NAMESPACE
    name: str = "default"
    consul_address: str = ""
    vault_address: str = ""
    config_directory: str = ""
    xds_bind: str = ""
    admin_bind: str = ""
    front_door_bind: str = ""
    data_directory: str = ""
    xds_tls: str = ""
    xds_tls_folder: str = ""


def load_settings(flags: Flags, environ: Mapping[str, str]) -> RuntimeSettings:
    """The settings to start with: the file if ``--dir`` is given, then environment and flags on top.

    Raises:
        SettingsError: the file is missing or is no Settings object, or what it says cannot be used.
    """
    ref = Ref(flags.namespace, flags.name)
    message = _read_file(Path(flags.directory), ref) if flags.directory else settings_pb2.Settings()
    _apply_environment(environ, message)
    _apply_flags(flags, message)
    if message.WhichOneof("config_source") is None and message.consul.http_address:
        message.consul_kv_source.root_key = DEFAULT_ROOT_KEY
    if message.WhichOneof("config_source") is None:
        raise SettingsError(
            "nowhere to read objects from: give --dir with a Settings file, --config-dir with a folder of objects, or "
            "a Consul address (--consul-address or CONSUL_HTTP_ADDR)"
        )
    if message.WhichOneof("config_source") == "consul_kv_source" or message.consul.HasField("service_discovery"):
        message.consul.http_address = message.consul.http_address or DEFAULT_CONSUL
    settings = RuntimeSettings(message, ref, dict(environ))
    _check(settings)
    return settings


def _check(settings: RuntimeSettings) -> None:
    for finding in (*source_findings(settings.message), *own_findings(settings.message)):
        if is_rejected([finding]):
            raise SettingsError(f"{finding.path}: {finding.message}")
    _ = (  # each raises SettingsError for an address that cannot be read
        *(settings.xds_bind, settings.rest_xds_bind, settings.proxy_debug_bind),
        *(settings.admin_bind, settings.front_door_bind, settings.dev_bind),
    )


def _read_file(directory: Path, ref: Ref) -> settings_pb2.Settings:
    path = directory / ref.namespace / f"{ref.name}.yaml"
    try:
        text = path.read_bytes()
    except OSError as failure:
        raise SettingsError(f"cannot read the Settings file {path}: {failure.strerror}") from failure
    decoded = codec.decode(SETTINGS, text, ref)
    if decoded.rejection is not None or decoded.message is None:
        raise SettingsError(f"{path}: {_told(decoded.rejection)}")
    message = settings_pb2.Settings()
    message.MergeFrom(decoded.message)  # type: ignore[arg-type]  # a decoded Settings is one
    return message


def _told(rejection: codec.Rejection | None) -> str:
    if rejection is None:
        return "is not a Settings object"
    return f"{rejection.path}: {rejection.message}" if rejection.path else rejection.message


def _apply_environment(environ: Mapping[str, str], out: settings_pb2.Settings) -> None:
    """The standard variables of Consul's and Vault's clients fill what the file leaves open; one of the reference's."""
    consul = out.consul
    if not consul.http_address:
        consul.http_address = consul.address or _with_scheme(environ)
    for name, variable in _CONSUL_VARIABLES.items():
        setattr(consul, name, getattr(consul, name) or environ.get(variable, ""))
    if not consul.username and environ.get("CONSUL_HTTP_AUTH"):
        consul.username, _, consul.password = environ["CONSUL_HTTP_AUTH"].partition(":")
    if not consul.HasField("insecure_skip_verify") and environ.get("CONSUL_HTTP_SSL_VERIFY") in _FALSE:
        consul.insecure_skip_verify.value = True
    if environ.get("HEADER_SECRET_REF_NS_MATCHES_US", "").lower() in {"1", "true"}:
        out.extensions.configs[EXTENSION].update({"headerSecretNamespaceMatches": True})
    if out.WhichOneof("secret_source") is None and not out.secret_options.sources and environ.get("VAULT_ADDR"):
        out.vault_secret_source.address = environ["VAULT_ADDR"]
    if out.WhichOneof("secret_source") == "vault_secret_source":
        vault = out.vault_secret_source
        vault.address = vault.address or environ.get("VAULT_ADDR", "")
        if vault.WhichOneof("auth_method") is None:
            vault.access_token = vault.token or environ.get("VAULT_TOKEN", "")


def _with_scheme(environ: Mapping[str, str]) -> str:
    address = environ.get("CONSUL_HTTP_ADDR", "")
    if address and "://" not in address and environ.get("CONSUL_HTTP_SSL") in TRUE:
        return f"https://{address}"
    return address


def _apply_flags(flags: Flags, out: settings_pb2.Settings) -> None:
    out.metadata.name, out.metadata.namespace = flags.name, flags.namespace
    if flags.consul_address:
        out.consul.http_address = flags.consul_address
    if flags.vault_address:
        out.secret_options.ClearField("sources")
        out.vault_secret_source.address = flags.vault_address
    if flags.config_directory:
        out.directory_config_source.directory = flags.config_directory
        if out.WhichOneof("secret_source") is None and not out.secret_options.sources:
            out.directory_secret_source.directory = flags.config_directory
        if out.WhichOneof("artifact_source") is None:
            out.directory_artifact_source.directory = flags.config_directory
    if flags.xds_bind:
        out.gloo.xds_bind_addr = flags.xds_bind
    own = {
        "adminBindAddr": flags.admin_bind,
        "frontDoorBindAddr": flags.front_door_bind,
        "dataDirectory": flags.data_directory,
        "xdsTls": flags.xds_tls,
        "xdsTlsFolder": flags.xds_tls_folder,
    }
    for name, value in own.items():
        if value:
            out.extensions.configs[EXTENSION].update({name: value})
