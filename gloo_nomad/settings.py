"""Settings: the file, the environment and flags, with the Settings object of Consul KV laid on top, live.

The reference reads ``DIR/NAMESPACE/NAME.yaml`` and nothing else. Here a Consul address is enough to start, and the
object ``<root>/gloo.solo.io/v1/Settings/<namespace>/<name>`` in Consul KV overrides the file field by field for as long
as it exists. What the contract has no field for stands in ``extensions.configs["gloo-nomad"]`` (``OWN_FIELDS``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import SETTINGS
from gloo_nomad.api.refs import Ref

EXTENSION: Final = "gloo-nomad"
DEFAULT_NAMESPACE: Final = "gloo-system"
DEFAULT_ROOT_KEY: Final = "gloo"

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
        "circuit_breakers",
        "invalid_config_policy",
        "disable_proxy_garbage_collection",
        "remove_unused_filters",
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

OWN_FIELDS: Final[Mapping[str, Any]] = {
    "adminBindAddr": "127.0.0.1:9091",
    "frontDoorBindAddr": "127.0.0.1:8443",
    "frontDoorTlsCert": "",
    "frontDoorTlsKey": "",
    "createDefaultGateways": True,
}
"""Our own settings with their defaults; all are optional."""


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
        if top is None:
            return self
        merged = settings_pb2.Settings()
        merged.CopyFrom(self.message)
        lay_over(merged, top)
        return replace(self, message=merged)


def load_settings(flags: Flags, environ: Mapping[str, str]) -> RuntimeSettings:
    """The settings to start with: the file if ``--dir`` is given, then environment and flags on top.

    Raises:
        SettingsError: the file is missing or is no Settings object, or an address cannot be read.
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
    settings = RuntimeSettings(message, ref, dict(environ))
    for _ in (settings.xds_bind, settings.admin_bind, settings.front_door_bind, settings.proxy_debug_bind):
        pass  # each raises SettingsError for an address that cannot be read
    return settings


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
    consul.token = consul.token or environ.get("CONSUL_HTTP_TOKEN", "")
    consul.ca_file = consul.ca_file or environ.get("CONSUL_CACERT", "")
    consul.cert_file = consul.cert_file or environ.get("CONSUL_CLIENT_CERT", "")
    consul.key_file = consul.key_file or environ.get("CONSUL_CLIENT_KEY", "")
    if not consul.HasField("insecure_skip_verify") and environ.get("CONSUL_HTTP_SSL_VERIFY") == "false":
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
    if address and "://" not in address and environ.get("CONSUL_HTTP_SSL") == "true":
        return f"https://{address}"
    return address


def _apply_flags(flags: Flags, out: settings_pb2.Settings) -> None:
    out.metadata.name, out.metadata.namespace = flags.name, flags.namespace
    if flags.consul_address:
        out.consul.http_address = flags.consul_address
    if flags.vault_address:
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
    if not separator or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise SettingsError(f'{field_name}: "{address}" is not host:port; write for example 0.0.0.0:9977')
    return host.strip("[]") or "0.0.0.0", int(port)


def lay_over(out: Any, top: Any) -> None:
    """Puts every field that *top* has onto *out*: messages field by field, maps key by key, lists as a whole.

    A wrapper or a Duration is one value, so that an explicit ``false`` or ``0s`` overrides.
    """
    for descriptor, value in top.ListFields():
        if descriptor.message_type is None:
            _replace(descriptor, value, out)
        elif descriptor.message_type.GetOptions().map_entry:
            _lay_over_map(descriptor, value, getattr(out, descriptor.name))
        elif descriptor.is_repeated:
            _replace(descriptor, value, out)
        elif _is_one_value(descriptor.message_type.full_name):
            getattr(out, descriptor.name).CopyFrom(value)
        else:
            getattr(out, descriptor.name).SetInParent()
            lay_over(getattr(out, descriptor.name), value)


def _is_one_value(message_name: str) -> bool:
    return message_name.startswith("google.protobuf.") and message_name != "google.protobuf.Struct"


def _replace(descriptor: Any, value: Any, out: Any) -> None:
    if descriptor.is_repeated:
        out.ClearField(descriptor.name)
        getattr(out, descriptor.name).extend(value)
    else:
        setattr(out, descriptor.name, value)


def _lay_over_map(descriptor: Any, value: Any, out: Any) -> None:
    if descriptor.message_type.fields_by_name["value"].message_type is None:
        out.update(value)
        return
    for key, message in value.items():
        if _is_one_value(message.DESCRIPTOR.full_name):
            out[key].CopyFrom(message)
        else:
            lay_over(out[key], message)
