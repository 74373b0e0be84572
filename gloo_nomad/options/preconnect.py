"""Opens connections before they are needed, so that a request need not wait for one.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/cluster.proto#config-cluster-v3-cluster-preconnectpolicy
"""

from typing import Any, Final

from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.options.guards import field_path
from gloo_nomad.options.hooks import EVERY, Claims, ClusterContext
from gloo_nomad.reports import Findings, error

FIELDS: Claims = {"gloo.solo.io.Upstream": ("preconnect_policy",)}
READS: Claims = {"gloo.solo.io.PreconnectPolicy": EVERY}

_RATIOS: Final = ("per_upstream_preconnect_ratio", "predictive_preconnect_ratio")


def apply_cluster(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
    if not upstream.HasField("preconnect_policy"):
        return ()
    policy, findings = upstream.preconnect_policy, []
    for name in _RATIOS:
        if not policy.HasField(name):
            continue
        ratio = getattr(policy, name).value
        if 1 <= ratio <= 3:
            getattr(out.preconnect_policy, name).value = ratio
        else:
            findings.append(error(field_path(policy, name, "preconnectPolicy"), f"must be 1 to 3, not {ratio:g}"))
    return findings
