"""What the xDS server counts, as Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from gloo_nomad.resources import PUSH_ORDER


class XdsMetrics:
    """The counters of one server, by resource type in its short form (``Cluster``, ``Listener``)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.streams = Gauge(
            "gloo_nomad_xds_streams", "Discovery streams that are open.", ["protocol"], registry=registry
        )
        self.responses = Counter(
            "gloo_nomad_xds_responses", "Discovery responses sent.", ["protocol", "type"], registry=registry
        )
        self.response_bytes = Counter(
            "gloo_nomad_xds_response_bytes", "Bytes of discovery responses sent.", ["type"], registry=registry
        )
        self.resources = Counter(
            "gloo_nomad_xds_resources", "Resources in discovery responses.", ["type"], registry=registry
        )
        self.acks = Counter("gloo_nomad_xds_acks", "Responses that an Envoy accepted.", ["type"], registry=registry)
        self.nacks = Counter("gloo_nomad_xds_nacks", "Responses that an Envoy rejected.", ["type"], registry=registry)
        self.refusals = Counter(
            "gloo_nomad_xds_refusals", "Streams and fetches whose client may not have its role.", registry=registry
        )


def short_type(type_url: str) -> str:
    """The last part of a type URL; types that are not served share one label, so that no client can make more."""
    return type_url.rpartition(".")[2] if type_url in PUSH_ORDER else "other"
