"""Every way to log in, against a real OpenBao; renewal, and logins after a token has died."""

import asyncio
import base64
import datetime as dt
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.http import BadRequestError, ForbiddenError, UnreachableError, WorldError
from gloo_nomad.clients.token import Token
from gloo_nomad.clients.vault import VaultClient, VaultOptions
from gloo_nomad.clients.vault_logins import Login, parse_login
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.openbao import OpenBao
from tests.http_servers import serving_http

pytestmark = pytest.mark.bao

POLICY = 'path "secret/*" { capabilities = ["read", "list", "create", "update"] }'
CANARY = "canary-login-77"


@pytest.fixture
def bao(new_openbao: Callable[..., OpenBao]) -> OpenBao:
    """A server of the test's own: logins change how it lets people in."""
    server = new_openbao()
    server.write_policy("reader", POLICY)
    return server


def run(bao: OpenBao, login: Login, scenario: Callable[[VaultClient], Awaitable[None]], **options: Any) -> None:
    """Runs a scenario with a client that has nothing but a login."""

    async def body() -> None:
        client = VaultClient(VaultOptions(parse_address(bao.address, 8200), login=login, **options))
        try:
            await scenario(client)
        finally:
            await client.close()

    asyncio.run(body())


async def reads(client: VaultClient) -> None:
    """What a token with the policy can do."""
    assert await client.list_names("secret", "nothing") == ()


def enable_approle(bao: OpenBao, **role: Any) -> tuple[str, str]:
    """AppRole with one role; its two identifiers."""
    bao.request("POST", "sys/auth/approle", {"type": "approle"})
    bao.request("POST", "auth/approle/role/gloo", {"token_policies": ["reader"], **role})
    role_id = bao.request("GET", "auth/approle/role/gloo/role-id").json()["data"]["role_id"]
    secret_id = bao.request("POST", "auth/approle/role/gloo/secret-id").json()["data"]["secret_id"]
    return role_id, secret_id


def approle(bao: OpenBao, **role: Any) -> Login:
    """A login of that role, its identifiers from the environment."""
    role_id, secret_id = enable_approle(bao, **role)
    return parse_login({"method": "approle"}, {"VAULT_ROLE_ID": role_id, "VAULT_SECRET_ID": secret_id})


def test_approle(bao: OpenBao, tmp_path: Path) -> None:
    """A role's identifier and its secret one let us in; a file of the latter is read at each login."""
    role_id, secret_id = enable_approle(bao)
    file = tmp_path / "secret-id"
    file.write_text(f"{secret_id}\n")
    run(bao, parse_login({"method": "approle", "roleId": role_id, "secretIdFile": str(file)}, {}), reads)
    file.write_text(CANARY)

    async def refused(client: VaultClient) -> None:
        with pytest.raises((BadRequestError, ForbiddenError)) as caught:
            await reads(client)
        assert "login by approle at approle" in str(caught.value)
        assert CANARY not in repr(caught.value)
        file.write_text(secret_id)
        await reads(client)
        file.unlink()
        await reads(client)  # the token lives on

    run(bao, parse_login({"method": "approle", "roleId": role_id, "secretIdFile": str(file)}, {}), refused)

    async def unreadable(client: VaultClient) -> None:
        with pytest.raises(UnreachableError, match=r"secretIdFile .*: No such file"):
            await reads(client)

    run(bao, parse_login({"method": "approle", "roleId": role_id, "secretIdFile": str(file)}, {}), unreadable)


class Signer:
    """Whom Vault trusts to say who somebody is, as it trusts Nomad's servers."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public_key = (
            self._key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT."""
        now = int(time.time())
        times = {"iat": now, "nbf": now - 60, "exp": now + 600}
        parts = [_encoded({"alg": "RS256", "typ": "JWT"}), _encoded({**times, **claims})]
        signed = ".".join(parts)
        return f"{signed}.{_base64(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _encoded(part: Mapping[str, Any]) -> str:
    return _base64(json.dumps(part).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_jwt(bao: OpenBao, tmp_path: Path) -> None:
    """A JWT of whom Vault trusts lets us in, under a mount path and a role of one's choice."""
    signer = Signer()
    bao.request("POST", "sys/auth/jwt-nomad", {"type": "jwt"})
    bao.request("POST", "auth/jwt-nomad/config", {"jwt_validation_pubkeys": [signer.public_key]})
    role = {"role_type": "jwt", "bound_audiences": ["vault.io"], "user_claim": "sub", "token_policies": ["reader"]}
    bao.request("POST", "auth/jwt-nomad/role/gloo", role)
    file = tmp_path / "nomad_vault.jwt"
    file.write_text(signer.sign({"aud": "vault.io", "sub": "global:default:gloo:gloo:gloo"}))
    written = {"method": "jwt", "mountPath": "jwt-nomad", "role": "gloo", "jwtFile": str(file)}
    run(bao, parse_login(written, {}), reads)
    file.write_text(signer.sign({"aud": "somebody else", "sub": CANARY}))

    async def refused(client: VaultClient) -> None:
        with pytest.raises(WorldError) as caught:
            await reads(client)
        assert file.read_text() not in str(caught.value)

    run(bao, parse_login(written, {}), refused)


class _Reviewer(BaseHTTPRequestHandler):
    """The one request of Kubernetes' API that Vault makes: whose token is this?"""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.path.endswith("/tokenreviews") and bool(review["spec"]["token"])
        user = {"username": "system:serviceaccount:apps:gloo", "uid": "1", "groups": ["system:serviceaccounts"]}
        answer = json.dumps({**review, "status": {"authenticated": known, "user": user}}).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the library
        """Says nothing."""


def test_kubernetes(bao: OpenBao, tmp_path: Path) -> None:
    """The token of a service account lets us in when Kubernetes, here its review of tokens alone, knows it."""
    with serving_http(_Reviewer) as port:
        bao.request("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
        host = f"http://127.0.0.1:{port}"
        bao.request(
            "POST", "auth/kubernetes/config", {"kubernetes_host": host, "kubernetes_ca_cert": Authority().certificate}
        )
        bound = {"bound_service_account_names": ["gloo"], "bound_service_account_namespaces": ["apps"]}
        bao.request("POST", "auth/kubernetes/role/gloo", {**bound, "token_policies": ["reader"]})
        account = {"namespace": "apps", "serviceaccount": {"name": "gloo", "uid": "1"}}
        file = tmp_path / "token"
        file.write_text(Signer().sign({"sub": "system:serviceaccount:apps:gloo", "kubernetes.io": account}))
        run(bao, parse_login({"method": "kubernetes", "role": "gloo", "jwtFile": str(file)}, {}), reads)


def test_a_login_in_a_namespace(bao: OpenBao) -> None:
    """Login and secrets are those of the namespace."""
    bao.request("POST", "sys/namespaces/team")
    inside = {"X-Vault-Namespace": "team"}
    asked = ["sys/auth/approle", "auth/approle/role/gloo", "sys/policies/acl/reader", "sys/mounts/secret"]
    bodies: list[dict[str, Any]] = [
        {"type": "approle"},
        {"token_policies": ["reader"]},
        {"policy": POLICY},
        {"type": "kv", "options": {"version": "2"}},
    ]
    for path, body in zip(asked, bodies, strict=True):
        bao.request("POST", path, body, headers=inside)
    role = bao.request("GET", "auth/approle/role/gloo/role-id", headers=inside).json()["data"]["role_id"]
    secret = bao.request("POST", "auth/approle/role/gloo/secret-id", headers=inside).json()["data"]["secret_id"]
    login = parse_login({"method": "approle"}, {"VAULT_ROLE_ID": role, "VAULT_SECRET_ID": secret})

    async def scenario(client: VaultClient) -> None:
        await client.write_secret("secret", "a", {"k": "of the team"})
        stored = await client.read_secret("secret", "a")
        assert stored
        assert stored.data == {"k": "of the team"}

    async def outside(client: VaultClient) -> None:
        with pytest.raises(WorldError):
            await reads(client)

    run(bao, login, scenario, namespace="team")
    run(bao, login, outside)


def test_a_revoked_token_is_replaced(bao: OpenBao) -> None:
    """The next request after Vault forgot the token is made with that of another login; one without rights is not."""

    async def scenario(client: VaultClient) -> None:
        await reads(client)
        first = await client._tokens.token()
        with pytest.raises(ForbiddenError):
            await client.list_names("forbidden", "x")
        assert await client._tokens.token() == first
        await asyncio.to_thread(bao.request, "POST", "auth/token/revoke", {"token": first})
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                await reads(client)
            except ForbiddenError:
                await asyncio.sleep(0.2)
            else:
                break
        assert await client._tokens.token() != first

    run(bao, approle(bao), scenario)


@pytest.mark.parametrize("limits", [{"token_ttl": "2s"}, {"token_ttl": "2s", "token_max_ttl": "4s"}, {"batch": True}])
def test_a_token_is_kept_alive(bao: OpenBao, limits: dict[str, Any]) -> None:
    """Renewed as long as that helps, replaced by another login when its last end is near; nothing is ever refused."""
    if limits.pop("batch", False):
        limits = {"token_type": "batch", "token_ttl": "2s"}
    login = approle(bao, **limits)

    async def scenario(client: VaultClient) -> None:
        reports: list[Any] = []
        keeping = asyncio.create_task(client.keep_token(reports.append))
        ends = time.monotonic() + 7
        seen = set()
        while time.monotonic() < ends:
            await reads(client)
            seen.add(await client._tokens.token())
            await asyncio.sleep(0.1)
        keeping.cancel()
        assert set(reports) == {None}
        assert (len(seen) == 1) == (limits == {"token_ttl": "2s"})

    run(bao, login, scenario)


async def recovered(reports: list[Any]) -> None:
    """Returns when the last report is a good one."""
    while reports[-1] is not None:  # noqa: ASYNC110  # a list has no event
        await asyncio.sleep(0.1)


def test_logins_are_tried_for_ever(new_openbao: Callable[..., OpenBao]) -> None:
    """While Vault is away the keeper tries on and reports; with Vault the token is there again by itself."""
    bao = new_openbao()
    bao.write_policy("reader", POLICY)
    login = approle(bao, token_ttl="2s")

    async def scenario(client: VaultClient) -> None:
        reports: list[Any] = []
        keeping = asyncio.create_task(client.keep_token(reports.append))
        await reads(client)
        await asyncio.to_thread(bao.request, "POST", "sys/seal")
        await asyncio.sleep(4)
        assert isinstance(reports[-1], WorldError)
        key = bao.unseal_key
        await asyncio.to_thread(bao.request, "POST", "sys/unseal", {"key": key})
        await asyncio.wait_for(recovered(reports), 30)
        await reads(client)
        keeping.cancel()

    run(bao, login, scenario)


def test_a_token_no_header_can_hold(bao: OpenBao) -> None:
    """It is told without being shown."""

    async def body() -> None:
        options = VaultOptions(parse_address(bao.address, 8200), Token(f"{CANARY}\nx: y"))
        client = VaultClient(options)
        with pytest.raises(WorldError) as caught:
            await reads(client)
        assert CANARY not in str(caught.value)
        assert CANARY not in repr(options)
        await client.close()

    asyncio.run(body())


def test_a_time_of_deletion_may_lie_ahead(bao: OpenBao) -> None:
    """A secret that will be deleted is there until then."""

    async def scenario(client: VaultClient) -> None:
        await client.write_secret("secret", "later/a", {"k": 1})
        await asyncio.to_thread(
            bao.request, "POST", "secret/metadata/later/a", {"delete_version_after": str(dt.timedelta(hours=1).seconds)}
        )
        assert await client.write_secret("secret", "later/a", {"k": 2}) == 2
        assert await client.current_version("secret", "later/a") == 2
        assert await client.list_versions("secret", "later") == {"a": 2}

    async def body() -> None:
        client = VaultClient(VaultOptions(parse_address(bao.address, 8200), Token(bao.token)))
        await scenario(client)
        await client.close()

    asyncio.run(body())
