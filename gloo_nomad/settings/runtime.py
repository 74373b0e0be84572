"""The settings in force: a Settings message, and what it means."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.reports import Finding, error
from gloo_nomad.settings.addresses import parse_address
from gloo_nomad.settings.overlay import ignored_findings, merge
from gloo_nomad.settings.own import own_findings, own_path, own_value
from gloo_nomad.settings.status_labels import label_findings

DEFAULT_NAMESPACE: Final = "gloo-system"
DEFAULT_ROOT_KEY: Final = "gloo"


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
    def rest_xds_bind(self) -> tuple[str, int]:
        """Where Envoys ask for endpoints by REST, if they do."""
        return parse_address(self.message.gloo.rest_xds_bind_addr or "0.0.0.0:9976", "gloo.restXdsBindAddr")

    @property
    def dev_bind(self) -> tuple[str, int]:
        """Where the pages of ``devMode`` are served."""
        return parse_address(str(self.own("devBindAddr")), own_path("devBindAddr"))

    @property
    def proxy_debug_bind(self) -> tuple[str, int]:
        """Where ``GetProxies`` is served."""
        return parse_address(self.message.gloo.proxy_debug_bind_addr or "127.0.0.1:9966", "gloo.proxyDebugBindAddr")

    @property
    def admin_bind(self) -> tuple[str, int]:
        """Where metrics, health and snapshots are served."""
        return parse_address(str(self.own("adminBindAddr")), own_path("adminBindAddr"))

    @property
    def front_door_bind(self) -> tuple[str, int]:
        """Where the REST API of the gateway role is served."""
        return parse_address(str(self.own("frontDoorBindAddr")), own_path("frontDoorBindAddr"))

    @property
    def translates_gateways(self) -> bool:
        """Whether proxies are made of Gateways; otherwise they are Proxy objects that somebody stores."""
        gateway = self.message.gateway
        return not gateway.HasField("enable_gateway_controller") or gateway.enable_gateway_controller.value

    def own(self, name: str) -> Any:
        """One of our own settings (``settings.own``)."""
        return own_value(self.message, name)

    def overlaid(self, top: settings_pb2.Settings | None) -> "RuntimeSettings":
        """These settings with the object of Consul KV laid on top; None takes it away again."""
        return self if top is None else replace(self, message=merge(self.message, top))

    def overlay_findings(self, top: settings_pb2.Settings) -> tuple[Finding, ...]:
        """What is wrong with an object that is to be laid on top; with an error it must not be."""
        return (
            *source_findings(top),
            *own_findings(top),
            *label_findings(top),
            *ignored_findings(self.message, top),
        )


_FOLDERS: Final = (
    ("directory_config_source", "objects"),
    ("directory_secret_source", "secrets"),
    ("directory_artifact_source", "artifacts"),
)


def source_findings(message: settings_pb2.Settings) -> Iterator[Finding]:
    """Sources that a Settings message asks for and that cannot be read."""
    if message.WhichOneof("config_source") == "kubernetes_config_source":
        yield error("kubernetesConfigSource", "is not supported; use consulKvSource or directoryConfigSource")
    for name, kept in _FOLDERS:
        if message.HasField(name) and not getattr(message, name).directory:  # type: ignore[arg-type]  # names of fields
            path = message.DESCRIPTOR.fields_by_name[name].camelcase_name
            yield error(f"{path}.directory", f"is missing; write the path of the folder with the {kept}")
    for index, source in enumerate(message.secret_options.sources):
        if source.HasField("directory") and not source.directory.directory:
            path = f"secretOptions.sources[{index}].directory.directory"
            yield error(path, "is missing; write the path of the folder with the secrets")
