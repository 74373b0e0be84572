"""``bootstrap``: what a stock Envoy has to be started with."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from gloo_nomad.cli.errors import CommandError
from gloo_nomad.cli.output import Format, print_data

if TYPE_CHECKING:
    from gloo_nomad.demo.envoy_tls import ClientTls

POSITION: Final = 25
_CONNECTIONS: Final = 50_000


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(
        epilog="[bold]Examples[/bold]\n\ngloo-nomad bootstrap > envoy.yaml && envoy -c envoy.yaml\n\n"
        "gloo-nomad bootstrap --xds gloo-xds.service.consul:9977 --role gloo-system~gateway-proxy\n\n"
        "gloo-nomad bootstrap --xds gloo-xds.service.consul:9977 --xds-tls /etc/envoy/xds"
    )(bootstrap)


def bootstrap(
    *,
    xds: str = typer.Option("127.0.0.1:9977", "--xds", metavar="HOST:PORT", help="Where gloo-nomad serves xDS."),
    role: str = typer.Option(
        "gloo-system~gateway-proxy", "--role", help="<namespace>~<proxy>: of whose Gateways this Envoy opens the ports."
    ),
    node_id: str = typer.Option("", "--node-id", help="This Envoy's own name; the host's name without it."),
    rest_xds: str = typer.Option(
        "", "--rest-xds", metavar="HOST:PORT", help="Where endpoints are served by REST, if gloo.enableRestEds is on."
    ),
    admin: str = typer.Option("127.0.0.1:19000", "--admin", metavar="HOST:PORT", help="Envoy's admin interface."),
    xds_tls: Path | None = typer.Option(
        None,
        "--xds-tls",
        metavar="DIR",
        help="Folder with client.pem, client-key.pem and ca.pem: Envoy proves with them who it is, and follows them. "
        "Two files for Envoy are written there.",
    ),
    xds_tls_name: str = typer.Option("", "--xds-tls-name", help="Name in the server's certificate; the host of --xds."),
    output: Format = typer.Option(Format.YAML, "--output", "-o", help="json or yaml.", show_default=True),
) -> None:
    """Print a bootstrap for stock Envoy: it takes everything else from gloo-nomad."""
    import socket

    from gloo_nomad.demo.envoy import build_bootstrap
    from gloo_nomad.settings import SettingsError, parse_address

    try:
        xds_host, xds_port = parse_address(xds, "--xds")
        admin_host, admin_port = parse_address(admin, "--admin")
        rest = parse_address(rest_xds, "--rest-xds") if rest_xds else None
    except SettingsError as failure:
        raise CommandError(str(failure)) from failure
    if role.count("~") != 1 or not all(role.split("~")):
        raise CommandError(f'--role: "{role}" is not <namespace>~<proxy>; write for example gloo-system~gateway-proxy')
    tls = _open_folder(xds_tls, xds_tls_name) if xds_tls else None
    document = build_bootstrap(
        xds_host=xds_host,
        xds_port=xds_port,
        admin_host=admin_host,
        admin_port=admin_port,
        role=role,
        node_id=node_id or socket.gethostname(),
        rest_xds=rest,
        tls=tls,
    )
    print_data({**document, "overload_manager": _OVERLOAD}, Format.JSON if output is Format.JSON else Format.YAML)


def _open_folder(folder: Path, name: str) -> "ClientTls":
    from gloo_nomad.demo.envoy_tls import KEY_FILES, ClientTls, write_sds

    tls = ClientTls(folder.absolute(), name)
    missing = [file for file in KEY_FILES if not (folder / file).is_file()]
    if missing:
        raise CommandError(f"--xds-tls: {folder} has no {missing[0]}; put it there (xdsTls: dev makes all of them)")
    try:
        write_sds(tls)
    except OSError as failure:
        raise CommandError(f"--xds-tls: cannot write to {folder}: {failure.strerror}") from failure
    return tls


_OVERLOAD: Final[dict[str, Any]] = {
    "resource_monitors": [
        {
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/"
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": _CONNECTIONS,
            },
        }
    ]
}
"""Bounds what one Envoy accepts, as Envoy's guide for the edge asks for."""
