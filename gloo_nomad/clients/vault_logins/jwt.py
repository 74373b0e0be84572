"""JWT: a signed token of somebody whom Vault trusts, such as Nomad (``identity { file = true }`` of a task).

https://developer.hashicorp.com/vault/docs/auth/jwt, https://developer.hashicorp.com/nomad/docs/job-specification/identity
"""

from typing import Any, Final

from gloo_nomad.clients.vault_logins import Login

METHOD: Final = "jwt"
MOUNT: Final = "jwt"
PLAIN: Final = ("role",)
SECRET: Final = {"jwt": "VAULT_JWT"}
REQUIRED: Final = ("jwt",)


def log_in(api: Any, login: Login) -> Any:
    """The answer of Vault. Without a role it takes the method's ``default_role``."""
    role = login.get("role") or None
    return api.auth.jwt.jwt_login(role, login.get("jwt"), use_token=False, path=login.mount)
