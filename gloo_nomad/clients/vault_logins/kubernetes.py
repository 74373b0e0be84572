"""Kubernetes: the token of a pod's service account, which Vault lets Kubernetes review.

https://developer.hashicorp.com/vault/docs/auth/kubernetes
"""

from typing import Any, Final

from gloo_nomad.clients.vault_logins import Login

METHOD: Final = "kubernetes"
MOUNT: Final = "kubernetes"
PLAIN: Final = ("role",)
SECRET: Final = {"jwt": ""}
FILES: Final = {"jwt": "/var/run/secrets/kubernetes.io/serviceaccount/token"}
REQUIRED: Final = ("role",)


def log_in(api: Any, login: Login) -> Any:
    """The answer of Vault."""
    return api.auth.kubernetes.login(login.get("role"), login.get("jwt"), use_token=False, mount_point=login.mount)
