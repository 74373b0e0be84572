"""Endpoints by REST, as ``gloo.enableRestEds`` asks for them: Envoy polls them at the bootstrap's ``rest_xds_cluster``.

The reference offers it against clusters that wait for their endpoints for ever; over our stream none does.
"""

from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.messages import duration

CLUSTER: Final = "rest_xds_cluster"
REFRESH_SECONDS: Final = 5
REQUEST_SECONDS: Final = 5


def apply_rest_endpoints(settings: settings_pb2.Settings, out: Any) -> None:
    """Onto a cluster whose endpoints are served apart."""
    if not settings.gloo.enable_rest_eds.value or out.type != out.EDS:
        return
    source = out.eds_cluster_config.eds_config
    source.api_config_source.api_type = source.api_config_source.REST
    source.api_config_source.transport_api_version = source.resource_api_version
    source.api_config_source.cluster_names.append(CLUSTER)
    source.api_config_source.refresh_delay.CopyFrom(duration(REFRESH_SECONDS))
    source.api_config_source.request_timeout.CopyFrom(duration(REQUEST_SECONDS))
