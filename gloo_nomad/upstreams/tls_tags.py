"""Instances of one service that speak TLS beside others that do not: a tag tells them apart.

``consulDiscovery.useTlsTagging`` asks for it. The Upstreams that discovery writes are split by it; behind ``consul``
destinations there is one cluster for both kinds, in which each endpoint picks its transport socket by its metadata. An
Upstream that a user writes may have the annotation ``gloo-nomad/tls-tag`` beside its ``sslConfig``.
https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/cluster.proto (transport_socket_matches)
"""

from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2, upstream_pb2

TLS_TAG: Final = "gloo-nomad/tls-tag"
DEFAULT_TLS_TAG: Final = "glooUseTls"
SOCKET_METADATA: Final = "envoy.transport_socket_match"
MARK: Final = "tls"


def settings_tls_tag(settings: settings_pb2.Settings) -> str:
    """The tag of a service, or of its instances, that speak TLS."""
    return settings.consulDiscovery.tlsTagName or DEFAULT_TLS_TAG


def apply_settings_tls(settings: settings_pb2.Settings, out: upstream_pb2.Upstream) -> None:
    """Makes an Upstream speak TLS with the tagged instances, if the settings ask for it."""
    options = settings.consulDiscovery
    if not options.useTlsTagging:
        return
    out.metadata.annotations[TLS_TAG] = settings_tls_tag(settings)
    out.ssl_config.SetInParent()
    if options.HasField("rootCa"):
        out.ssl_config.secret_ref.CopyFrom(options.rootCa)


def tls_tag(upstream: upstream_pb2.Upstream) -> str:
    """The tag of the instances that ``sslConfig`` is for; empty if it is for all."""
    return upstream.metadata.annotations.get(TLS_TAG, "") if upstream.HasField("ssl_config") else ""


def without_tls(upstream: upstream_pb2.Upstream) -> upstream_pb2.Upstream:
    """The Upstream without its tagged instances: nothing is sent to them in plain text while their TLS waits."""
    plain = upstream_pb2.Upstream()
    plain.CopyFrom(upstream)
    plain.consul.instance_blacklist_tags.append(tls_tag(upstream))
    return plain


def apply_mark(out: Any) -> None:
    """Marks an endpoint as one that speaks TLS."""
    out.metadata.filter_metadata[SOCKET_METADATA].update({MARK: "true"})
