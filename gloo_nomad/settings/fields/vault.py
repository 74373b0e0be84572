"""How Vault is reached, who logs in there, and how often secrets are looked at.

``vaultAuth`` has a ``method`` with its fields (``clients.vault_logins``), a ``namespace``, and in ``perAddress`` other
maps of this kind for the Vaults at other addresses.
"""

from typing import Final

OWN: Final = {
    "vaultAuth": {},
    "vaultPollSeconds": 3.0,
    "vaultKvVersion": 0.0,
}

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
        "aws",
    ),
    "gloo.solo.io.Settings.VaultAwsAuth": (
        "vault_role",
        "region",
        "iam_server_id_header",
        "mount_path",
        "access_key_id",
        "secret_access_key",
        "session_token",
        "lease_increment",
    ),
}
