"""The Gateways that a fresh installation needs, so that a first route works without further objects."""

from gloo_nomad.api.gen import gateway_pb2


def build_default_gateways(namespace: str) -> tuple[gateway_pb2.Gateway, ...]:
    """``gateway-proxy`` on port 8080 and ``gateway-proxy-ssl`` on 8443, as the reference's installer makes them."""
    return _build_gateway(namespace, "gateway-proxy", 8080, ssl=False), _build_gateway(
        namespace, "gateway-proxy-ssl", 8443, ssl=True
    )


def _build_gateway(namespace: str, name: str, port: int, *, ssl: bool) -> gateway_pb2.Gateway:
    gateway = gateway_pb2.Gateway(bind_address="::", bind_port=port, ssl=ssl, proxy_names=["gateway-proxy"])
    gateway.metadata.name, gateway.metadata.namespace = name, namespace
    gateway.metadata.labels["app"] = "gloo"
    gateway.http_gateway.SetInParent()
    return gateway
