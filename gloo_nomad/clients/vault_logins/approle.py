"""AppRole: a role's identifier, and a secret one unless the role does without it.

https://developer.hashicorp.com/vault/docs/auth/approle
"""

from typing import Any, Final

from gloo_nomad.clients.vault_logins import Login

METHOD: Final = "approle"
MOUNT: Final = "approle"
PLAIN: Final = ("roleId",)
SECRET: Final = {"roleId": "VAULT_ROLE_ID", "secretId": "VAULT_SECRET_ID"}
REQUIRED: Final = ("roleId",)


def log_in(api: Any, login: Login) -> Any:
    """The answer of Vault."""
    secret = login.get("secretId") or None
    return api.auth.approle.login(login.get("roleId"), secret, use_token=False, mount_point=login.mount)
