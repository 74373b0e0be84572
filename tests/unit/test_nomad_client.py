"""From settings and environment to a client of Nomad, and from results of checks to who is ready."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.nomad_client import nomad_options
from gloo_nomad.app.service_providers import reads_nomad
from gloo_nomad.clients.nomad import CheckResult
from gloo_nomad.settings import RuntimeSettings, SettingsError
from gloo_nomad.sources.nomad_checks import judge


def settings(own: dict[str, Any], environ: dict[str, str] | None = None) -> RuntimeSettings:
    """Settings in force."""
    document = {"extensions": {"configs": {"gloo-nomad": own}}}
    message = json_format.ParseDict(document, settings_pb2.Settings())
    return RuntimeSettings(message, Ref("gloo-system", "default"), environ or {})


def test_everything(tmp_path: Path) -> None:
    """The variables of Nomad's own clients reach ours; the setting wins over the variable."""
    environ = {
        "NOMAD_ADDR": "http://elsewhere:1",
        "NOMAD_TOKEN": "secret",
        "NOMAD_REGION": "eu",
        "NOMAD_TLS_SERVER_NAME": "server.eu.nomad",
        "NOMAD_SKIP_VERIFY": "true",
    }

    options = nomad_options(settings({"nomadAddress": "https://nomad.test"}, environ))

    assert options is not None
    assert (str(options.address), options.region, options.token.read()) == ("https://nomad.test:4646", "eu", "secret")
    assert (options.tls.server_name, options.tls.insecure) == ("server.eu.nomad", True)
    assert "secret" not in repr(options)


@pytest.mark.parametrize(
    ("own", "environ", "token"),
    [
        ({}, {}, "identity"),
        ({}, {"NOMAD_TOKEN": "given"}, "given"),
        ({}, {"NOMAD_TOKEN": "given", "NOMAD_TOKEN_FILE": "other"}, "named"),
        ({"nomadTokenFile": "other"}, {"NOMAD_TOKEN": "given"}, "named"),
    ],
)
def test_token(tmp_path: Path, own: dict[str, str], environ: dict[str, str], token: str) -> None:
    """A named file, a given token, or a task's workload identity; a file is followed."""
    (tmp_path / "nomad_token").write_text("identity\n")
    (tmp_path / "other").write_text("named\n")
    own = {name: str(tmp_path / value) for name, value in own.items()}
    environ = {name: str(tmp_path / value) if name.endswith("FILE") else value for name, value in environ.items()}
    variables = {"NOMAD_ADDR": "unix:///secrets/api.sock", "NOMAD_SECRETS_DIR": str(tmp_path), **environ}

    options = nomad_options(settings(own, variables))

    assert options is not None
    assert options.address.is_unix
    assert options.token.read() == token
    (tmp_path / "nomad_token").write_text("renewed token\n")
    assert options.token.read() == ("renewed token" if token == "identity" else token)


def test_nowhere_and_mistakes(tmp_path: Path) -> None:
    """Without an address there is no client; a bad address or file is told with its name."""
    assert nomad_options(settings({}, {"NOMAD_TOKEN": "secret"})) is None
    with pytest.raises(SettingsError, match="NOMAD_ADDR: expected host:port"):
        nomad_options(settings({}, {"NOMAD_ADDR": "http://"}))
    with pytest.raises(SettingsError, match="NOMAD_CACERT"):
        nomad_options(settings({}, {"NOMAD_ADDR": "nomad", "NOMAD_CACERT": str(tmp_path / "missing.pem")}))


def test_switch() -> None:
    """Services are read unless that is switched off."""
    assert reads_nomad(settings({}))
    assert not reads_nomad(settings({"nomadServices": False}))


@pytest.mark.parametrize(
    ("statuses", "before", "ready"),
    [
        (("success",), {}, True),
        (("success", "failure"), {"web": True}, False),
        (("failure", "success"), {"web": True}, False),
        (("pending",), {}, False),
        (("pending",), {"web": False}, False),
        (("pending", "success"), {"web": True}, True),
    ],
)
def test_judge(statuses: tuple[str, ...], before: dict[str, bool], ready: bool) -> None:
    """All checks have to pass; one that has said nothing yet takes nobody out of service."""
    results = [CheckResult("web", status) for status in statuses]

    assert judge([*results, CheckResult("other", "success")], before) == {"web": ready, "other": True}
