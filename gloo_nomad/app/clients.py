"""Clients of Consul and Vault, as the settings and the environment say."""

from collections.abc import Mapping

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.clients.address import Address, Tls, parse_address
from gloo_nomad.clients.consul import ConsulOptions
from gloo_nomad.clients.token import Token
from gloo_nomad.clients.vault import VaultClient, VaultOptions
from gloo_nomad.settings import RuntimeSettings, SettingsError

CONSUL_PORT = 8500
DNS_PORT = 8600
VAULT_PORT = 8200


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


def vault_client(vault: settings_pb2.Settings.VaultSecrets, settings: RuntimeSettings) -> VaultClient:
    """A client of the Vault that a secret source names; its token is the settings' or the environment's.

    A token file (Nomad's ``VAULT_TOKEN_FILE``) is followed when it changes.

    Raises:
        SettingsError: there is no address, or it cannot be read.
    """
    environ = settings.environ
    if vault.WhichOneof("auth_method") == "aws":
        raise SettingsError("vaultSecretSource.aws is not supported; give accessToken, VAULT_TOKEN or VAULT_TOKEN_FILE")
    address = vault.address or environ.get("VAULT_ADDR", "")
    if not address:
        raise SettingsError("vaultSecretSource.address is missing; write it, or set VAULT_ADDR")
    token = vault.access_token or vault.token or environ.get("VAULT_TOKEN", "")
    options = VaultOptions(
        address=_address(address, VAULT_PORT, "vaultSecretSource.address"),
        token=Token(token, environ.get("VAULT_TOKEN_FILE", "")),
        namespace=environ.get("VAULT_NAMESPACE", ""),
        tls=_vault_tls(vault, environ),
    )
    try:
        return VaultClient(options)
    except (OSError, ValueError) as failure:
        raise SettingsError(f"vaultSecretSource.tlsConfig: {failure}; check the files that it names") from failure


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
    message = settings.message
    vaults = [source.vault for source in message.secret_options.sources if source.HasField("vault")]
    if not message.secret_options.sources and message.HasField("vault_secret_source"):
        vaults.append(message.vault_secret_source)
    for vault in vaults:
        vault_client(vault, settings)


def _vault_tls(vault: settings_pb2.Settings.VaultSecrets, environ: Mapping[str, str]) -> Tls:
    """``tlsConfig``, or the deprecated fields of the same names where there is none."""
    tls = vault.tls_config if vault.HasField("tls_config") else vault
    return Tls(
        ca_file=tls.ca_cert or environ.get("VAULT_CACERT", ""),
        ca_path=tls.ca_path or environ.get("VAULT_CAPATH", ""),
        cert_file=tls.client_cert or environ.get("VAULT_CLIENT_CERT", ""),
        key_file=tls.client_key or environ.get("VAULT_CLIENT_KEY", ""),
        server_name=tls.tls_server_name or environ.get("VAULT_TLS_SERVER_NAME", ""),
        insecure=tls.insecure.value,
    )


def _address(text: str, port: int, field_name: str) -> Address:
    try:
        return parse_address(text, port)
    except ValueError as reason:
        raise SettingsError(f"{field_name}: {reason}") from reason
