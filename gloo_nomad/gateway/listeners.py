"""One gateway to one listener of a proxy."""

from typing import Final

from gloo_nomad.gateway.http import HttpPart, translate_http
from gloo_nomad.gateway.hybrid import Part, read_hybrid, report_unpopulated
from gloo_nomad.gateway.scene import Scene
from gloo_nomad.gateway.tcp import TcpPart, translate_tcp
from gloo_nomad.proxies import HttpGroup, Listener, TcpGroup
from gloo_nomad.reports import error, warning

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
        "tcp_gateway",
        "hybrid_gateway",
    ),
}


def translate_listener(scene: Scene) -> Listener | None:
    """The listener of a gateway; None if there is nothing that it could answer with."""
    http: list[HttpGroup] = []
    tcp: list[TcpGroup] = []
    for part in _parts(scene):
        if isinstance(part, HttpPart):
            http.extend(translate_http(part, scene))
        else:
            tcp.extend(translate_tcp(part, scene))
    if http or tcp:
        return _keep_listener(tuple(http), tuple(tcp), scene)
    if scene.gateway.WhichOneof("GatewayType") == "hybrid_gateway":
        report_unpopulated(scene)
    return None


def _parts(scene: Scene) -> list[Part]:
    gateway = scene.gateway
    match gateway.WhichOneof("GatewayType"):
        case "http_gateway":
            return [HttpPart(gateway.http_gateway, gateway.ssl, scene.source, gateway)]
        case "tcp_gateway":
            _warn_of_ssl(scene, "the sslConfig of each of the tcpHosts decides; remove it")
            return [TcpPart(gateway.tcp_gateway, scene.source, gateway)]
        case "hybrid_gateway":
            _warn_of_ssl(scene, "the sslConfig of each matcher decides; remove it")
            return read_hybrid(scene)
    choice = "set one of httpGateway, tcpGateway, hybridGateway"
    scene.report(error("", f"invalid gateway: gateway must contain gatewayType; {choice}"))
    return []


def _warn_of_ssl(scene: Scene, remedy: str) -> None:
    if scene.gateway.ssl:
        scene.report(warning("ssl", f"has no effect here: {remedy}"))


def _keep_listener(http: tuple[HttpGroup, ...], tcp: tuple[TcpGroup, ...], scene: Scene) -> Listener:
    gateway = scene.gateway
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
