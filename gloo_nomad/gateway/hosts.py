"""One virtual service to one virtual host, with everything about it that gateways ask for worked out beforehand.

A gateway is put together from thousands of these; a change of one virtual service converts that one only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from gloo_nomad.api.gen import gateway_pb2, proxy_pb2, settings_pb2, virtual_host_options_pb2
from gloo_nomad.api.kinds import VIRTUAL_HOST_OPTION, VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.gateway.delegation import MAX_ROUTES, Owner, Produced, Walk, walk_routes
from gloo_nomad.gateway.domains import Claim, read_domains
from gloo_nomad.gateway.inheritance import apply_references, origins_of
from gloo_nomad.gateway.names import full_route_name, virtual_host_name
from gloo_nomad.gateway.routes import top_source
from gloo_nomad.gateway.short_circuits import find_short_circuits
from gloo_nomad.gateway.ssl import ServiceTls, read_tls
from gloo_nomad.gateway.tables import TableFinder
from gloo_nomad.proxies import NO_ORIGINS, OptionOrigins, VirtualHost
from gloo_nomad.reports import Finding, Problems, error, warning
from gloo_nomad.store.memo import Reads

FIELDS: Final = {
    "gateway.solo.io.VirtualService": ("metadata", "virtual_host", "ssl_config", "display_name"),
    "gateway.solo.io.VirtualHost": ("domains", "routes", "options", "options_config_refs"),
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A virtual service, converted once for all gateways that select it."""

    claim: Claim
    """Who it is and which domains it has; the same object as before an edit that does not touch them."""
    name: str
    """Of its virtual host."""
    labels: Mapping[str, str]
    tls: ServiceTls | None
    """None for plain text; the same object as before an edit that does not touch it."""
    host: VirtualHost | None
    """None when it is left out because of an error of its own."""
    names: tuple[tuple[str, ...], ...]
    """For each route the steps of its name; empty if no route has one."""
    problems: Problems

    @property
    def source(self) -> ObjectRef:
        """The virtual service."""
        return self.claim.source


def convert_service(
    service: gateway_pb2.VirtualService, settings: settings_pb2.Settings, finder: TableFinder, before: Converted | None
) -> Converted:
    """A virtual service with everything below it; *before* is what an earlier version of it became."""
    metadata = service.metadata
    source = ObjectRef(VIRTUAL_SERVICE.name, metadata.namespace, metadata.name)
    walk = Walk(source, finder, settings)
    owner = Owner(source, "vs", "virtualHost.", (top_source(service),))
    produced = walk_routes(owner, list(service.virtual_host.routes), walk)
    domains, findings = read_domains(service.virtual_host.domains)
    tls, tls_findings = read_tls(service, settings)
    findings += tls_findings
    options, origins = _resolve_options(service.virtual_host, finder.reads, findings)
    if not service.HasField("virtual_host"):
        findings.append(warning("virtualHost", "is missing; every request is answered with 404"))
    if walk.exhausted:
        findings.append(error("virtualHost.routes", f"leads to more than {MAX_ROUTES} routes; delegate less"))
    claim = _same(Claim(source, domains), before.claim if before is not None else None)
    tls = _same(tls, before.tls if before is not None else None)
    names = tuple(route.name for route in produced)
    message = _build_message(service, domains, produced, options)
    host = _build_host(claim, message, produced, origins, tls) if domains and not walk.exhausted else None
    problems = [*(finding.on(source) for finding in findings), *walk.problems]
    if host is not None and settings.gateway.validation.warn_route_short_circuiting.value:
        for index, finding in find_short_circuits(message.routes):
            problems += host.report_route(index, finding)
    return Converted(
        claim,
        message.name,
        dict(metadata.labels),
        tls,
        host,
        names if any(names) else (),
        tuple(dict.fromkeys(problems)),
    )


def _same(new: T, old: T | None) -> T:
    return old if old is not None and old == new else new


def _build_host(
    claim: Claim,
    message: proxy_pb2.VirtualHost,
    produced: list[Produced],
    origins: OptionOrigins,
    tls: ServiceTls | None,
) -> VirtualHost:
    found = tuple(route.origin for route in produced)
    ssl = tls.config if tls is not None else None
    paths = tuple(origin.path for origin in found)
    return VirtualHost.of(claim.source, message, paths=paths, ssl=ssl, origins=found, options=origins)


def _resolve_options(
    virtual_host: gateway_pb2.VirtualHost, reads: Reads, out: list[Finding]
) -> tuple[virtual_host_options_pb2.VirtualHostOptions, OptionOrigins]:
    """The virtual host's own options, filled from VirtualHostOption objects; *out* grows by what is missing."""
    options = virtual_host_options_pb2.VirtualHostOptions()
    options.CopyFrom(virtual_host.options)
    origins: dict[str, tuple[ObjectRef, str]] = {}
    if virtual_host.HasField("options_config_refs"):
        for given in apply_references(virtual_host.options_config_refs, VIRTUAL_HOST_OPTION, reads, options):
            if isinstance(given, Finding):
                out.append(given.under("virtualHost"))
            else:
                origins.update(origins_of(given[1], given[0], "options"))
    return options, origins or NO_ORIGINS


def _build_message(
    service: gateway_pb2.VirtualService,
    domains: tuple[str, ...],
    produced: list[Produced],
    options: virtual_host_options_pb2.VirtualHostOptions,
) -> proxy_pb2.VirtualHost:
    message = proxy_pb2.VirtualHost(
        name=virtual_host_name(Ref(service.metadata.namespace, service.metadata.name)),
        domains=domains,
        routes=[route.message for route in produced],
    )
    message.metadata_static.sources.append(top_source(service))
    if options.ListFields():
        message.options.CopyFrom(options)
    return message


def build_variant(
    converted: Converted, host: VirtualHost, gateway: str, proxy: str, lost: frozenset[str]
) -> VirtualHost:
    """The virtual host as one gateway of one proxy serves it: with its routes named, without domains it *lost*."""
    message = host.message
    if lost:
        del message.domains[:]
        message.domains.extend(domain for domain in converted.claim.domains if domain not in lost)
    for route, name in zip(message.routes, converted.names, strict=False):
        if name:
            route.name = full_route_name(gateway, proxy, name)
    return host.with_message(message)
