"""Upstream type ``pipe``: a Unix domain socket beside Envoy."""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.options.hooks import Claims, ClusterContext
from gloo_nomad.reports import Finding, error

TYPE: Final = "pipe"
FIELDS: Claims = {
    "gloo.solo.io.Upstream": ("pipe",),
    "pipe.options.gloo.solo.io.UpstreamSpec": ("path",),
}

MAX_PATH_BYTES: Final = 107
"""The kernel's ``sun_path`` has 108 bytes, one of them for the end (unix(7))."""


def apply_type(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Iterator[Finding]:
    """The socket as the one endpoint of a STATIC cluster; ``@name`` is an abstract socket."""
    path = upstream.pipe.path
    if not path or len(path.encode()) > MAX_PATH_BYTES or "\x00" in path:
        yield error("pipe.path", f"must be a path of 1 to {MAX_PATH_BYTES} bytes")
    out.type = "STATIC"
    out.load_assignment.cluster_name = out.name
    endpoint = out.load_assignment.endpoints.add().lb_endpoints.add()
    endpoint.endpoint.address.pipe.path = path
