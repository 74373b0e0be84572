"""Settings: the file, the environment and flags, with the Settings object of Consul KV laid on top, live.

The reference reads ``DIR/NAMESPACE/NAME.yaml`` and nothing else. Here a Consul address is enough to start, and the
object ``<root>/gloo.solo.io/v1/Settings/<namespace>/<name>`` in Consul KV overrides the file field by field for as long
as it exists. What the contract has no field for stands in ``extensions.configs["gloo-nomad"]`` (``OWN_FIELDS``).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.overlay import EXTENSION, ignored_findings, merge
from gloo_nomad.reports import Finding, error, is_rejected, warning

DEFAULT_NAMESPACE: Final = "gloo-system"
DEFAULT_ROOT_KEY: Final = "gloo"
DEFAULT_CONSUL: Final = "127.0.0.1:8500"

FIELDS: Final = {
    "gloo.solo.io.Settings": (
        "metadata",
        "discovery_namespace",
        "watch_namespaces",
        "consul_kv_source",
        "directory_config_source",
        "vault_secret_source",
        "directory_secret_source",
        "secret_options",
        "consul_kv_artifact_source",
        "refresh_rate",
        "consul",
        "consulDiscovery",
        "discovery",
        "gloo",
        "gateway",
        "upstreamOptions",
        "extensions",
        "ip_v4_only",
    ),
    "gloo.solo.io.Settings.DiscoveryOptions": ("uds_options",),
    "gloo.solo.io.Settings.DiscoveryOptions.UdsOptions": ("enabled",),
    "gloo.solo.io.Settings.ConsulConfiguration": (
        "address",
        "http_address",
        "datacenter",
        "username",
        "password",
        "token",
        "ca_file",
        "ca_path",
        "cert_file",
        "key_file",
        "insecure_skip_verify",
        "service_discovery",
    ),
    "gloo.solo.io.Settings.ConsulUpstreamDiscoveryConfiguration": (
        "useTlsTagging",
        "tlsTagName",
        "rootCa",
        "splitTlsServices",
        "consistencyMode",
        "query_options",
        "service_tags_allowlist",
    ),
    "gloo.solo.io.Settings.SecretOptions.Source": ("vault", "directory"),
    "gloo.solo.io.Settings.VaultSecrets": (
        "token",
        "address",
        "ca_cert",
        "ca_path",
        "client_cert",
        "client_key",
        "tls_server_name",
        "insecure",
        "root_key",
        "path_prefix",
        "tls_config",
        "access_token",
    ),
    "gloo.solo.io.GlooOptions": (
        "xds_bind_addr",
        "proxy_debug_bind_addr",
        "endpoints_warming_timeout",
        "circuit_breakers",
        "invalid_config_policy",
        "disable_proxy_garbage_collection",
        "remove_unused_filters",
        "disable_grpc_web",
    ),
    "gloo.solo.io.GatewayOptions": (
        "read_gateways_from_all_namespaces",
        "virtual_service_options",
        "isolate_virtual_hosts_by_ssl_config",
        "translate_empty_gateways",
        "validation",
    ),
    "gloo.solo.io.GatewayOptions.ValidationOptions": ("warn_missing_tls_secret",),
}
"""What of a Settings object has an effect, as in ``options.hooks``."""
EXTENSIONS: Final = (EXTENSION,)

OWN_FIELDS: Final[Mapping[str, Any]] = {
    "adminBindAddr": "127.0.0.1:9091",
    "frontDoorBindAddr": "127.0.0.1:9095",
    "frontDoorTlsCert": "",
    "frontDoorTlsKey": "",
    "createDefaultGateways": True,
}
"""Our own settings with their defaults; all are optional."""
_PORT: Final = re.compile(r"[0-9]{1,5}")
_KINDS_OF_VALUES: Final = {str: "string_value", bool: "bool_value"}
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
"""What Go's ParseBool takes, and with it the CONSUL_* variables."""
_CONSUL_VARIABLES: Final = {
    "token": "CONSUL_HTTP_TOKEN",
    "ca_file": "CONSUL_CACERT",
    "ca_path": "CONSUL_CAPATH",
    "cert_file": "CONSUL_CLIENT_CERT",
    "key_file": "CONSUL_CLIENT_KEY",
}


class SettingsError(Exception):
    """The settings cannot be used; the text names the file and field, and what to do."""


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


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """The settings in force. ``message`` is the same object as long as nothing in it changed."""

    message: settings_pb2.Settings
    ref: Ref
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def write_namespace(self) -> str:
        """Where Proxies and discovered Upstreams are, and Gateways are read from."""
        return self.message.discovery_namespace or DEFAULT_NAMESPACE

    @property
    def watch_namespaces(self) -> frozenset[str]:
        """Namespaces whose objects are read; empty for all."""
        listed = frozenset(filter(None, self.message.watch_namespaces))
        return listed | {self.write_namespace} if listed else frozenset()

    @property
    def reporter(self) -> str:
        """The key under which statuses are written."""
        return self.environ.get("POD_NAMESPACE") or self.write_namespace

    @property
    def root_key(self) -> str:
        """The first part of every key in Consul KV."""
        return self.message.consul_kv_source.root_key.strip("/") or DEFAULT_ROOT_KEY

    @property
    def config_directory(self) -> str:
        """The folder of objects, or "" when they are in Consul KV."""
        if self.message.WhichOneof("config_source") == "directory_config_source":
            return self.message.directory_config_source.directory
        return ""

    @property
    def uses_consul_kv(self) -> bool:
        """Whether objects are read from Consul KV."""
        return self.message.WhichOneof("config_source") == "consul_kv_source"

    @property
    def discovers_services(self) -> bool:
        """Whether Consul's services are read: the presence of ``consul.serviceDiscovery``, even empty."""
        return self.message.consul.HasField("service_discovery")

    @property
    def xds_bind(self) -> tuple[str, int]:
        """Where Envoys connect."""
        return parse_address(self.message.gloo.xds_bind_addr or "0.0.0.0:9977", "gloo.xdsBindAddr")

    @property
    def proxy_debug_bind(self) -> tuple[str, int]:
        """Where ``GetProxies`` is served."""
        return parse_address(self.message.gloo.proxy_debug_bind_addr or "127.0.0.1:9966", "gloo.proxyDebugBindAddr")

    @property
    def admin_bind(self) -> tuple[str, int]:
        """Where metrics, health and snapshots are served."""
        return parse_address(str(self.own("adminBindAddr")), f"extensions.configs.{EXTENSION}.adminBindAddr")

    @property
    def front_door_bind(self) -> tuple[str, int]:
        """Where the REST API of the gateway role is served."""
        return parse_address(str(self.own("frontDoorBindAddr")), f"extensions.configs.{EXTENSION}.frontDoorBindAddr")

    def own(self, name: str) -> Any:
        """One of ``OWN_FIELDS``."""
        configs = self.message.extensions.configs
        if EXTENSION in configs and name in configs[EXTENSION].fields:
            return json_format.MessageToDict(configs[EXTENSION].fields[name])
        return OWN_FIELDS[name]

    def overlaid(self, top: settings_pb2.Settings | None) -> "RuntimeSettings":
        """These settings with the object of Consul KV laid on top; None takes it away again."""
        return self if top is None else replace(self, message=merge(self.message, top))

    def overlay_findings(self, top: settings_pb2.Settings) -> tuple[Finding, ...]:
        """What is wrong with an object that is to be laid on top; with an error it must not be."""
        return (*source_findings(top), *own_findings(top), *ignored_findings(self.message, top))


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
    for _ in (settings.xds_bind, settings.admin_bind, settings.front_door_bind, settings.proxy_debug_bind):
        pass  # each raises SettingsError for an address that cannot be read


def source_findings(message: settings_pb2.Settings) -> Iterator[Finding]:
    """Sources that a Settings message asks for and that cannot be read."""
    if message.WhichOneof("config_source") == "kubernetes_config_source":
        yield error("kubernetesConfigSource", "is not supported; use consulKvSource or directoryConfigSource")
    for name, kept in (("directory_config_source", "objects"), ("directory_secret_source", "secrets")):
        if message.HasField(name) and not getattr(message, name).directory:  # type: ignore[arg-type]  # names of fields
            path = message.DESCRIPTOR.fields_by_name[name].camelcase_name
            yield error(f"{path}.directory", f"is missing; write the path of the folder with the {kept}")
    for index, source in enumerate(message.secret_options.sources):
        if source.HasField("directory") and not source.directory.directory:
            path = f"secretOptions.sources[{index}].directory.directory"
            yield error(path, "is missing; write the path of the folder with the secrets")


def own_findings(message: settings_pb2.Settings) -> Iterator[Finding]:
    """Fields of our own extension that nobody knows, or whose value is of another type."""
    configs = message.extensions.configs
    fields = configs[EXTENSION].fields if EXTENSION in configs else {}
    for name in sorted(fields):
        path = f"extensions.configs[{EXTENSION}].{name}"
        if name not in OWN_FIELDS:
            yield warning(path, f"is not known; known are {', '.join(sorted(OWN_FIELDS))}")
        elif fields[name].WhichOneof("kind") != _KINDS_OF_VALUES[type(OWN_FIELDS[name])]:
            yield error(path, f"is to be a {'text' if isinstance(OWN_FIELDS[name], str) else 'true or false'}")


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
    """The standard variables of Consul's and Vault's clients fill what the file leaves open."""
    consul = out.consul
    if not consul.http_address:
        consul.http_address = consul.address or _with_scheme(environ)
    for name, variable in _CONSUL_VARIABLES.items():
        setattr(consul, name, getattr(consul, name) or environ.get(variable, ""))
    if not consul.username and environ.get("CONSUL_HTTP_AUTH"):
        consul.username, _, consul.password = environ["CONSUL_HTTP_AUTH"].partition(":")
    if not consul.HasField("insecure_skip_verify") and environ.get("CONSUL_HTTP_SSL_VERIFY") in _FALSE:
        consul.insecure_skip_verify.value = True
    if out.WhichOneof("secret_source") is None and not out.secret_options.sources and environ.get("VAULT_ADDR"):
        out.vault_secret_source.address = environ["VAULT_ADDR"]
    if out.WhichOneof("secret_source") == "vault_secret_source":
        vault = out.vault_secret_source
        vault.address = vault.address or environ.get("VAULT_ADDR", "")
        if vault.WhichOneof("auth_method") is None:
            vault.access_token = vault.token or environ.get("VAULT_TOKEN", "")


def _with_scheme(environ: Mapping[str, str]) -> str:
    address = environ.get("CONSUL_HTTP_ADDR", "")
    if address and "://" not in address and environ.get("CONSUL_HTTP_SSL") in _TRUE:
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
    if flags.xds_bind:
        out.gloo.xds_bind_addr = flags.xds_bind
    for name, value in (("adminBindAddr", flags.admin_bind), ("frontDoorBindAddr", flags.front_door_bind)):
        if value:
            out.extensions.configs[EXTENSION].update({name: value})


def parse_address(address: str, field_name: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 host stands in brackets.

    Raises:
        SettingsError: it is something else.
    """
    host, separator, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    readable = separator and _PORT.fullmatch(port) and (bracketed or not set(":[]") & set(host))
    if not readable or int(port) > 65535:
        raise SettingsError(f'{field_name}: "{address}" is not host:port; write for example 0.0.0.0:9977')
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)
