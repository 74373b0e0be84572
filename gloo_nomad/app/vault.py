"""Clients of Vault: where the settings and the environment say it is, and who they say we are there.

Who we are is the source's own ``accessToken`` or ``aws``; else our setting ``vaultAuth``; else ``VAULT_TOKEN_FILE``
(Nomad's workload identity) or ``VAULT_TOKEN``.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.clients.address import Address, Tls, parse_address
from gloo_nomad.clients.token import Token
from gloo_nomad.clients.vault import VaultClient, VaultOptions
from gloo_nomad.clients.vault_logins import Login, LoginMistakeError, check_login, parse_login
from gloo_nomad.settings import RuntimeSettings, SettingsError, own_path

VAULT_PORT: Final = 8200
VaultMessage = settings_pb2.Settings.VaultSecrets
_AUTH: Final = "vaultAuth"
_PLACE: Final = own_path(_AUTH)
_TOKEN_FIELDS: Final = frozenset({"method", "tokenFile"})


def vault_client(vault: VaultMessage, settings: RuntimeSettings) -> VaultClient:
    """A client of the Vault that a secret source names.

    Raises:
        SettingsError: there is no address, or it, the login or the TLS files cannot be used.
    """
    environ = settings.environ
    address = vault.address or environ.get("VAULT_ADDR", "")
    if not address:
        raise SettingsError("vaultSecretSource.address is missing; write it, or set VAULT_ADDR")
    where = _address(address)
    auth = _auth_for(where, settings.own(_AUTH))
    namespace = auth.pop("namespace", "") or environ.get("VAULT_NAMESPACE", "")
    token, login = _identity(vault, auth, environ)
    options = VaultOptions(where, token, login, namespace=str(namespace), tls=_tls(vault, environ))
    try:
        return VaultClient(options)
    except (OSError, ValueError) as failure:
        raise SettingsError(f"vaultSecretSource.tlsConfig: {failure}; check the files that it names") from failure


def vaults_of(settings: RuntimeSettings) -> Iterator[VaultMessage]:
    """The Vaults that secrets are read from."""
    message = settings.message
    if message.secret_options.sources:
        yield from (source.vault for source in message.secret_options.sources if source.HasField("vault"))
    elif message.WhichOneof("secret_source") == "vault_secret_source":
        yield message.vault_secret_source


def check_vaults(settings: RuntimeSettings) -> None:
    """Looks whether their clients can be built; talks to nobody. Raises ``SettingsError``."""
    for vault in vaults_of(settings):
        vault_client(vault, settings)
    if settings.own("vaultPollSeconds") <= 0:
        raise SettingsError(f"{own_path('vaultPollSeconds')}: must be above 0")
    if settings.own("vaultKvVersion") not in {0, 1, 2}:
        raise SettingsError(f"{own_path('vaultKvVersion')}: must be 1 or 2, or 0 to ask Vault")


def _auth_for(address: Address, written: Mapping[str, Any]) -> dict[str, Any]:
    """What ``vaultAuth`` says for a Vault at that address."""
    found = {name: value for name, value in written.items() if name != "perAddress"}
    others = written.get("perAddress", {})
    if not isinstance(others, dict):
        raise SettingsError(f"{_PLACE}.perAddress: is to be a map from addresses to maps")
    for other, own in others.items():
        if not isinstance(own, dict):
            raise SettingsError(f"{_PLACE}.perAddress: is to be a map from addresses to maps")
        if _address(other) == address:
            return dict(own)
    return found


def _identity(vault: VaultMessage, auth: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Token, Login | None]:
    """The token, or the login that gets one."""
    if vault.WhichOneof("auth_method") == "aws":
        return Token(), _aws_login(vault.aws, environ)
    standard = environ.get("VAULT_TOKEN", "")
    written = vault.access_token or vault.token
    if not auth or (written and written != standard):
        return Token(written or standard, environ.get("VAULT_TOKEN_FILE", "")), None
    try:
        if auth.get("method") == "token":
            return _file_token(auth), None
        return Token(), parse_login(auth, environ)
    except LoginMistakeError as mistake:
        raise SettingsError(f"{_PLACE}.{mistake}") from mistake


def _file_token(auth: Mapping[str, Any]) -> Token:
    file = auth.get("tokenFile")
    if not file or not isinstance(file, str) or auth.keys() - _TOKEN_FIELDS:
        raise LoginMistakeError("method: token needs tokenFile, the path of a file, and nothing else")
    return Token(file=file)


def _aws_login(aws: settings_pb2.Settings.VaultAwsAuth, environ: Mapping[str, str]) -> Login:
    """The contract's fields; keys of the environment where neither is written."""
    if bool(aws.access_key_id) != bool(aws.secret_access_key):
        raise SettingsError("vaultSecretSource.aws: give both of accessKeyId and secretAccessKey, or neither")
    plain = {"role": aws.vault_role, "region": aws.region, "iamServerIdHeader": aws.iam_server_id_header}
    keys = {
        "accessKeyId": aws.access_key_id,
        "secretAccessKey": aws.secret_access_key,
        "sessionToken": aws.session_token,
    }
    if not aws.access_key_id:
        variables = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        keys = {name: environ.get(variable, "") for name, variable in zip(keys, variables, strict=True)}
    values = {name: value for name, value in {**plain, **keys}.items() if value}
    try:
        return check_login(Login("aws", aws.mount_path or "aws", values, increment=aws.lease_increment))
    except LoginMistakeError as mistake:
        raise SettingsError(f"vaultSecretSource.aws.{mistake}") from mistake


def _tls(vault: VaultMessage, environ: Mapping[str, str]) -> Tls:
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


def _address(text: str) -> Address:
    try:
        return parse_address(text, VAULT_PORT)
    except ValueError as reason:
        raise SettingsError(f"vaultSecretSource.address: {reason}") from reason
