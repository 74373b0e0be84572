"""``check``: is everything well?"""

import asyncio
from pathlib import Path
from typing import Final

import typer

from gloo_nomad.cli.errors import FAILED, CommandError
from gloo_nomad.cli.output import FORMAT, Format, print_data, print_table, styled_level
from gloo_nomad.cli.place import CONFIG_DIR, CONSUL_ADDRESS, CONSUL_TOKEN, ROOT_KEY, Place

POSITION: Final = 40


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(
        epilog="[bold]Examples[/bold]\n\ngloo-nomad check\n\n"
        "gloo-nomad check --admin-address 10.0.0.5:9091\n\ngloo-nomad check --no-proxy -o json"
    )(check)


def check(
    *,
    namespace: str = typer.Option("", "--namespace", "-n", help="Only objects of this namespace."),
    admin_address: str = typer.Option(
        "",
        "--admin-address",
        envvar="GLOO_NOMAD_ADMIN_ADDR",
        help="Admin pages of the gloo role; without it those of the service gloo-xds in Consul, or 127.0.0.1:9091.",
        show_default=False,
    ),
    no_proxy: bool = typer.Option(False, "--no-proxy", help="Look at stored objects only, not at the daemon."),
    strict: bool = typer.Option(False, "--strict", help="Exit code 1 also if there are only warnings."),
    output: Format = FORMAT,
    consul_address: str = CONSUL_ADDRESS,
    consul_token: str = CONSUL_TOKEN,
    root_key: str = ROOT_KEY,
    config_dir: Path | None = CONFIG_DIR,
) -> None:
    """Look at statuses of objects, sources, and connected Envoys. Exit code 1 if there are errors."""
    from gloo_nomad.cli.checking import ERROR, WARN, Finding, check_objects
    from gloo_nomad.cli.daemons import check_daemons, find_daemons

    place = Place(consul_address, consul_token, root_key, config_dir)
    try:
        findings = asyncio.run(check_objects(place, namespace))
    except CommandError as failure:
        if no_proxy:
            raise
        findings = [Finding(ERROR, "objects", str(failure))]  # the daemons can be asked all the same
    if not no_proxy:
        addresses = (admin_address,) if admin_address else asyncio.run(find_daemons(place))
        told = asyncio.run(check_daemons(addresses, problems=config_dir is not None))
        known = {found.subject for found in told}
        findings = [*(found for found in findings if found.subject not in known), *told]
    if output is Format.TABLE:
        rows = [(styled_level(found.level), found.subject, found.message) for found in findings]
        print_table(("LEVEL", "WHAT", "FOUND"), rows)
    else:
        listed = [
            {"level": found.level, "subject": " ".join(found.subject.split()), "message": found.message}
            for found in findings
        ]
        print_data({"findings": listed}, output)
    levels = {found.level for found in findings}
    if ERROR in levels or (strict and WARN in levels):
        raise typer.Exit(FAILED)
