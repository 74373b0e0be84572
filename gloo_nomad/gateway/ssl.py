"""TLS of virtual services: which filter chains a listener needs, and for which server names.

Configurations that differ in nothing but their ``sniDomains`` share a chain
(https://docs.solo.io/gloo-edge/latest/guides/security/tls/server_tls/). Two configurations for one server name are
settled by the envoy stage, which knows the ones that have a certificate.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gloo_nomad.api.gen import gateway_pb2, settings_pb2, ssl_pb2
from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.gateway.filling import apply_missing
from gloo_nomad.messages import to_bytes
from gloo_nomad.reports import Finding, error

_ANY: Final = "*"


class ServiceTls(NamedTuple):
    """The TLS configuration of one virtual service."""

    source: ObjectRef
    config: ssl_pb2.SslConfig
    key: bytes
    """The configuration without its server names; equal keys share a chain."""
    names: tuple[str, ...]
    """Server names in lower case; none for any."""
    usable: bool = True
    """Whether a chain can be made of it."""


class Chain(NamedTuple):
    """One filter chain: a configuration and the virtual services that ask for it."""

    config: ssl_pb2.SslConfig
    sources: tuple[ObjectRef, ...]


def read_tls(
    service: gateway_pb2.VirtualService, settings: settings_pb2.Settings
) -> tuple[ServiceTls | None, list[Finding]]:
    """The service's TLS with the defaults of the settings; None for plain text."""
    if not service.HasField("ssl_config"):
        return None, []
    source = ObjectRef(VIRTUAL_SERVICE.name, service.metadata.namespace, service.metadata.name)
    written = service.ssl_config
    valid = tuple(dict.fromkeys(name.lower() for name in written.sni_domains if not _refuse(name)))
    names = () if _ANY in valid else valid
    findings = [
        error(f"sslConfig.sniDomains[{index}]", reason)
        for index, name in enumerate(written.sni_domains)
        if (reason := _refuse(name))
    ]
    config = _with_names(_with_defaults(written, settings), names)
    return ServiceTls(source, config, _key(config), names, bool(valid) or not written.sni_domains), findings


def _refuse(name: str) -> str:
    """Why Envoy would refuse a server name."""
    if not name or not name.isprintable() or " " in name:
        return f"{name!r} is no server name; leave sniDomains out to serve any"
    if name != _ANY and "*" in name and ("*" in name[1:] or not name.startswith("*.") or len(name) < 3):
        return f"{name} is no server name; a wildcard stands for whole leading labels: *.example.com"
    return ""


def _with_defaults(config: ssl_pb2.SslConfig, settings: settings_pb2.Settings) -> ssl_pb2.SslConfig:
    default = settings.gateway.virtual_service_options
    if config.HasField("one_way_tls") or not default.HasField("one_way_tls"):
        return config
    made = ssl_pb2.SslConfig()
    made.CopyFrom(config)
    made.one_way_tls.value = default.one_way_tls.value
    return made


def _with_names(config: ssl_pb2.SslConfig, names: Sequence[str]) -> ssl_pb2.SslConfig:
    """The configuration for these server names; itself if they are its own."""
    if tuple(config.sni_domains) == tuple(names):
        return config
    made = ssl_pb2.SslConfig()
    made.CopyFrom(config)
    del made.sni_domains[:]
    made.sni_domains.extend(names)
    return made


def _key(config: ssl_pb2.SslConfig) -> bytes:
    return to_bytes(_with_names(config, ()))


def build_chains(services: Iterable[ServiceTls], defaults: ssl_pb2.SslConfig | None = None) -> tuple[Chain, ...]:
    """The chains of one listener, in the order of their first virtual services; equal configurations share one.

    Server names of configurations that share a chain are put together; it is for any name, if one of them is.
    *defaults* give what a configuration leaves unset.
    """
    merged: dict[bytes, list[ServiceTls]] = {}
    for service in services:
        if service.usable:
            full = _with_unset(service, defaults) if defaults is not None else service
            merged.setdefault(full.key, []).append(full)
    return tuple(
        Chain(_with_names(members[0].config, _merge_names(members)), tuple(member.source for member in members))
        for members in merged.values()
    )


def _with_unset(service: ServiceTls, defaults: ssl_pb2.SslConfig) -> ServiceTls:
    config = ssl_pb2.SslConfig()
    config.CopyFrom(service.config)
    apply_missing(defaults, config)
    return ServiceTls(service.source, config, _key(config), tuple(config.sni_domains))


def _merge_names(members: Sequence[ServiceTls]) -> tuple[str, ...]:
    if any(not member.names for member in members):
        return ()
    return tuple(dict.fromkeys(name for member in members for name in member.names))
