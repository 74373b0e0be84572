"""``ready``: the health check of a container."""

from typing import Final

import typer

from gloo_nomad.cli.errors import FAILED, CommandError

POSITION: Final = 45
_PORT: Final = 9091
_SECONDS: Final = 3.0


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="[bold]Example[/bold]  gloo-nomad ready --admin-address 127.0.0.1:9091")(ready)


def ready(
    admin_address: str = typer.Option(
        "127.0.0.1:9091",
        "--admin-address",
        envvar="GLOO_NOMAD_ADMIN_ADDR",
        metavar="HOST:PORT",
        help="Admin pages of the daemon.",
    ),
) -> None:
    """Ask one daemon whether it is ready. Exit code 1 if it is not, or does not answer."""
    import http.client

    from gloo_nomad.clients.address import parse_address  # that of the settings takes longer to import than the check

    try:
        address = parse_address(admin_address, _PORT)
    except ValueError:
        address = None
    if address is None or address.is_unix:
        raise CommandError(f'--admin-address: "{admin_address}" is not host:port')
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        told = answer.read(4096).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise CommandError(f"no answer from {admin_address}: {reason}") from failure
    finally:
        connection.close()
    typer.echo(told)
    if answer.status != http.HTTPStatus.OK:
        raise typer.Exit(FAILED)
