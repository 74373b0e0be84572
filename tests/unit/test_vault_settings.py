"""From settings and environment to who logs in at which Vault."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.clients import check_clients
from gloo_nomad.app.vault import vault_client
from gloo_nomad.clients.vault import VaultOptions
from gloo_nomad.settings import RuntimeSettings, SettingsError

ADDRESS = "http://vault.test:8200"
CANARY = "canary-settings-31"


def settings(own: dict[str, Any], environ: dict[str, str] | None = None, **vault: Any) -> RuntimeSettings:
    """Settings in force with one Vault."""
    document = {
        "vaultSecretSource": {"address": ADDRESS, **vault},
        "extensions": {"configs": {"gloo-nomad": own}},
    }
    return RuntimeSettings(json_format.ParseDict(document, settings_pb2.Settings()), Ref("g", "d"), environ or {})


def options(own: dict[str, Any], environ: dict[str, str] | None = None, **vault: Any) -> VaultOptions:
    """The options of the client that these lead to."""
    found = settings(own, environ, **vault)
    return vault_client(found.message.vault_secret_source, found).options


def test_who_we_are() -> None:
    """The source's own token, then our setting, then the environment."""
    auth = {"vaultAuth": {"method": "approle", "roleId": "r", "secretIdFile": "/f"}}
    environ = {"VAULT_TOKEN": "env"}

    assert options(auth, environ, accessToken="own").token.read() == "own"
    assert options(auth, environ, accessToken="own").login is None
    chosen = options(auth, environ).login
    assert chosen is not None
    assert (chosen.method, chosen.mount, chosen.get("roleId")) == ("approle", "approle", "r")
    from_environment = options(auth, environ, accessToken="env")  # what the settings' loader makes of the variable
    assert from_environment.login is not None
    assert options({}, environ).token.read() == "env"


def test_each_method_has_its_values() -> None:
    """Secrets come from variables and files, everything else from the map."""
    environ = {"VAULT_ROLE_ID": "r", "VAULT_SECRET_ID": "s", "VAULT_JWT": "j", "AWS_ACCESS_KEY_ID": "a"}
    environ["AWS_SECRET_ACCESS_KEY"] = "b"

    def login(**auth: str) -> tuple[str, dict[str, str]]:
        found = options({"vaultAuth": auth}, environ).login
        assert found is not None
        return found.mount, {**found.values}

    assert login(method="approle") == ("approle", {"roleId": "r", "secretId": "s"})
    assert login(method="jwt", mountPath="jwt-nomad", role="x") == ("jwt-nomad", {"jwt": "j", "role": "x"})
    assert login(method="kubernetes", role="x") == ("kubernetes", {"role": "x"})
    assert login(method="aws", role="x", region="eu-west-1") == (
        "aws",
        {"accessKeyId": "a", "secretAccessKey": "b", "role": "x", "region": "eu-west-1"},
    )


def test_aws_of_the_contract() -> None:
    """All its fields reach the login; keys that are not written come from the environment."""
    written = {
        "vaultRole": "r",
        "region": "us-west-2",
        "iamServerIdHeader": "h",
        "mountPath": "m",
        "accessKeyId": "a",
        "secretAccessKey": "s",
        "sessionToken": "t",
        "leaseIncrement": 30,
    }
    environ = {"AWS_ACCESS_KEY_ID": "ea", "AWS_SECRET_ACCESS_KEY": "es", "AWS_SESSION_TOKEN": "et"}
    full, bare = options({}, environ, aws=written).login, options({}, environ, aws={"vaultRole": "r"}).login

    assert full is not None
    assert bare is not None
    assert (full.mount, full.increment) == ("m", 30)
    expected = {"role": "r", "region": "us-west-2", "iamServerIdHeader": "h"}
    assert full.values == {**expected, "accessKeyId": "a", "secretAccessKey": "s", "sessionToken": "t"}
    assert bare.values == {"role": "r", "accessKeyId": "ea", "secretAccessKey": "es", "sessionToken": "et"}


def test_vaults_at_other_addresses(tmp_path: Path) -> None:
    """Each may have a login and a namespace of its own."""
    file = tmp_path / "token"
    file.write_text("of the file")
    own = {
        "vaultAuth": {
            "method": "jwt",
            "jwtFile": "/j",
            "namespace": "team",
            "perAddress": {"https://other.test": {"method": "token", "tokenFile": str(file)}},
        }
    }
    first, other = options(own), options(own, address="https://other.test:8200")

    assert first.login is not None
    assert (first.login.method, first.namespace) == ("jwt", "team")
    assert (other.login, other.token.read(), other.namespace) == (None, "of the file", "")
    only = options({"vaultAuth": {"namespace": "team"}}, {"VAULT_TOKEN": "env", "VAULT_NAMESPACE": "x"})
    assert (only.token.read(), only.namespace) == ("env", "team")


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"vaultAuth": {"method": "ldap"}}, "vaultAuth.method: 'ldap' is not known; use approle, aws, jwt, kubernetes"),
        ({"vaultAuth": {"role": "x"}}, "vaultAuth.method: '' is not known"),
        ({"vaultAuth": {"method": "approle"}}, "roleId: is missing; give roleId or roleIdFile or VAULT_ROLE_ID"),
        ({"vaultAuth": {"method": "jwt", "jwt": CANARY}}, "jwt: is a secret and does not belong into settings"),
        ({"vaultAuth": {"method": "kubernetes", "rule": "x"}}, "rule: is not known to the method kubernetes"),
        ({"vaultAuth": {"method": "kubernetes", "role": 1}}, "role: is to be text"),
        ({"vaultAuth": {"method": "token"}}, "method: token needs tokenFile"),
        ({"vaultAuth": {"perAddress": []}}, "perAddress: is to be a map from addresses to maps"),
        ({"vaultPollSeconds": 0}, "vaultPollSeconds: must be above 0"),
        ({"vaultKvVersion": 3}, "vaultKvVersion: must be 1 or 2"),
    ],
)
def test_mistakes(own: dict[str, Any], told: str) -> None:
    """They are told with their field, and never with a value that may be secret."""
    with pytest.raises(SettingsError) as caught:
        check_clients(settings(own))
    assert told in str(caught.value)
    assert CANARY not in str(caught.value)


def test_half_a_pair_of_keys() -> None:
    """AWS needs both keys, or neither."""
    with pytest.raises(SettingsError, match="give both of accessKeyId and secretAccessKey"):
        check_clients(settings({}, aws={"vaultRole": "r", "accessKeyId": "a"}))
    with pytest.raises(SettingsError, match=r"accessKeyId: is missing; give accessKeyIdFile or AWS_ACCESS_KEY_ID"):
        check_clients(settings({}, aws={"vaultRole": "r"}))


def test_no_repr_shows_a_credential() -> None:
    """What debuggers and exceptions print of options and logins has no value in it."""
    found = options({}, aws={"accessKeyId": CANARY, "secretAccessKey": CANARY, "sessionToken": CANARY})

    assert found.login is not None
    assert CANARY not in repr(found) + repr(found.login) + str(found.login)
