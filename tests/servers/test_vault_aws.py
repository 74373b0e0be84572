"""The request of AWS's login. OpenBao has no such method: shown is what Vault would get, and how a refusal is told."""

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.http import WorldError
from gloo_nomad.clients.vault import VaultClient, VaultOptions
from gloo_nomad.clients.vault_logins import Login
from gloo_nomad.demo.openbao import OpenBao
from tests.faults import Proxy

pytestmark = pytest.mark.bao

KEY = "AKIDEXAMPLE"
SECRET = "canary-aws-secret"
TOKEN = "canary-aws-session"


class Recorder(Proxy):
    """A proxy that keeps what was sent."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.bodies: list[Any] = []

    async def _answer_or_break(self, request: Any, body: bytes) -> Any:
        self.bodies.append((request.headers.get("X-Vault-Token"), json.loads(body or b"null")))
        return await super()._answer_or_break(request, body)


def signature(headers: dict[str, str], body: bytes, region: str) -> str:
    """AWS's signature of the request for its identity, worked out anew.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    signed = sorted(name for name in headers if name != "Authorization")
    lines = [f"{name.lower()}:{headers[name]}" for name in sorted(signed, key=str.lower)]
    names = ";".join(sorted(name.lower() for name in signed))
    canonical = "\n".join(["POST", "/", "", *lines, "", names, hashlib.sha256(body).hexdigest()])
    date = headers["X-Amz-Date"][:8]
    scope = f"{date}/{region}/sts/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", headers["X-Amz-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in (date, region, "sts", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def test_the_request_is_signed(openbao: OpenBao) -> None:
    """Role, server's header, session and region are in it; the secret key is not, nor in the text of the refusal."""
    values = {"role": "gloo", "region": "eu-central-1", "iamServerIdHeader": "vault.test"}
    keys = {"accessKeyId": KEY, "secretAccessKey": SECRET, "sessionToken": TOKEN}
    login = Login("aws", "aws-of-team", {**values, **keys})

    async def run(port: int) -> str:
        client = VaultClient(VaultOptions(parse_address(f"http://127.0.0.1:{port}", 0), login=login))
        with pytest.raises(WorldError) as caught:
            await client.list_names("secret", "x")
        await client.close()
        return str(caught.value)

    with Recorder(openbao.port) as proxy:
        told = asyncio.run(run(proxy.port))
    assert "login by aws at aws-of-team" in told
    assert SECRET not in told + json.dumps(proxy.bodies)
    assert TOKEN not in told
    assert proxy.asked == ["/v1/auth/aws-of-team/login"]
    ((token, sent),) = proxy.bodies
    assert token is None
    assert (sent["role"], sent["iam_http_request_method"]) == ("gloo", "POST")
    headers = {name: value[0] for name, value in json.loads(base64.b64decode(sent["iam_request_headers"])).items()}
    body = base64.b64decode(sent["iam_request_body"])
    assert base64.b64decode(sent["iam_request_url"]) == b"https://sts.amazonaws.com/"
    assert body == b"Action=GetCallerIdentity&Version=2011-06-15"
    assert (headers["X-Vault-AWS-IAM-Server-ID"], headers["X-Amz-Security-Token"]) == ("vault.test", TOKEN)
    assert f"Credential={KEY}/{headers['X-Amz-Date'][:8]}/eu-central-1/sts/aws4_request" in headers["Authorization"]
    assert headers["Authorization"].endswith(f"Signature={signature(headers, body, 'eu-central-1')}")
