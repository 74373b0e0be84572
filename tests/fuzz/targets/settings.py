"""A Settings object of Consul KV: laid over those of the start, it is taken, or its findings say what is wrong."""

from contextlib import suppress
from typing import Final

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.vault import check_vaults
from gloo_nomad.settings import RuntimeSettings, SettingsError
from gloo_nomad.settings.status_labels import status_labels

_REF: Final = Ref("gloo-system", "default")
_BASE: Final = settings_pb2.Settings(discovery_namespace="gloo-system", watch_namespaces=["gloo-system"])


def fuzz(data: bytes) -> None:
    """The whole input is the object's text."""
    decoded = codec.decode(SETTINGS, data, _REF)
    top = decoded.message
    if not isinstance(top, settings_pb2.Settings):
        return
    base = RuntimeSettings(_BASE, _REF, {})
    for finding in base.overlay_findings(top):
        assert finding.message
    _read(base.overlaid(top))
    assert base.overlaid(top).message == base.overlaid(top).message
    assert base.message == _BASE


def _read(settings: RuntimeSettings) -> None:
    """Everything that reads settings."""
    for name in ("xds_bind", "rest_xds_bind", "dev_bind", "proxy_debug_bind", "admin_bind", "front_door_bind"):
        with suppress(SettingsError):
            assert 0 <= getattr(settings, name)[1] <= 65_535
    assert settings.root_key
    assert settings.write_namespace
    status_labels(settings.message)
    with suppress(SettingsError):
        check_vaults(settings)
