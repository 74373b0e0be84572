"""One gateway to one listener of a proxy."""

from typing import Final

from gloo_nomad.gateway.http import HttpPart, translate_http
from gloo_nomad.gateway.scene import Scene
from gloo_nomad.proxies import HttpGroup, Listener, TcpGroup
from gloo_nomad.reports import error

FIELDS: Final = {
    "gateway.solo.io.Gateway": (
        "metadata",
        "ssl",
        "bind_address",
        "bind_port",
        "options",
        "use_proxy_proto",
        "proxy_names",
        "route_options",
        "http_gateway",
    ),
}


def translate_listener(scene: Scene) -> Listener | None:
    """The listener of a gateway; None if there is nothing that it could answer with."""
    gateway = scene.gateway
    http: tuple[HttpGroup, ...] = ()
    tcp: tuple[TcpGroup, ...] = ()
    kind = gateway.WhichOneof("GatewayType")
    if kind == "http_gateway":
        http = translate_http(HttpPart(gateway.http_gateway, gateway.ssl, scene.source), scene)
    elif kind is None:
        scene.report(
            error(
                "",
                "invalid gateway: gateway must contain gatewayType; set one of httpGateway, tcpGateway, hybridGateway",
            )
        )
    if not http and not tcp:
        return None
    return scene.world.memo.get(
        ("listener", *scene.key),
        (gateway, *http, *tcp),
        lambda: Listener(
            scene.source,
            scene.listener,
            gateway.bind_address,
            gateway.bind_port,
            gateway.options,
            gateway.route_options,
            gateway.use_proxy_proto.value,
            http,
            tcp,
        ),
    )
