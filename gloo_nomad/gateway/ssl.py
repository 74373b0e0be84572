"""TLS of virtual services: which filter chains a listener needs, and for which server names.

Configurations that differ in nothing but their ``sniDomains`` share a chain
(https://docs.solo.io/gloo-edge/latest/guides/security/tls/server_tls/). Envoy refuses a listener with two chains for
one server name, so each name goes to one configuration.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from gloo_nomad.api.gen import gateway_pb2, settings_pb2, ssl_pb2
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.gateway.domains import age_of
from gloo_nomad.messages import to_bytes
from gloo_nomad.reports import Finding, Problem, Severity, error

_CATCH_ALL: Final = ""


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


class Chains(NamedTuple):
    """The chains of one listener, in the order of their first virtual services, and what was wrong."""

    chains: tuple[Chain, ...]
    problems: tuple[Problem, ...]


def read_tls(
    service: gateway_pb2.VirtualService, settings: settings_pb2.Settings
) -> tuple[ServiceTls | None, list[Finding]]:
    """The service's TLS with the defaults of the settings; None for plain text."""
    if not service.HasField("ssl_config"):
        return None, []
    source = ObjectRef("VirtualService", service.metadata.namespace, service.metadata.name)
    written = service.ssl_config
    names = tuple(dict.fromkeys(name.lower() for name in written.sni_domains if not _refuse(name)))
    findings = [
        error(f"sslConfig.sniDomains[{index}]", reason)
        for index, name in enumerate(written.sni_domains)
        if (reason := _refuse(name))
    ]
    config = _with_names(_with_defaults(written, settings), names)
    return ServiceTls(source, config, _key(config), names, bool(names) or not written.sni_domains), findings


def _refuse(name: str) -> str:
    """Why Envoy would refuse a server name."""
    if not name or not name.isprintable() or " " in name:
        return f"{name!r} is no server name; leave sniDomains out to serve any"
    if "*" in name and ("*" in name[1:] or not name.startswith("*.") or len(name) < 3):
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


def build_chains(services: Iterable[ServiceTls], created: Mapping[Ref, int]) -> Chains:
    """Merges equal configurations, and gives each server name to the oldest virtual service that asks for it."""
    merged: dict[bytes, list[ServiceTls]] = {}
    for service in services:
        if service.usable:
            merged.setdefault(service.key, []).append(service)
    owners = _owners(merged, created)
    chains = []
    for key, members in merged.items():
        names = _merged_names(members)
        kept = [name for name in names if owners[name] == key]
        if kept:
            config = _with_names(members[0].config, [name for name in kept if name != _CATCH_ALL])
            chains.append(Chain(config, tuple(member.source for member in members)))
    return Chains(tuple(chains), tuple(_conflicts(merged, owners)))


def _merged_names(members: Sequence[ServiceTls]) -> tuple[str, ...]:
    """All server names of configurations that share a chain; any, if one of them has none."""
    if any(not member.names for member in members):
        return (_CATCH_ALL,)
    return tuple(dict.fromkeys(name for member in members for name in member.names))


def _owners(merged: Mapping[bytes, list[ServiceTls]], created: Mapping[Ref, int]) -> dict[str, bytes]:
    """For each server name the configuration that gets it."""
    claims: dict[str, list[tuple[tuple[int, Ref], bytes]]] = {}
    for key, members in merged.items():
        names = _merged_names(members)
        if names == (_CATCH_ALL,):
            oldest = min(age_of(member.source.ref, created) for member in members if not member.names)
            claims.setdefault(_CATCH_ALL, []).append((oldest, key))
            continue
        for member in members:
            for name in member.names:
                claims.setdefault(name, []).append((age_of(member.source.ref, created), key))
    return {name: min(found)[1] if len(found) > 1 else found[0][1] for name, found in claims.items()}


def _conflicts(merged: Mapping[bytes, list[ServiceTls]], owners: Mapping[str, bytes]) -> Iterable[Problem]:
    """An error on each virtual service whose server name another configuration has too."""
    asking: dict[str, dict[bytes, list[ObjectRef]]] = {}
    for key, members in merged.items():
        for name in _merged_names(members):
            askers = [member.source for member in members if (name in member.names or name == _CATCH_ALL)]
            asking.setdefault(name, {})[key] = askers
    for name, by_key in sorted(asking.items()):
        if len(by_key) > 1:
            yield from _conflict_problems(name, by_key, owners[name])


def _conflict_problems(name: str, by_key: Mapping[bytes, list[ObjectRef]], owner: bytes) -> Iterable[Problem]:
    what = f"the server name {name}" if name else "connections of any server name"
    keeper = by_key[owner][0].ref
    for key, refs in by_key.items():
        others = ", ".join(str(ref.ref) for other, found in by_key.items() if other != key for ref in found)
        outcome = "this configuration keeps them" if key == owner else f"{keeper} keeps them"
        for ref in refs:
            text = f"TLS conflict: {others} asks for {what} with another configuration; {outcome}"
            yield Problem(Severity.ERROR, ref, "sslConfig.sniDomains", text)
