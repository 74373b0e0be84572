"""Servers that filters ask about each request: the cluster of their Upstream, and how they are asked."""

from collections.abc import Callable
from typing import Any, Final

from envoy.config.core.v3 import grpc_service_pb2

from gloo_nomad.api.refs import Ref
from gloo_nomad.messages import duration
from gloo_nomad.reports import Finding, warning

MISSING_CLUSTER: Final = "solo_io_generated_missing"
"""A cluster that never exists: a server whose Upstream is not there is asked, and does not answer."""


def ref_of(message: Any) -> Ref:
    """The name in a ``core.solo.io.ResourceRef``."""
    return Ref(message.namespace, message.name)


def missing_server(message: Any, find_cluster: Callable[[Ref], str]) -> str:
    """Why the server of that ResourceRef cannot be asked, or ""."""
    if not message.name:
        return "is required: the Upstream of the server"
    if not find_cluster(ref_of(message)):
        return f"upstream {ref_of(message)} does not exist, or is rejected"
    return ""


def server_cluster(message: Any, find_cluster: Callable[[Ref], str]) -> str:
    """The cluster of that ResourceRef; one that never exists if there is none."""
    return (find_cluster(ref_of(message)) if message.name else "") or MISSING_CLUSTER


def about_settings(name: str, finding: Finding) -> Finding:
    """A finding on a server of the Settings, as a warning on a gateway: one mistake there must not close them all."""
    path = f"Settings.{name}.{finding.path}" if finding.path else f"Settings.{name}"
    return warning("", f"{path}: {finding.message}")


def build_grpc(cluster: str, authority: str, timeout: Any, default_seconds: float) -> Any:
    """How a gRPC server is asked; *timeout* is a Duration, or None for the default."""
    built = grpc_service_pb2.GrpcService()
    built.envoy_grpc.cluster_name = cluster
    built.envoy_grpc.authority = authority
    built.timeout.CopyFrom(duration(default_seconds) if timeout is None else timeout)
    return built
