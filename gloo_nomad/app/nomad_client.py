"""A client of Nomad, as the settings and the environment say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gloo_nomad.clients.address import NO_TLS, Tls, parse_address
from gloo_nomad.clients.nomad import NomadOptions
from gloo_nomad.clients.token import Token
from gloo_nomad.settings import RuntimeSettings, SettingsError, own_path
from gloo_nomad.settings.load import TRUE

NOMAD_PORT: Final = 4646


def nomad_options(settings: RuntimeSettings) -> NomadOptions | None:
    """How to reach Nomad; None if no address is known.

    ``unix://`` is Nomad's task API, which every task has at ``${NOMAD_SECRETS_DIR}/api.sock``.

    Raises:
        SettingsError: the address cannot be read, or a file is missing.
    """
    environ = settings.environ
    address = settings.own("nomadAddress") or environ.get("NOMAD_ADDR", "")
    if not address:
        return None
    try:
        options = NomadOptions(
            address=parse_address(address, NOMAD_PORT),
            token=_token(str(settings.own("nomadTokenFile")), environ),
            region=environ.get("NOMAD_REGION", ""),
            tls=_tls(environ),
        )
    except ValueError as reason:
        raise SettingsError(f"{own_path('nomadAddress')} or NOMAD_ADDR: {reason}") from reason
    try:
        options.tls.context()
    except (OSError, ValueError) as failure:
        raise SettingsError(f"the TLS files of Nomad (NOMAD_CACERT and others) cannot be used: {failure}") from failure
    return options


def _token(file: str, environ: Mapping[str, str]) -> Token:
    """A file that is named, a token that is given, or the file in which Nomad keeps a task's workload identity."""
    text = environ.get("NOMAD_TOKEN", "")
    file = file or environ.get("NOMAD_TOKEN_FILE", "")
    secrets = environ.get("NOMAD_SECRETS_DIR", "")
    if not file and not text and secrets:
        file = str(Path(secrets) / "nomad_token")
    return Token(text, file)


def _tls(environ: Mapping[str, str]) -> Tls:
    names = ("NOMAD_CACERT", "NOMAD_CAPATH", "NOMAD_CLIENT_CERT", "NOMAD_CLIENT_KEY", "NOMAD_TLS_SERVER_NAME")
    authority, authorities, certificate, key, server_name = (environ.get(name, "") for name in names)
    insecure = environ.get("NOMAD_SKIP_VERIFY", "") in TRUE
    found = Tls(authority, authorities, certificate, key, server_name, insecure)
    return NO_TLS if found == NO_TLS else found
