"""Clients of Consul, as the settings and the environment say; those of Vault are in ``app.vault``."""

from collections.abc import Mapping

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.app.vault import check_vaults
from gloo_nomad.clients.address import Address, Tls, parse_address
from gloo_nomad.clients.consul import ConsulOptions
from gloo_nomad.clients.token import Token
from gloo_nomad.settings import RuntimeSettings, SettingsError

CONSUL_PORT = 8500
DNS_PORT = 8600


def consul_options(settings: RuntimeSettings) -> ConsulOptions | None:
    """How to reach Consul; None if no address is known.

    Raises:
        SettingsError: the address cannot be read.
    """
    consul = settings.message.consul
    if not consul.http_address:
        return None
    return ConsulOptions(
        address=_address(consul.http_address, CONSUL_PORT, "consul.httpAddress"),
        token=Token(consul.token, settings.environ.get("CONSUL_HTTP_TOKEN_FILE", "")),
        datacenter=consul.datacenter,
        tls=_consul_tls(consul, settings.environ),
        namespace=settings.environ.get("CONSUL_NAMESPACE", ""),
        partition=settings.environ.get("CONSUL_PARTITION", ""),
        username=consul.username,
        password=consul.password,
    )


def dns_server(settings: RuntimeSettings) -> Address:
    """Who is asked for host names of instances: ``consul.dnsAddress``, else Consul's DNS server on this machine.

    Raises:
        SettingsError: it cannot be read.
    """
    return _address(settings.message.consul.dns_address or "127.0.0.1", DNS_PORT, "consul.dnsAddress")


def _consul_tls(consul: settings_pb2.Settings.ConsulConfiguration, environ: Mapping[str, str]) -> Tls:
    return Tls(
        ca_file=consul.ca_file,
        ca_path=consul.ca_path,
        cert_file=consul.cert_file,
        key_file=consul.key_file,
        server_name=environ.get("CONSUL_TLS_SERVER_NAME", ""),
        insecure=consul.insecure_skip_verify.value,
    )


def check_clients(settings: RuntimeSettings) -> None:
    """Looks whether the clients can be built that the settings ask for; talks to nobody.

    Raises:
        SettingsError: an address cannot be read, or a file is missing.
    """
    consul = consul_options(settings)
    dns_server(settings)
    if consul is not None:
        try:
            consul.tls.context()
        except (OSError, ValueError) as failure:
            raise SettingsError(f"consul: its TLS files cannot be used: {failure}") from failure
    check_vaults(settings)


def _address(text: str, port: int, field_name: str) -> Address:
    try:
        return parse_address(text, port)
    except ValueError as reason:
        raise SettingsError(f"{field_name}: {reason}") from reason
