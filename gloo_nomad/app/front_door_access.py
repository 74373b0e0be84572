"""Who may use the front door, as the settings and the environment say."""

from typing import TYPE_CHECKING

from gloo_nomad.app.clients import consul_options
from gloo_nomad.app.nomad_client import nomad_options
from gloo_nomad.clients.nomad import NomadClient
from gloo_nomad.frontdoor.access import TOKENS, Guard, tokens_of
from gloo_nomad.frontdoor.consul_access import ConsulGuard
from gloo_nomad.serving import is_loopback, shown
from gloo_nomad.settings import RuntimeSettings, SettingsError, own_path

if TYPE_CHECKING:
    from gloo_nomad.frontdoor.nomad_access import Rights


def check_front_door(settings: RuntimeSettings) -> None:
    """Looks whether somebody decides who may use it. Raises ``SettingsError``."""
    auth, (host, port) = settings.own("frontDoorAuth"), settings.front_door_bind
    if auth == "tokens" and not tokens_of(settings.environ).tokens and not is_loopback(host):
        raise SettingsError(
            f"the front door on {shown(host, port)} would let everybody write: set {TOKENS}, or "
            f"{own_path('frontDoorAuth')} to consul or nomad, or bind it to loopback (--front-door-bind 127.0.0.1:9095)"
        )
    if auth == "consul" and not settings.uses_consul_kv:
        raise SettingsError(f"{own_path('frontDoorAuth')}: consul is for objects in Consul KV; write tokens or nomad")
    if auth == "nomad":
        _rights(settings)
        if nomad_options(settings) is None:
            raise SettingsError(
                f"{own_path('frontDoorAuth')}: nomad needs Nomad's address: nomadAddress, or NOMAD_ADDR"
            )


def build_guard(settings: RuntimeSettings, nomad: NomadClient | None) -> Guard:
    """Who decides on each request. Raises ``SettingsError``."""
    check_front_door(settings)
    auth, options = settings.own("frontDoorAuth"), consul_options(settings)
    if auth == "tokens":
        return tokens_of(settings.environ)
    if auth == "consul" and options is not None:
        return ConsulGuard(options, settings.root_key)
    if auth == "nomad" and nomad is not None:
        from gloo_nomad.frontdoor.nomad_access import NomadGuard  # what it needs is loaded only where it is wanted

        audience, issuer = str(settings.own("frontDoorAudience")), str(settings.own("frontDoorIssuer"))
        return NomadGuard(nomad.signing_keys, _rights(settings), audience, issuer)
    raise SettingsError(f"{own_path('frontDoorAuth')}: {auth} cannot be asked: its address is missing")


def _rights(settings: RuntimeSettings) -> "Rights":
    from gloo_nomad.frontdoor.nomad_access import RightsMistakeError, parse_rights

    written = settings.own("frontDoorRights")
    if not written:
        raise SettingsError(
            f"{own_path('frontDoorRights')}: is missing; write what jobs may do, for example "
            "{default/deploy-*: {write: [gloo-system]}}"
        )
    try:
        return parse_rights(written)
    except RightsMistakeError as mistake:
        raise SettingsError(f"{own_path('frontDoorRights')}: {mistake}") from mistake
