"""TLS towards those instances of a service that have a tag; see ``upstreams.tls_tags``."""

from collections.abc import Iterator
from typing import Any

from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.options.hooks import ClusterContext
from gloo_nomad.reports import Finding, is_rejected, warning
from gloo_nomad.upstreams.tls_tags import MARK, tls_tag


def apply_tagged_tls(upstream: upstream_pb2.Upstream, context: ClusterContext, out: Any) -> Iterator[Finding]:
    """A transport socket that marked endpoints pick. While its secret is missing there is none, with a warning."""
    socket, findings = context.build_socket(upstream.ssl_config, upstream.ssl_config.sni)
    said = dict.fromkeys(finding.under("sslConfig") for finding in findings)
    if is_rejected(said):
        left_out = f"; instances with the tag {tls_tag(upstream)} are left out until then"
        yield from (warning(finding.path, finding.message + left_out) for finding in said if is_rejected([finding]))
        return
    match = out.transport_socket_matches.add(name=MARK)
    match.match.update({MARK: "true"})
    match.transport_socket.CopyFrom(socket)
    yield from said
