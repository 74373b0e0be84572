"""TLS contexts, towards clients and towards upstreams. They name secrets and hold none."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from gloo_nomad.acceptance.names import server_name_fault
from gloo_nomad.api.gen import settings_pb2, ssl_pb2
from gloo_nomad.api.kinds import SECRET
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.issued import find_issued
from gloo_nomad.envoy.names import TLS_SOCKET
from gloo_nomad.envoy.resources import ads
from gloo_nomad.envoy.secret_servers import translate_server
from gloo_nomad.envoy.secrets import TlsMaterial, translate_files, translate_secret
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import Claims
from gloo_nomad.reports import Finding, Severity, error, is_rejected, warning
from gloo_nomad.resources import Resource
from gloo_nomad.store.memo import Memo, Reads

_COMMON: Final = (
    "secret_ref",
    "ssl_files",
    "sds",
    "verify_subject_alt_name",
    "parameters",
    "alpn_protocols",
    "one_way_tls",
)
READS: Claims = {
    "gloo.solo.io.SslConfig": (
        *_COMMON,
        "sni_domains",
        "disable_tls_session_resumption",
        "transport_socket_connect_timeout",
        "ocsp_staple_policy",
    ),
    "gloo.solo.io.UpstreamSslConfig": (*_COMMON, "sni", "allow_renegotiation"),
    "gloo.solo.io.SslParameters": (
        "minimum_protocol_version",
        "maximum_protocol_version",
        "cipher_suites",
        "ecdh_curves",
    ),
}

DEFAULT_ALPN: Final = ("h2", "http/1.1")
NO_ALPN: Final = ("allow_empty",)
"""What ``alpnProtocols`` says to have none."""
_AUTHENTICATED: Final = ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA")
CIPHER_SUITES: Final = frozenset(
    {f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA") for cipher in _AUTHENTICATED}
    | {"ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA"}
)
"""Cipher suites up to TLS 1.2 that Envoy's BoringSSL knows (each tried)."""
FIXED_SUITES: Final = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""Those of TLS 1.3, which BoringSSL always offers and does not let anyone choose."""
_SAME_CURVES: Final = {"prime256v1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
CURVES: Final = frozenset({"X25519", "X25519MLKEM768", "MLKEM1024", "P-256", "P-384", "P-521", *_SAME_CURVES})
"""Groups of a key exchange that BoringSSL knows (each tried)."""

NO_MATERIAL: Final = TlsMaterial()
"""Material that is asked for and not there."""

AnyTls = ssl_pb2.SslConfig | ssl_pb2.UpstreamSslConfig


@dataclass(frozen=True, slots=True)
class TlsSocket:
    """A transport socket and the secrets that it names; it must not be sent unless it is ``usable``."""

    socket: Any
    usable: bool
    secrets: tuple[Resource, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsScope:
    """What TLS is made with."""

    reads: Reads
    settings: settings_pb2.Settings
    memo: Memo


@dataclass(slots=True)
class _Draft:
    """A context while it is being made."""

    common: Any
    material: TlsMaterial
    secrets: list[Resource] = field(default_factory=list)


def build_downstream_socket(config: ssl_pb2.SslConfig, scope: TlsScope) -> TlsSocket:
    """Envoy as the server: it needs a certificate, and asks clients for one if there are root certificates."""
    context = tls_pb2.DownstreamTlsContext()
    material, findings = _find_material(config, scope)
    draft = _Draft(context.common_tls_context, material)
    findings += _apply_common(config, draft, one_way=_is_one_way(config, scope.settings), default=DEFAULT_ALPN)
    missing = material.certificate is None
    if missing and not findings:
        findings.append(error(_place(config), "has no certificate; TLS towards clients needs one"))
    if draft.common.WhichOneof("validation_context_type") is not None:
        context.require_client_certificate.value = True
    if config.disable_tls_session_resumption.value:
        context.disable_stateless_session_resumption = True
        context.disable_stateful_session_resumption = True
    findings += _apply_staple_policy(config, material, context)
    usable = not missing and not is_rejected(findings)
    return TlsSocket(_pack(context), usable, tuple(draft.secrets), tuple(findings))


def build_upstream_socket(
    config: ssl_pb2.UpstreamSslConfig, server_name: str, scope: TlsScope, given: TlsMaterial | None = None
) -> TlsSocket:
    """Envoy as the client: root certificates verify the server, a certificate is shown when asked for.

    The material is found where the configuration says, or *given*: by a mesh, whose services ask with each full
    handshake whether the client may come in, and many of them not when a session is resumed. So none is.
    """
    context = tls_pb2.UpstreamTlsContext(sni=server_name, allow_renegotiation=config.allow_renegotiation.value)
    material, findings = (given, []) if given is not None else _find_material(config, scope)
    if given is not None:
        context.max_session_keys.value = 0
    draft = _Draft(context.common_tls_context, material)
    findings += _apply_common(config, draft, one_way=config.one_way_tls.value, default=())
    if not config.HasField("parameters"):
        findings += _apply_parameters(scope.settings.upstreamOptions.ssl_parameters, draft.common)
    if fault := server_name_fault(config.sni):
        findings.append(error("sni", fault))
    usable = material is not NO_MATERIAL and not is_rejected(findings)
    return TlsSocket(_pack(context), usable, tuple(draft.secrets), tuple(findings))


def _pack(context: Any) -> Any:
    return base_pb2.TransportSocket(name=TLS_SOCKET, typed_config=typed_config(context))


def _is_one_way(config: ssl_pb2.SslConfig, settings: settings_pb2.Settings) -> bool:
    if config.HasField("one_way_tls"):
        return config.one_way_tls.value
    return settings.gateway.virtual_service_options.one_way_tls.value


def _place(config: AnyTls) -> str:
    return {"secret_ref": "secretRef", "ssl_files": "sslFiles", "sds": "sds"}.get(
        str(config.WhichOneof("ssl_secrets")), ""
    )


def _find_material(config: AnyTls, scope: TlsScope) -> tuple[TlsMaterial, list[Finding]]:
    match config.WhichOneof("ssl_secrets"):
        case "secret_ref":
            ref = Ref(config.secret_ref.namespace, config.secret_ref.name)
            secret = scope.reads.get(SECRET.name, ref)
            if secret is None:
                return NO_MATERIAL, [_missing(ref, scope.settings)]
            served, findings = find_issued(ref, secret, scope.reads)
            if served is None:
                return NO_MATERIAL, [*findings]
            material = translate_secret(ref, served, scope.memo)
            faults = dict.fromkeys((material.certificate_fault, material.authority_fault))
            return material, [*findings, *(error("secretRef", f"secret {ref}: {fault}") for fault in faults if fault)]
        case "ssl_files":
            material = translate_files(config.ssl_files, scope.memo)
            fault = material.certificate_fault
            return material, [error("sslFiles", fault)] if fault else []
        case "sds":
            material, finding = translate_server(config.sds)
            return (NO_MATERIAL, [finding.under("sds")]) if finding else (material, [])
    return TlsMaterial(), []


def _missing(ref: Ref, settings: settings_pb2.Settings) -> Finding:
    lenient = settings.gateway.validation.warn_missing_tls_secret.value
    text = f"SSL secret not found: there is no secret {ref}; TLS that needs it waits until it is there"
    return Finding(Severity.WARNING if lenient else Severity.ERROR, "secretRef", text)


def _apply_common(config: AnyTls, out: _Draft, *, one_way: bool, default: tuple[str, ...]) -> list[Finding]:
    findings = [*_apply_parameters(config.parameters, out.common), *_apply_alpn(config, default, out.common)]
    material = out.material
    if material.certificate is not None:
        source = material.source or ads()
        out.common.tls_certificate_sds_secret_configs.add(name=material.certificate.name, sds_config=source)
    if material.authority is not None and not one_way:
        _apply_validation(config, material.authority, material.source or ads(), out.common)
    elif config.verify_subject_alt_name and not one_way:
        findings.append(error("verifySubjectAltName", "needs root certificates (rootCa) to verify with"))
    if material.source is None:
        used = (material.certificate, None if one_way else material.authority)
        out.secrets.extend(resource for resource in used if resource is not None)
    return findings


def _apply_validation(config: AnyTls, authority: Resource, source: Any, out: Any) -> None:
    names = config.verify_subject_alt_name
    if not names:
        out.validation_context_sds_secret_config.name = authority.name
        out.validation_context_sds_secret_config.sds_config.CopyFrom(source)
        return
    combined = out.combined_validation_context
    combined.validation_context_sds_secret_config.name = authority.name
    combined.validation_context_sds_secret_config.sds_config.CopyFrom(source)
    for name in names:
        matcher = combined.default_validation_context.match_typed_subject_alt_names.add()
        matcher.san_type = _name_type(name)
        matcher.matcher.exact = name


def _name_type(name: str) -> Any:
    """Which kind of subject alternative name a text is."""
    kinds = common_pb2.SubjectAltNameMatcher
    if "://" in name:
        return kinds.URI
    if "@" in name:
        return kinds.EMAIL
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return kinds.DNS
    return kinds.IP_ADDRESS


def _apply_alpn(config: AnyTls, default: tuple[str, ...], out: Any) -> Iterator[Finding]:
    wanted = tuple(config.alpn_protocols) or default
    if wanted == NO_ALPN:
        return
    for index, protocol in enumerate(wanted):
        if not 1 <= len(protocol.encode()) <= 255:
            yield error(f"alpnProtocols[{index}]", "must have 1 to 255 bytes")
        else:
            out.alpn_protocols.append(protocol)


def _apply_parameters(parameters: ssl_pb2.SslParameters, out: Any) -> Iterator[Finding]:
    if not parameters.ListFields():
        return
    versions = ssl_pb2.SslParameters.ProtocolVersion.values()
    least, most = parameters.minimum_protocol_version, parameters.maximum_protocol_version
    if least not in versions or most not in versions:
        yield error("parameters", "names a protocol version that does not exist")
        return
    if most and least > most:
        yield error("parameters", "minimumProtocolVersion is above maximumProtocolVersion")
    out.tls_params.tls_minimum_protocol_version = least
    out.tls_params.tls_maximum_protocol_version = most
    yield from _apply_suites(parameters, out.tls_params)
    yield from _apply_curves(parameters, out.tls_params)


def _apply_curves(parameters: ssl_pb2.SslParameters, out: Any) -> Iterator[Finding]:
    """Each curve once, under one of its names."""
    for index, curve in enumerate(parameters.ecdh_curves):
        if curve not in CURVES:
            yield error(f"parameters.ecdhCurves[{index}]", f"{curve[:80]!r} is not known; use {_listed(CURVES)}")
        elif _SAME_CURVES.get(curve, curve) not in out.ecdh_curves:
            out.ecdh_curves.append(_SAME_CURVES.get(curve, curve))


def _apply_suites(parameters: ssl_pb2.SslParameters, out: Any) -> Iterator[Finding]:
    for index, suite in enumerate(parameters.cipher_suites):
        path = f"parameters.cipherSuites[{index}]"
        alternatives = suite[1:-1].split("|") if suite.startswith("[") and suite.endswith("]") else [suite]
        if suite in FIXED_SUITES:
            yield warning(path, f"{suite} belongs to TLS 1.3, whose suites are always offered and cannot be chosen")
        elif all(alternative in CIPHER_SUITES for alternative in alternatives):
            if suite not in out.cipher_suites:
                out.cipher_suites.append(suite)
        else:
            yield error(path, f"{suite[:80]!r} is not known to Envoy; use {_listed(CIPHER_SUITES)}")


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _apply_staple_policy(config: ssl_pb2.SslConfig, material: TlsMaterial, out: Any) -> Iterator[Finding]:
    policies = tls_pb2.DownstreamTlsContext
    match config.ocsp_staple_policy:
        case ssl_pb2.SslConfig.STRICT_STAPLING:
            out.ocsp_staple_policy = policies.STRICT_STAPLING
        case ssl_pb2.SslConfig.MUST_STAPLE:
            out.ocsp_staple_policy = policies.MUST_STAPLE
            if not material.stapled:
                yield error("ocspStaplePolicy", "MUST_STAPLE needs an ocspStaple beside the certificate")
        case ssl_pb2.SslConfig.LENIENT_STAPLING:
            pass
        case _:
            yield error("ocspStaplePolicy", f"{config.ocsp_staple_policy} is none of the policies")
