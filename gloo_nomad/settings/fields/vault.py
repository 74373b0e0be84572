"""How Vault is reached."""

from typing import Final

FIELDS: Final = {
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
}
