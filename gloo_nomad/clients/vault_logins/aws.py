"""AWS IAM: a signed request to AWS's security token service, which Vault sends on to learn who signed it.

hvac signs it for ``sts.amazonaws.com``, in the scope of the region. https://developer.hashicorp.com/vault/docs/auth/aws
"""

from typing import Any, Final

from gloo_nomad.clients.vault_logins import Login

METHOD: Final = "aws"
MOUNT: Final = "aws"
PLAIN: Final = ("role", "region", "iamServerIdHeader")
SECRET: Final = {
    "accessKeyId": "AWS_ACCESS_KEY_ID",
    "secretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "sessionToken": "AWS_SESSION_TOKEN",
}
REQUIRED: Final = ("accessKeyId", "secretAccessKey")
DEFAULT_REGION: Final = "us-east-1"


def log_in(api: Any, login: Login) -> Any:
    """The answer of Vault."""
    return api.auth.aws.iam_login(
        login.get("accessKeyId"),
        login.get("secretAccessKey"),
        session_token=login.get("sessionToken") or None,
        header_value=login.get("iamServerIdHeader") or None,
        role=login.get("role") or None,
        use_token=False,
        region=login.get("region") or DEFAULT_REGION,
        mount_point=login.mount,
    )
